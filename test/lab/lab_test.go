package lab_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab"
)

// envInner selects what TestInner does; it is set by the tests that watch how a
// test with guests fails or is killed.
const envInner = "DOZO_INNER"

func TestNetworkCarriesPackets(t *testing.T) {
	n := lab.Network(t, lab.Guest{Name: "one"}, lab.Guest{Name: "two"}, lab.Guest{Name: "three"})
	switch n.Self() {
	case lab.Host:
		listLinks(t, n)
		n.Put("go", "all of you")
		n.Wait()
		if text, err := os.ReadFile(filepath.Join(n.Dir(), "three")); err != nil || string(text) != "was here" {
			t.Errorf("the file of guest three is %q, %v", text, err)
		}
	default:
		if got := n.Get("go", time.Minute); got != "all of you" {
			t.Errorf("the message is %q", got)
		}
		for _, other := range []string{"one", "two", "three", lab.Host} {
			lab.Output(t, "ping", "-c", "1", "-W", "5", n.IP(other).String())
		}
		lab.Output(t, "getent", "hosts", "two")
		if err := os.WriteFile(filepath.Join(n.Dir(), n.Self()), []byte("was here"), 0o600); err != nil {
			t.Error(err)
		}
		n.Put("done-"+n.Self(), "")
		for _, other := range []string{"one", "two", "three"} {
			n.Get("done-"+other, time.Minute) // the others may still ask this guest
		}
	}
}

// listLinks looks with a program of the host into the guests' network.
func listLinks(t *testing.T, n *lab.Net) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	list := exec.CommandContext(ctx, "ip", "-brief", "link")
	list.Stdout = &out
	if err := n.Start(list); err != nil {
		t.Fatal(err)
	}
	if err := list.Wait(); err != nil || !strings.Contains(out.String(), "tap3") {
		t.Errorf("a host program does not see the guests' network: %v\n%s", err, &out)
	}
}

func TestSubtestRunsAlone(t *testing.T) {
	t.Run("not this one", func(t *testing.T) {
		if lab.InGuest() {
			t.Error("this subtest asks for no guest and ran in one")
		}
	})
	t.Run("memory and a/slash", func(t *testing.T) {
		if !lab.Run(t, lab.Guest{MemoryMiB: 256}) {
			return
		}
		text, err := os.ReadFile("/proc/cpuinfo")
		if err != nil || !strings.Contains(string(text), "User Mode Linux") {
			t.Errorf("the kernel is another one: %s, %v", text, err)
		}
		if err := os.WriteFile("/host/etc/dozo-lab-was-here", nil, 0o644); !errors.Is(err, syscall.EROFS) {
			t.Errorf("writing to the host's files: %v, want %v", err, syscall.EROFS)
		}
	})
}

func TestInner(t *testing.T) {
	switch os.Getenv(envInner) {
	case "":
		return // only other tests run this one
	case "missing":
		if lab.Run(t, lab.Guest{Modules: []string{"no-such-module"}, Programs: []string{"no-such-program"}}) {
			t.Error("the test went on")
		}
	case "peer":
		n := lab.Network(t, lab.Guest{Name: "bad"}, lab.Guest{Name: "good"})
		switch n.Self() {
		case lab.Host:
			n.Wait()
		case "bad":
			t.Error("wrong on purpose")
		case "good":
			n.Get("nothing", 10*time.Minute)
		}
	case "crash":
		if lab.Run(t, lab.Guest{}) {
			os.Exit(0) // without a result
		}
	case "skip":
		if lab.Run(t, lab.Guest{}) {
			t.Skip("skipped on purpose")
		}
	case "hang":
		n := lab.Network(t, lab.Guest{Name: "one"}, lab.Guest{Name: "two"})
		if n.Self() != lab.Host {
			n.Halt()
		}
		n.Wait()
	}
}

// inner is TestInner in a process of its own.
func inner(t *testing.T, what string, env ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestInner$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), envInner+"="+what)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

func TestResultsComeFromTheGuest(t *testing.T) {
	for _, c := range []struct {
		what string
		want []string
	}{
		{"missing", []string{"--- FAIL: TestInner", "program no-such-program is missing", "module no-such-module cannot be loaded"}},
		{"peer", []string{"--- FAIL: TestInner", "wrong on purpose", "guest bad failed while"}},
		{"crash", []string{"--- FAIL: TestInner", "ended without a result"}},
		{"skip", []string{"--- SKIP: TestInner", "skipped on purpose"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			out, err := inner(t, c.what).CombinedOutput()
			if failed := err != nil; failed == (c.what == "skip") {
				t.Errorf("the inner test ended with %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("%q is not in the output:\n%s", want, out)
				}
			}
		})
	}
}

func TestOffSkipsLoudly(t *testing.T) {
	out, err := inner(t, "hang", "DOZO_LAB=off").CombinedOutput()
	for _, want := range []string{"lab: TestInner is NOT run", "--- SKIP: TestInner"} {
		if !strings.Contains(string(out), want) || err != nil {
			t.Errorf("want %q: %v\n%s", want, err, out)
		}
	}
}

func TestKilledTestLeavesNothing(t *testing.T) {
	before := mountCount(t)
	cmd := inner(t, "hang")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, func() string {
		if len(kernels(t, cmd.Process.Pid)) < 2 {
			return "the guests do not run"
		}
		return ""
	})
	pids := kernels(t, cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, 10*time.Second, func() string {
		for _, pid := range pids {
			if _, err := os.Stat("/proc/" + pid); err == nil {
				return "guest " + pid + " still runs"
			}
		}
		return ""
	})
	if after := mountCount(t); after != before {
		t.Errorf("%d mounts before, %d after", before, after)
	}
	if got := lab.Output(t, "ip", "-brief", "link"); strings.Contains(got, "lab0") || strings.Contains(got, "tap1") {
		t.Errorf("interfaces are left on the host:\n%s", got)
	}
}

// kernels are the direct children of a process that are guests.
func kernels(t *testing.T, parent int) []string {
	t.Helper()
	if _, err := exec.LookPath("pgrep"); err != nil {
		t.Fatalf("%v; run make packages", err)
	}
	out, _ := lab.Try(t, "pgrep", "-x", "-P", strconv.Itoa(parent), "linux.uml|linux")
	return strings.Fields(out)
}

func mountCount(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}
