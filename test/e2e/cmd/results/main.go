// Command results prints what tests of a cluster left: timings as a table, and the upstream suite's report with
// the reasons for which tests were skipped. It also makes the suite's --skip of our list.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/test/e2e/timings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "results:", err)
		os.Exit(1)
	}
}

const usage = "usage: results skip LIST | results suite LIST REPORT.json | results timings FILE"

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "skip":
		list, err := readSkips(args[1])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, list.regexp())
		return err
	case len(args) == 3 && args[0] == "suite":
		list, err := readSkips(args[1])
		if err != nil {
			return err
		}
		data, err := os.ReadFile(args[2])
		if err != nil {
			return err
		}
		return summarise(data, list, out)
	case len(args) == 2 && args[0] == "timings":
		report, err := timings.Read(args[1])
		if err != nil {
			return err
		}
		return report.Print(out)
	}
	return errors.New(usage)
}

// skip is a line of a skip list.
type skip struct {
	pattern *regexp.Regexp
	reason  string
}

type skipList []skip

// readSkips reads lines of the form "REGEXP  # reason"; the reason is required.
func readSkips(file string) (skipList, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list skipList
	for i, line := range strings.Split(string(data), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		pattern, reason, _ := strings.Cut(line, " # ")
		if strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: no reason; write: REGEXP  # reason", file, i+1)
		}
		re, err := regexp.Compile(strings.TrimSpace(pattern))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
		list = append(list, skip{re, strings.TrimSpace(reason)})
	}
	return list, nil
}

// regexp is one expression for all.
func (l skipList) regexp() string {
	var all []string
	for _, s := range l {
		all = append(all, s.pattern.String())
	}
	return strings.Join(all, "|")
}

// spec is a test in ginkgo's report.
type spec struct {
	ContainerHierarchyTexts  []string
	ContainerHierarchyLabels [][]string
	LeafNodeType             string
	LeafNodeText             string
	State                    string
	Failure                  struct{ Message string }
}

// summarise prints how tests ended, and for those that were skipped the reasons with their numbers.
func summarise(data []byte, list skipList, out io.Writer) error {
	var reports []struct{ SpecReports []spec }
	if err := json.Unmarshal(data, &reports); err != nil {
		return err
	}
	passed, failed, skipped := 0, 0, 0
	reasons := map[string]int{}
	for _, r := range reports {
		for _, s := range r.SpecReports {
			switch {
			case s.State == "passed" && s.LeafNodeType == "It":
				passed++
			case s.State == "skipped" || s.State == "pending":
				skipped++
				reasons[list.reason(s)]++
			case s.State != "passed":
				failed++
			}
		}
	}
	order := slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		return cmp.Or(reasons[b]-reasons[a], strings.Compare(a, b))
	})
	for _, reason := range order {
		fmt.Fprintf(out, "%5d skipped: %s\n", reasons[reason], reason)
	}
	for _, skip := range list {
		if reasons["our list: "+skip.reason] == 0 {
			fmt.Fprintf(out, "      no test: %s  # %s; take it off our list\n", skip.pattern, skip.reason)
		}
	}
	_, err := fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return err
}

// reason is why a test did not run: our list, or what the suite itself says.
func (l skipList) reason(s spec) string {
	name := strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " ")
	if s.Failure.Message == "" {
		for _, skip := range l {
			if skip.pattern.MatchString(name) {
				return "our list: " + skip.reason
			}
		}
		return "outside the focus"
	}
	// Names of tests and of their parameters are not reasons.
	message, _, _ := strings.Cut(s.Failure.Message, "\n")
	message = strings.TrimSuffix(strings.TrimSpace(message), " - skipping")
	return "the suite: " + strings.TrimSuffix(message, " -- skipping")
}
