package socket

import (
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
)

func listenHere(endpoint string) (net.Listener, error) { return Listen(endpoint, os.Getuid()) }

func TestListen(t *testing.T) {
	for _, form := range []string{"unix://", "unix:", ""} {
		path := filepath.Join(t.TempDir(), "csi.sock")
		l, err := listenHere(form + path)
		if err != nil {
			t.Fatal(err)
		}
		there, err := os.Lstat(path)
		wantOK(t, err)
		want(t, there.Mode(), fs.ModeSocket|0o600)
		left, err := os.ReadDir(filepath.Dir(path))
		wantOK(t, err)
		want(t, len(left), 1)
		c, err := net.Dial("unix", path)
		wantOK(t, err)
		wantOK(t, c.Close())
		wantOK(t, l.Close())
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is left behind: %v", err)
		}
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	wantOK(t, os.WriteFile(file, []byte("precious"), 0o600))
	link := filepath.Join(dir, "link")
	wantOK(t, os.Symlink(file, link))
	served := filepath.Join(dir, "served")
	l, err := listenHere(served)
	wantOK(t, err)
	defer l.Close()
	for _, c := range []struct {
		endpoint string
		kind     errs.Kind
	}{
		{"", errs.Invalid}, {"csi.sock", errs.Invalid}, {"unix://csi.sock", errs.Invalid}, {"tcp://0.0.0.0:10000", errs.Invalid}, {"unix:///", errs.Exists},
		{file, errs.Exists}, {link, errs.Exists}, {dir, errs.Exists}, {served, errs.InUse}, {filepath.Join(dir, "none", "s"), errs.Unavailable},
	} {
		_, err := listenHere(c.endpoint)
		wantKind(t, err, c.kind, "")
	}
	text, err := os.ReadFile(file)
	wantOK(t, err)
	want(t, string(text), "precious")
	c, err := net.Dial("unix", served)
	wantOK(t, err)
	wantOK(t, c.Close())
}

// TestStaleSocket: the process that made it died, and one that stops does not take away the socket
// of the next.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	wantOK(t, err)
	dead.SetUnlinkOnClose(false)
	wantOK(t, dead.Close())
	first, err := listenHere(path)
	wantOK(t, err)
	wantOK(t, os.Remove(path))
	second, err := listenHere(path)
	wantOK(t, err)
	defer second.Close()
	wantOK(t, first.Close())
	c, err := net.Dial("unix", path)
	wantOK(t, err)
	wantOK(t, c.Close())
}

// TestTwoTakeOver: of two processes that find a stale socket at once, one gets it.
func TestTwoTakeOver(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "s")
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		wantOK(t, err)
		dead.SetUnlinkOnClose(false)
		wantOK(t, dead.Close())
		var got atomic.Int32
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				l, err := listenHere(path)
				if err != nil {
					wantKind(t, err, errs.InUse, "another process")
					return
				}
				got.Add(1)
				t.Cleanup(func() { l.Close() })
			})
		}
		wg.Wait()
		want(t, got.Load(), 1)
	}
}

func TestPrivateDir(t *testing.T) {
	dir := t.TempDir()
	made := filepath.Join(dir, "made", "s")
	wantOK(t, PrivateDir(made, os.Getuid()))
	there, err := os.Stat(filepath.Dir(made))
	wantOK(t, err)
	want(t, there.Mode().Perm(), 0o700)
	wantOK(t, PrivateDir(made, os.Getuid()))
	wantOK(t, os.Chmod(filepath.Dir(made), 0o750))
	wantKind(t, PrivateDir(made, os.Getuid()), errs.Invalid, "mode 0750")
	wantOK(t, os.Symlink(dir, filepath.Join(dir, "link")))
	wantKind(t, PrivateDir(filepath.Join(dir, "link", "s"), os.Getuid()), errs.Invalid, "it is none")
	wantKind(t, PrivateDir(filepath.Join(dir, "no", "no", "s"), os.Getuid()), errs.Unavailable, "no such file")
}

// TestOnly connects as the owner, who may or may not.
func TestOnly(t *testing.T) {
	for _, c := range []struct {
		name  string
		uid   int
		taken bool
	}{{"allowed", os.Getuid(), true}, {"another", os.Getuid() + 1, false}} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			l, err := listenHere(path)
			wantOK(t, err)
			var log strings.Builder
			served := make(chan bool, 1)
			go func() {
				conn, err := Only(l, slog.New(slog.NewTextHandler(&log, nil)), c.uid).Accept()
				if err == nil {
					_, err = conn.Write([]byte("hello"))
					conn.Close()
				}
				served <- err == nil
			}()
			conn, err := net.Dial("unix", path)
			wantOK(t, err)
			text, _ := io.ReadAll(conn) // a refused peer sees the end, or a reset
			wantOK(t, conn.Close())
			wantOK(t, l.Close())
			want(t, <-served, c.taken)
			want(t, string(text) == "hello", c.taken)
			want(t, strings.Contains(log.String(), "refused"), !c.taken)
		})
	}
}

func wantOK(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("unexpected error: %v", err)
	}
}

func want[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// wantKind checks an error's kind, and that its message has a word.
func wantKind(t *testing.T, err error, kind errs.Kind, word string) {
	t.Helper()
	if !errs.Is(err, kind) || !strings.Contains(err.Error(), word) {
		t.Errorf("got %v, want a message with %q of kind %v", err, word, kind)
	}
}
