package mnt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

func TestLoginFrom(t *testing.T) {
	good := map[string]string{SecretUser: "k8s", SecretPassword: " p,a=s\"s%ü\\ \n", SecretDomain: "WORK"}
	l, err := LoginFrom(good)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(l.credentials()), "username=k8s\npassword= p,a=s\"s%ü\\ \ndomain=WORK\n"; got != want {
		t.Errorf("credentials %q, want %q", got, want)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", l, l, l, l); strings.Contains(text, "k8s") || strings.Contains(text, "p,a") {
		t.Errorf("printed as %s", text)
	}
	for what, secrets := range map[string]map[string]string{
		"secrets[\"username\"]: missing":         {SecretPassword: "hidden"},
		"secrets[\"password\"]: missing":         {SecretUser: "k8s", SecretPassword: "\n"},
		"secrets[\"password\"]: has a line":      {SecretUser: "k8s", SecretPassword: "hidden\nusername=root"},
		"secrets[\"username\"]: has a comma":     {SecretUser: "hidden,uid=0", SecretPassword: "hidden"},
		"secrets[\"domain\"]: has a comma":       {SecretUser: "k8s", SecretPassword: "hidden", SecretDomain: "hidden,ro"},
		"secrets[\"username\"]: has a comma, a ": {SecretUser: `WORK\hidden`, SecretPassword: "hidden"},
		"secrets[\"password\"]: is longer":       {SecretUser: "k8s", SecretPassword: strings.Repeat("hidden", 50)},
	} {
		_, err := LoginFrom(secrets)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v (%v), want %q", err, errs.KindOf(err), what)
		}
	}
}

func TestDefaultsGiveWay(t *testing.T) {
	for asked, want := range map[string]string{
		"":                                  "vers=3.1.1 hard file_mode=0777 dir_mode=0777 mfsymlinks",
		"vers=2.1 noatime":                  "hard file_mode=0777 dir_mode=0777 mfsymlinks",
		"soft dir_mode=0700 file_mode=0600": "vers=3.1.1 mfsymlinks",
	} {
		if got := withDefaults(strings.Fields(asked)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q: %q, want %q", asked, got, want)
		}
	}
}

func TestCheckNet(t *testing.T) {
	for _, option := range []string{"ip=10.0.0.1", "port=1", "prefixpath=x", "username=hidden", "password=hidden", "credentials=/hidden", "guest", "multiuser"} {
		if err := CheckNet("f", []string{"ro", option}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "f: ") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", option, err)
		}
	}
	if err := CheckNet("f", []string{"nfsvers=4.1", "seal", "uid=7", "cache=none"}); err != nil {
		t.Error(err)
	}
}

// says is a mount.cifs that answers so.
type says string

func (s says) Run(context.Context, host.Cmd) (host.Output, error) {
	return host.Output{}, &host.ExitError{Name: "mount.cifs", Code: 32, Stderr: string(s)}
}

// TestMountCIFSErrors: refused, wrong and could not ask are told apart.
func TestMountCIFSErrors(t *testing.T) {
	h := host.New()
	p, err := Open(h, "staging_target_path", "", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	for text, want := range map[string]errs.Kind{
		"mount error(13): Permission denied\nRefer to the mount.cifs(8) manual page": errs.Invalid,
		"mount error(127): Key has expired":                                          errs.Invalid,
		"mount error(22): Invalid argument":                                          errs.Invalid,
		"mount error(2): No such file or directory":                                  errs.Unavailable,
		"mount error(111): could not connect to ::1":                                 errs.Unavailable,
		"mount error: could not resolve address":                                     errs.Unavailable,
	} {
		h.Runner = says(text)
		_, err := MountCIFS(t.Context(), h, "stage.mount", p, NetFS{Source: "//nas/s"}, Login{user: "u", password: "hidden"})
		if !errs.Is(err, want) || !strings.Contains(err.Error(), "mount error") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v (%v), want %v", text, err, errs.KindOf(err), want)
		}
		if refused := strings.Contains(text, "(13)") || strings.Contains(text, "(127)"); errors.Is(err, errRefused) != refused {
			t.Errorf("%s: taken for a refused login: %v", text, !refused)
		}
	}
}

// TestLogins: a refused login is tried once a minute at most, by however many at once; others go on.
func TestLogins(t *testing.T) {
	ctx, now := t.Context(), time.Unix(1000, 0)
	var mu sync.Mutex
	l := NewLogins(func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	wrong, right := Login{user: "u", password: "wrong"}, Login{user: "u", password: "right"}
	tries := 0
	refuse := func() error {
		mu.Lock()
		defer mu.Unlock()
		tries++
		return errs.E(errs.Invalid, "no: %w", errRefused)
	}
	fine := func() error { return nil }
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := l.Do(ctx, "nas", wrong, refuse); !errs.Is(err, errs.Invalid) {
				t.Errorf("refused: %v", err)
			}
		})
	}
	wg.Wait()
	if tries != 1 {
		t.Errorf("tried %d times", tries)
	}
	err := l.Do(ctx, "nas", wrong, fine)
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "00:16:40") || !strings.Contains(err.Error(), "before 00:17:40") {
		t.Errorf("again: %v", err)
	}
	for what, err := range map[string]error{
		"another login": l.Do(ctx, "nas", right, fine), "another server": l.Do(ctx, "nas2", wrong, fine),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	now = now.Add(loginPause)
	// What is no refusal is tried again at once.
	for range 2 {
		if err := l.Do(ctx, "nas", wrong, func() error { return errs.E(errs.Unavailable, "away") }); !errs.Is(err, errs.Unavailable) {
			t.Errorf("a minute later: %v", err)
		}
	}
	if err := l.Do(ctx, "nas", wrong, fine); err != nil {
		t.Errorf("when it is right: %v", err)
	}
	if err := l.Do(ctx, "nas", wrong, refuse); tries != 2 || err == nil {
		t.Errorf("when it is wrong again: %d tries, %v", tries, err)
	}
	if err := l.Do(ctx, "nas", wrong, fine); err == nil {
		t.Error("it was tried once more")
	}
}

// TestLoginsWaitForCallers: who waits for another volume's login does so no longer than it is asked to.
func TestLoginsWaitForCallers(t *testing.T) {
	l := NewLogins(time.Now)
	begun, end := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- l.Do(t.Context(), "nas", Login{}, func() error { close(begun); <-end; return nil })
	}()
	<-begun
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Do(over, "nas", Login{}, func() error { return errors.New("two at once") }); !errs.Is(err, errs.Aborted) {
		t.Errorf("while another one logs in: %v", err)
	}
	close(end)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
