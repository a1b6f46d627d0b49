package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// SuiteRun is one run of the upstream storage suite.
type SuiteRun struct {
	Driver  string // the test driver's definition, a YAML file
	Focus   string
	Skip    string
	Procs   int
	Out     string // the directory for the log and the reports; made up if empty
	Timeout time.Duration
}

// DefaultSkip are tests that this lab has no means for: other systems, a
// machine to log in to, features of other projects.
const DefaultSkip = `Feature:Windows|Disruptive|Feature:SELinux|groupsnapshot|snapshotmetadata`

// RunSuite runs the suite against the lab and prints a summary. It fails when
// a test failed or none ran.
func (l *Lab) RunSuite(ctx context.Context, r SuiteRun) error {
	driver, err := filepath.Abs(r.Driver)
	if err != nil {
		return err
	}
	if _, err := os.Stat(driver); err != nil {
		return fmt.Errorf("the driver's definition: %w", err)
	}
	tools, err := l.build(ctx, true)
	if err != nil {
		return err
	}
	if r.Out == "" {
		r.Out = filepath.Join(l.Cache, "suite", time.Now().Format("20060102-150405"))
	}
	if r.Out, err = filepath.Abs(r.Out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return err
	}
	l.Progress.Step("running the suite; log and reports in %s", r.Out)
	runErr := l.runGinkgo(ctx, tools, r, driver)
	summary, err := readSuiteReport(filepath.Join(r.Out, "report.json"))
	if err != nil {
		return errors.Join(runErr, fmt.Errorf("the suite left no report; see %s: %w", filepath.Join(r.Out, "log.txt"), err))
	}
	summary.print(os.Stdout)
	switch {
	case len(summary.failed) > 0:
		return fmt.Errorf("%d tests failed; see %s", len(summary.failed), filepath.Join(r.Out, "log.txt"))
	case summary.passed == 0:
		return errors.New("no test ran: check the focus and the driver's capabilities")
	}
	return runErr
}

// runGinkgo runs the suite's processes and shows each test as it ends.
func (l *Lab) runGinkgo(ctx context.Context, tools toolchain, r SuiteRun, driver string) error {
	log, err := os.Create(filepath.Join(r.Out, "log.txt"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, tools.path("ginkgo"), "run", "-procs="+strconv.Itoa(r.Procs), "-no-color", "-v",
		"-timeout="+r.Timeout.String(), "-focus="+r.Focus, "-skip="+r.Skip,
		"-output-dir="+r.Out, "-json-report=report.json", tools.path("e2e.test"), "--",
		"-kubeconfig="+l.Kubeconfig(), "-provider=skeleton", "-storage.testdriver="+driver, "-report-dir="+r.Out)
	cmd.Dir = r.Out
	// A group of its own: ginkgo starts several processes, and an interrupt has
	// to reach all of them for tests to clean up behind themselves.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	go killGroup(ctx, cmd.Process.Pid, ended)
	l.showResults(io.TeeReader(out, log))
	return cmd.Wait()
}

// cleanUpTime is how long interrupted tests may take to remove their objects.
const cleanUpTime = 2 * time.Minute

// killGroup ends what an interrupt has not ended in time.
func killGroup(ctx context.Context, leader int, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(cleanUpTime):
	}
	syscall.Kill(-leader, syscall.SIGKILL) // no such group: all have ended
}

// showResults counts the lines that ginkgo prints when a test ends.
func (l *Lab) showResults(out io.Reader) {
	passed, failed := 0, 0
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case strings.HasPrefix(line, "• [FAILED]"), strings.HasPrefix(line, "• [PANICKED]"), strings.HasPrefix(line, "• [TIMEDOUT]"):
			failed++
		case strings.HasPrefix(line, "• ["):
			passed++
		default:
			continue
		}
		l.Progress.Step("%d passed, %d failed", passed, failed)
	}
	io.Copy(io.Discard, out) // after a line beyond the buffer, keep the log complete
}

// suiteSummary is what a report says.
type suiteSummary struct {
	passed, skipped int
	failed          []string
	slowest         []suiteTest
}

type suiteTest struct {
	name string
	time time.Duration
}

// readSuiteReport reads ginkgo's JSON report.
func readSuiteReport(file string) (suiteSummary, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return suiteSummary{}, err
	}
	var reports []struct {
		SpecReports []struct {
			ContainerHierarchyTexts []string
			LeafNodeType            string
			LeafNodeText            string
			State                   string
			RunTime                 time.Duration
		}
	}
	if err := json.Unmarshal(data, &reports); err != nil {
		return suiteSummary{}, err
	}
	var s suiteSummary
	for _, report := range reports {
		for _, spec := range report.SpecReports {
			name := strings.Join(append(spec.ContainerHierarchyTexts, spec.LeafNodeText), " ")
			switch {
			case spec.State == "passed" && spec.LeafNodeType == "It":
				s.passed++
				s.slowest = append(s.slowest, suiteTest{name, spec.RunTime})
			case spec.State == "skipped" || spec.State == "pending":
				s.skipped++
			case spec.State != "passed": // set-up that failed counts as well
				s.failed = append(s.failed, name)
			}
		}
	}
	slices.SortFunc(s.slowest, func(a, b suiteTest) int { return int(b.time - a.time) })
	return s, nil
}

// print ends on the one line that tools which read results look for.
func (s suiteSummary) print(out io.Writer) {
	for i, test := range s.slowest {
		if i == 5 {
			break
		}
		fmt.Fprintf(out, "slow: %6.1fs %s\n", test.time.Seconds(), test.name)
	}
	for _, name := range s.failed {
		fmt.Fprintln(out, "FAILED:", name)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", s.passed, len(s.failed), s.skipped)
}
