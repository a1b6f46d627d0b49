// Package synology is the whole driver with a Synology NAS: controller and nodes as in a cluster, real logins and mounts, and a simulated NAS
// with real data, all in one guest of the lab.
package synology

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/driver"
	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/naslab"
	"github.com/dozo-dev/dozo/test/lab"
)

// The nodes, by the addresses that the NAS sees them at. The first one is on the machine that is the NAS. The second has a network of its own,
// but one initiator with the first: of that, a kernel has one.
const (
	Node1, Node2       = "n1", "n2"
	address1, address2 = "10.80.0.1", "10.80.0.2"
)

// Pool is the name of the pool.
const Pool = "nas"

// Protocol are the options of a pool, or the parameters of a class, whose volumes are reached by it.
func Protocol(name string) map[string]string {
	all := map[string]string{"protocol": name}
	if name == "smb" {
		all["users"] = naslab.User
	}
	return all
}

// Guest is what [Start] needs of a guest.
func Guest() lab.Guest {
	g := naslab.Guest()
	g.MemoryMiB = 1024
	g.Modules = append(g.Modules, "veth", "xfs")
	g.Programs = append(g.Programs, "ip", "nsenter", "mkfs.xfs", "xfs_growfs")
	return g
}

// Options say how the NAS is set up and used.
type Options struct {
	NAS  dsmsim.Config
	Pool map[string]string // options of the pool, beside how the NAS is reached: as of [Protocol]
	Log  *slog.Logger      // of the drivers; nil: what they say is in the test's output if it fails
}

// Bed is a NAS and what there is to know to use it.
type Bed struct {
	*naslab.NAS
	Dir  string    // of nodes, the secret and all else but the NAS
	Spec pool.Spec // the pool; its secret is in Spec.SecretDir too, a file for each key, as a Secret is mounted

	t   testing.TB
	log *slog.Logger
}

// Start starts a NAS, which is empty, until the test ends, when nothing of the test's may be left of it. It can be called again in one guest, when the
// test before is over.
func Start(t testing.TB, o Options) *Bed {
	t.Helper()
	once(t)
	b := &Bed{NAS: naslab.Start(t, o.NAS), Dir: t.TempDir(), t: t, log: o.Log}
	if b.log == nil {
		b.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	b.Spec = pool.Spec{Name: Pool, Kind: synology.KindName, SecretDir: filepath.Join(b.Dir, "secret"), Secrets: Secret()}
	b.Spec.Options = map[string]string{"url": b.Server.URL, "ca": string(b.Server.CA()), "server": address1}
	maps.Copy(b.Spec.Options, o.Pool)
	if err := os.Mkdir(b.Spec.SecretDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for key, value := range b.Spec.Secrets {
		if err := os.WriteFile(filepath.Join(b.Spec.SecretDir, key), value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // the drivers are stopped before
		b.NothingLeft()
		b.release()
		if n := b.Sessions(); n > 0 {
			t.Errorf("left behind: %d sessions of DSM", n)
		}
	})
	return b
}

// release frees what a test that failed has left in use: who waits for a NAS that is gone waits for ever.
func (b *Bed) release() {
	all, err := host.New().Mounts()
	if err != nil {
		b.t.Error(err)
	}
	for _, m := range slices.Backward(all) {
		if strings.HasPrefix(m.MountPoint, b.Dir+"/") {
			_ = unix.Unmount(m.MountPoint, unix.MNT_FORCE|unix.MNT_DETACH)
		}
	}
	if left, _ := filepath.Glob("/etc/iscsi/nodes/*"); len(left) > 0 {
		_, _ = lab.Try(b.t, "iscsiadm", "-m", "node", "--logout")
		_, _ = lab.Try(b.t, "iscsiadm", "-m", "node", "-o", "delete")
	}
}

// Secret is what the Secret of the pool has. CHAP is mutual.
func Secret() pool.Secrets {
	all := pool.Secrets{"username": []byte(naslab.Account), "password": []byte(naslab.Password)}
	for key, value := range chap() {
		all[key] = []byte(value)
	}
	return all
}

// NodeSecret is what nodes get: what both sides of CHAP know, and the user whom shares are for by SMB.
func NodeSecret() map[string]string {
	all := map[string]string{"username": naslab.User, "password": naslab.UserPassword}
	maps.Copy(all, chap())
	return all
}

func chap() map[string]string {
	return map[string]string{
		"node.session.auth.username": "nodes", "node.session.auth.password": "what-nodes-say-1",
		"node.session.auth.username_in": "the-nas", "node.session.auth.password_in": "what-the-nas-says",
	}
}

// once makes a guest ready: its initiator's daemon and the second node's network.
func once(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/run/netns/" + Node2); err == nil {
		return
	}
	lab.StartInitiator(t)
	lab.Output(t, "ip", "link", "set", "lo", "up")
	lab.Output(t, "ip", "netns", "add", Node2)
	lab.Output(t, "ip", "link", "add", "v1", "type", "veth", "peer", "name", "v2", "netns", Node2)
	lab.Output(t, "ip", "address", "add", address1+"/24", "dev", "v1")
	lab.Output(t, "ip", "link", "set", "v1", "up")
	lab.Output(t, "ip", "-n", Node2, "address", "add", address2+"/24", "dev", "v2")
	lab.Output(t, "ip", "-n", Node2, "link", "set", "v2", "up")
	// Two machines of one name are one NFS client, whose second life ends the first one's.
	lab.Output(t, "ip", "netns", "exec", Node2, "dd", "if=/proc/sys/kernel/random/uuid", "of=/sys/fs/nfs/net/nfs_client/identifier", "status=none")
}

// Nodes are the cluster's, as [csi.Options] has it.
func Nodes(_ context.Context, id string) ([]string, error) {
	switch id {
	case Node1:
		return []string{address1}, nil
	case Node2:
		return []string{address2}, nil
	}
	return nil, errs.E(errs.NotFound, "there is no node %.80q", id)
}

// Controller starts the driver in its controller role.
func (b *Bed) Controller() driver.Driver {
	b.t.Helper()
	kind := synology.Kind()
	return driver.Serve(b.t, driver.Config{
		Dir: b.directory("controller"), Pools: []pool.Spec{b.Spec}, Kind: &kind, Controller: true, Nodes: Nodes, Log: b.log.With("role", "controller"),
	})
}

// Node starts the driver in its node role: without pools, as it is where storage is outside the cluster. All that it has is below its
// directory, and is there for the next one of that name.
func (b *Bed) Node(name string) driver.Driver {
	b.t.Helper()
	kind := synology.Kind()
	return driver.Serve(b.t, driver.Config{
		Dir: b.directory(name), Kind: &kind, Node: name, Nodes: Nodes, Log: b.log.With("role", name), Change: []func(*host.Host){Networked(name)},
	})
}

// Both starts the driver in both roles, on the first node. What hide takes from what volumes can do it does not say of itself.
func (b *Bed) Both(hide func(*backend.Mask)) driver.Driver {
	b.t.Helper()
	kind := synology.Kind()
	kind.Mask = func(options map[string]string) backend.Mask {
		m := synology.Kind().Mask(options)
		hide(&m)
		return m
	}
	return driver.Serve(b.t, driver.Config{
		Dir: b.directory(Node1), Pools: []pool.Spec{b.Spec}, Kind: &kind, Node: Node1, Controller: true, Nodes: Nodes, Log: b.log,
	})
}

func (b *Bed) directory(name string) string {
	b.t.Helper()
	dir := filepath.Join(b.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// Networked has the programs of a node that mount over the network do so in the node's.
func Networked(node string) func(*host.Host) {
	return func(h *host.Host) {
		if node != Node1 {
			h.Runner = inside{h.Runner, "/run/netns/" + node}
		}
	}
}

type inside struct {
	host.Runner
	network string
}

// Run is [host.Runner].
func (i inside) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	if c.Name == "mount.nfs" || c.Name == "mount.cifs" {
		c.Name, c.Args = "nsenter", append([]string{"--net=" + i.network, "--", c.Name}, c.Args...)
	}
	return i.Runner.Run(ctx, c)
}

// Left lists what is left of all volumes: on the NAS, in its kernel, and on the nodes.
func (b *Bed) Left() []string {
	b.t.Helper()
	all := append(b.Things(), naslab.Left(b.t)...)
	for _, what := range hosttest.Left(b.t, b.Dir) {
		file := strings.TrimPrefix(what, "file ")
		switch {
		case filepath.Dir(file) == filepath.Base(b.Spec.SecretDir), filepath.Base(file) == "csi.sock", strings.HasSuffix(file, "/state/lock"):
		case what == "empty directory controller":
		default:
			all = append(all, what)
		}
	}
	return all
}

// NothingLeft fails the test for what [Bed.Left] finds.
func (b *Bed) NothingLeft() {
	b.t.Helper()
	for _, what := range b.Left() {
		b.t.Errorf("left behind: %s", what)
	}
}
