package synology_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/test/driver"
	"github.com/dozo-dev/dozo/test/synology"
)

// newPassword: CHAP is changed, the NAS restarts, and a node gets another volume before its sessions are back. They come back with the
// password that they began with. A node that booted is refused what it had before, until that is attached anew.
func newPassword(t *testing.T) {
	b := synology.Start(t, synology.Options{})
	controller := b.Controller()
	c := synology.NewCluster(t, controller, map[string]driver.Driver{synology.Node1: b.Node(synology.Node1), synology.Node2: b.Node(synology.Node2)})
	made := func(name string) *synology.Volume { return c.Create(named(claim("ext4", gib), "pvc-"+name)) }
	used, had, next, other := made("used"), made("had"), made("next"), made("other")
	data := filepath.Join(used.Use(synology.Node1, "a"), "data")
	put(t, data, "before")
	ok(t, had.TryAttach(synology.Node2)) // which booted since, and has no session

	controller.Stop()
	const key, password = "node.session.auth.password", "what-nodes-say-2"
	b.Spec.Secrets[key], c.Secret[key] = []byte(password), password
	c.SetController(b.Controller())
	initiator(t, syscall.SIGSTOP)
	b.PowerCycle(func() {})
	ok(t, next.TryAttach(synology.Node1))
	initiator(t, syscall.SIGCONT)
	written := make(chan error, 1)
	go func() { written <- hosttest.WriteThrough(data, []byte("after")) }()
	select {
	case err := <-written:
		ok(t, err)
	case <-time.After(time.Minute):
		t.Fatal("a minute after the NAS is back a pod's write is waiting still")
	}
	put(t, filepath.Join(next.Use(synology.Node1, "a"), "data"), "next")

	if err := had.TryStage(synology.Node2); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "refuses the login") {
		t.Errorf("stage with the new password, by a target with the old one: %v", err)
	}
	put(t, filepath.Join(other.Use(synology.Node2, "a"), "data"), "other")
	ok(t, had.TryUnstage(synology.Node2))
	ok(t, had.TryDetach(synology.Node2))
	put(t, filepath.Join(had.Use(synology.Node2, "a"), "data"), "had")
	used.Leave(synology.Node1, "a")
	expect(t, filepath.Join(used.Use(synology.Node1, "a"), "data"), "after")
	for v, node := range map[*synology.Volume]string{used: synology.Node1, next: synology.Node1, had: synology.Node2, other: synology.Node2} {
		v.Leave(node, "a")
		v.Delete()
	}
}

// initiator sends iscsid, which brings sessions back, a signal.
func initiator(t *testing.T, s syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile("/run/iscsid.pid")
	ok(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	ok(t, err)
	ok(t, syscall.Kill(pid, s))
}
