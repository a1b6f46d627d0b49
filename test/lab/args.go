package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

// guestTimeMargin lets the guest's own time limit come first, since it prints
// what every goroutine does.
const guestTimeMargin = 5 * time.Second

// guestProgram is the test binary for guests: the running one, unless it was
// built with -race. The race detector needs more address space than the
// guests' kernel has (39 bits), so the package is then built again without it,
// and without coverage.
func guestProgram(ctx context.Context, dir string) (string, error) {
	if !raceEnabled {
		return os.Executable()
	}
	program := filepath.Join(dir, "guest.test")
	args := []string{"test", "-c", "-race=false", "-o", program}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-tags" {
				args = append(args, "-tags="+s.Value)
			}
		}
	}
	if _, err := uml.HostOutput(ctx, nil, "go", append(args, ".")...); err != nil {
		return "", fmt.Errorf("build the test without the race detector for guests: %w", err)
	}
	return program, nil
}

// guestArgs is the test binary and its arguments for a guest.
func guestArgs(t *testing.T, program, coverDir string) ([]string, error) {
	limit := time.Until(stopTime(t)) - guestTimeMargin
	if limit < guestTimeMargin {
		return nil, errors.New("no time is left for a guest: raise go test's -timeout")
	}
	args := []string{program,
		"-test.run=" + onlyThis(t.Name()), "-test.v=true", "-test.count=1",
		"-test.timeout=" + limit.Round(time.Second).String(),
	}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	if testing.CoverMode() != "" && !raceEnabled {
		args = append(args, "-test.gocoverdir=/host"+coverDir)
	}
	for _, arg := range os.Args[1:] {
		if !strings.HasPrefix(strings.TrimLeft(arg, "-"), "test.") {
			args = append(args, arg)
		}
	}
	return args, nil
}

// onlyThis is the -test.run pattern that selects one test or subtest.
func onlyThis(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return strings.Join(parts, "/")
}

// collectCoverage keeps what was counted in a guest. The test's own counters go
// to the host's test binary, which merges all it finds in its
// -test.gocoverdir into its profile; go test sets that flag, and a test binary
// run by hand needs it for this. Those of programs built with -cover go to the
// host's GOCOVERDIR.
func collectCoverage(ofTest, ofPrograms string) error {
	to := ""
	if f := flag.Lookup("test.gocoverdir"); f != nil && testing.CoverMode() != "" {
		to = f.Value.String()
	}
	return errors.Join(copyCounters(ofTest, to), copyCounters(ofPrograms, os.Getenv("GOCOVERDIR")))
}

// copyCounters copies coverage files, unless there is nowhere to copy them to.
func copyCounters(from, to string) error {
	if to == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(from, "cov*"))
	if err != nil {
		return err
	}
	for _, path := range files {
		if err := copyFile(path, filepath.Join(to, filepath.Base(path))); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies a small file.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if closeErr := dst.Close(); err == nil {
		err = closeErr
	}
	return err
}
