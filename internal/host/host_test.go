package host

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
)

func TestRunKeepsExitCodes(t *testing.T) {
	h := New()
	for _, c := range []struct {
		name string
		cmd  Cmd
		code int
		ran  bool
		kind errs.Kind
	}{
		{"success", Cmd{Name: "true"}, 0, true, errs.Internal},
		{"failure", Cmd{Name: "false"}, 1, true, errs.Internal},
		{"its own code", Cmd{Name: "grep", Args: []string{"-q", "x", "/nonexistent"}}, 2, true, errs.Internal},
		{"not installed", Cmd{Name: "dozo-no-such-program"}, 0, false, errs.Unsupported},
		{"too slow", Cmd{Name: "sleep", Args: []string{"60"}, Timeout: 50 * time.Millisecond}, 0, false, errs.Unavailable},
	} {
		_, err := h.Run(t.Context(), c.cmd)
		code, ran := ExitCode(err)
		if code != c.code || ran != c.ran {
			t.Errorf("%s: exit code %d, ran %v, want %d, %v (%v)", c.name, code, ran, c.code, c.ran, err)
		}
		if !c.ran && !errs.Is(err, c.kind) {
			t.Errorf("%s: %v is %v, want %v", c.name, err, errs.KindOf(err), c.kind)
		}
	}
}

func TestRunFeedsStdinAndReturnsOutput(t *testing.T) {
	out, err := New().Run(t.Context(), Cmd{Name: "cat", Stdin: []byte("a secret")})
	if err != nil || string(out.Stdout) != "a secret" {
		t.Errorf("got %q, %v", out.Stdout, err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := New().Run(ctx, Cmd{Name: "sleep", Args: []string{"60"}})
	if !errs.Is(err, errs.Aborted) {
		t.Errorf("got %v, want aborted", err)
	}
}

func TestLongStderrIsCut(t *testing.T) {
	_, err := New().Run(t.Context(), Cmd{Name: "ls", Args: append([]string{"--"}, strings.Fields(strings.Repeat("/nonexistent ", 500))...)})
	var exit *ExitError
	if !errors.As(err, &exit) || len(exit.Stderr) > 3<<10 || !strings.HasPrefix(exit.Stderr, "…") {
		t.Errorf("got %d bytes of stderr", len(err.Error()))
	}
}

func TestSeamStandsBeforeEveryEffect(t *testing.T) {
	dir := t.TempDir()
	refused := errors.New("refused")
	var seen []Effect
	h := New()
	h.Seam = func(e Effect, _ func() error) error {
		seen = append(seen, e)
		return refused
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, create := h.Create("create", filepath.Join(dir, "g"), 0o600)
	_, run := h.Run(t.Context(), Cmd{Op: "run", Name: "rm", Args: []string{filepath.Join(dir, "f")}})
	_, ask := h.ReadFile("ask", filepath.Join(dir, "f"), 10)
	for op, err := range map[string]error{
		"mkdir": h.Mkdir("mkdir", filepath.Join(dir, "d"), 0o700), "create": create, "run": run, "ask": ask,
		"remove": h.Remove("remove", filepath.Join(dir, "f")), "rename": h.Rename("rename", filepath.Join(dir, "f"), filepath.Join(dir, "h")),
		"write": h.WriteFile("write", filepath.Join(dir, "w"), nil, 0o600), "freeze": h.Freeze("freeze", dir), "thaw": h.Thaw("thaw", dir),
	} {
		if !errors.Is(err, refused) {
			t.Errorf("%s: got %v: the seam was passed by", op, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("effects happened behind the seam: %v", entries)
	}
	for _, e := range seen {
		if e.Reads != (e.Op == "ask") || e.Program != (e.Op == "run") {
			t.Errorf("effect %+v is labelled wrongly", e)
		}
	}
}

func TestWriteFileReplacesWholly(t *testing.T) {
	h, path := New(), filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"a long first version", "short"} {
		if err := h.WriteFile("w", path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := h.ReadFile("r", path, 100); err != nil || string(got) != text {
			t.Errorf("read %q, %v, want %q", got, err, text)
		}
	}
	if _, err := os.Lstat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file is left: %v", err)
	}
}

func TestSymlinksAreNotFollowed(t *testing.T) {
	h, dir := New(), t.TempDir()
	victim, link := filepath.Join(dir, "victim"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(victim, []byte("theirs"), 0o600), os.Symlink(victim, link), os.Symlink(victim, link+".tmp")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ReadFile("r", link, 10); !errors.Is(err, unix.ELOOP) {
		t.Errorf("ReadFile through a symlink: %v", err)
	}
	if err := h.WriteFile("w", link, []byte("ours"), 0o600); !errors.Is(err, unix.ELOOP) {
		t.Errorf("WriteFile through a symlink: %v", err)
	}
	if _, err := h.Create("c", link, 0o600); err == nil {
		t.Error("Create through a symlink succeeded")
	}
	if got, _ := os.ReadFile(victim); !bytes.Equal(got, []byte("theirs")) {
		t.Errorf("the victim has %q", got)
	}
}

func TestLocksOfOneFileExcludeEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, err := OpenLockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenLockFile(path) // as another process has it
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := a.Lock(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*LockFile{"the same": a, "another": b} {
		if _, err := l.TryLock("k"); !errs.Is(err, errs.Busy) {
			t.Errorf("%s: got %v, want busy", name, err)
		}
	}
	if other, err := b.TryLock("another key"); err != nil {
		t.Errorf("another key: %v", err)
	} else {
		other()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Lock(ctx, "k"); !errs.Is(err, errs.Aborted) {
		t.Errorf("waiting with a deadline: got %v, want aborted", err)
	}
	unlock()
	if again, err := b.Lock(t.Context(), "k"); err != nil {
		t.Errorf("after unlock: %v", err)
	} else {
		again()
	}
	testLockShared(t, a, b)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := a.TryLock("k"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("without its file: got %v, want unavailable", err)
	}
}

func testLockShared(t *testing.T, a, b *LockFile) {
	t.Helper()
	for range 2 { // sharing excludes whoever wants the key alone, until the last one lets go
		first, err := a.LockShared(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		second, err := b.LockShared(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		first()
		if _, err := a.TryLock("k"); !errs.Is(err, errs.Busy) {
			t.Errorf("alone beside one that shares: %v", err)
		}
		second()
	}
	alone, err := a.TryLock("k")
	if err != nil {
		t.Fatal(err)
	}
	defer alone()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.LockShared(ctx, "k"); !errs.Is(err, errs.Aborted) {
		t.Errorf("sharing beside one that has it alone: %v", err)
	}
}

// tree makes a root of procfs with a mount table and a status.
func tree(t *testing.T, mountinfo, status string) *Host {
	t.Helper()
	proc := t.TempDir()
	self := filepath.Join(proc, "self")
	if err := errors.Join(os.Mkdir(self, 0o700), os.WriteFile(filepath.Join(self, "mountinfo"), []byte(mountinfo), 0o600),
		os.WriteFile(filepath.Join(self, "status"), []byte(status), 0o600)); err != nil {
		t.Fatal(err)
	}
	h := New()
	h.Roots.Proc = proc
	return h
}

func TestMountsOfADevice(t *testing.T) {
	h := tree(t, strings.Join([]string{
		"22 1 1:3 / /by-number rw,relatime shared:1 - ext4 /dev/other rw",
		"23 1 0:44 / /by-source rw - btrfs /dev/null rw",
		`24 1 8:1 / /with\040space ro - xfs /dev/sda1 ro`,
		"",
	}, "\n"), "")
	got, err := h.MountsOf("/dev/null") // 1:3
	if err != nil || len(got) != 2 || got[0].MountPoint != "/by-number" || got[1].MountPoint != "/by-source" {
		t.Errorf("got %+v, %v", got, err)
	}
	if all, err := h.Mounts(); err != nil || len(all) != 3 || all[2].MountPoint != "/with space" {
		t.Errorf("got %+v, %v", all, err)
	}
	if _, err := h.MountsOf("/dev/dozo-no-such-device"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent device: %v", err)
	}
}

func TestHasCapability(t *testing.T) {
	for _, c := range []struct {
		status string
		want   bool
	}{
		{"Name:\tdozo\nCapEff:\t000001fffeffffff\nCapBnd:\t0\n", false}, // without bit 24
		{"Name:\tdozo\nCapEff:\t000001ffffffffff\n", true},
		{"Name:\tdozo\nCapEff:\tgarbage\n", true}, // not known: try
		{"", true},
	} {
		if got := tree(t, "", c.status).HasCapability(unix.CAP_SYS_RESOURCE); got != c.want {
			t.Errorf("%q: got %v", c.status, got)
		}
	}
}
