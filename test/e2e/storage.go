package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// labProgram runs the program that does to the cluster what no API does, which DOZO_E2E_LAB names: "crash NODE", "boot
// NODE", "exec NODE -- PROGRAM", without a node beside the control plane.
func labProgram(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, usualLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, os.Getenv("DOZO_E2E_LAB"), args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("lab %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// hasLab reports whether there is such a program.
func hasLab(Can) bool { return os.Getenv("DOZO_E2E_LAB") != "" }

// seesStorage reports whether it can be asked what the storage has.
func (s *suite) seesStorage() bool { return s.driver.Storage.Listing != "" && hasLab(s.driver.Can) }

// onStorage are the lines of the storage's listing that have a word in them, "" for all.
func (s *suite) onStorage(ctx context.Context, word string) ([]string, error) {
	if !s.seesStorage() {
		return nil, nil
	}
	out, err := labProgram(ctx, s.driver.Storage.Listing)
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && strings.Contains(line, word) {
			found = append(found, line)
		}
	}
	return found, nil
}

// leftovers are what the storage and nodes have though there are no volumes any more.
func (s *suite) leftovers(ctx context.Context) ([]string, error) {
	left, err := s.onStorage(ctx, "")
	if err != nil {
		return nil, err
	}
	may := regexp.MustCompile(s.driver.Storage.MayStay)
	left = slices.DeleteFunc(left, may.MatchString)
	found, err := s.nodes.traces(ctx, Driver{Traces: s.driver.Storage.Left}, "")
	for _, lines := range found {
		left = append(left, lines...)
	}
	return left, err
}
