// Package crypt tests encryption at rest with a kernel that has device-mapper: in a guest of the lab,
// with volumes of image files.
package crypt

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/loopfile"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/crypt"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/lab"
)

const (
	mib = 1 << 20
	key = "correct horse battery staple"
)

// guest is what encryption needs of a machine.
func guest() lab.Guest {
	return lab.Guest{
		MemoryMiB: 768,
		Disks:     []lab.Disk{{Size: 2 << 30}},
		Modules:   []string{"loop", "dm-crypt", "xts", "algif_skcipher"},
		Programs:  []string{"cryptsetup", "mkfs.ext4", "e2fsck", "resize2fs", "blkid"},
	}
}

// bed is a driver with a pool of image files, as it is started on a machine.
type bed struct {
	t    *testing.T
	dir  string
	argv *hosttest.ArgvLog
	log  *bytes.Buffer
	pool *pool.Pool
	node *node.Node
}

// newBed starts a driver in a directory that has its own file system.
func newBed(t *testing.T, dir string, runner host.Runner) *bed {
	t.Helper()
	b := &bed{t: t, dir: dir, argv: &hosttest.ArgvLog{Runner: runner}, log: &bytes.Buffer{}}
	h := host.New()
	h.Runner = b.argv
	for _, d := range []string{"images", "staging", "pods"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	set, err := pool.OpenSet(t.Context(), []backend.Kind{loopfile.Kind(h)}, []pool.Spec{{
		Name: "p", Kind: "loopfile", Options: map[string]string{"path": filepath.Join(dir, "images"), "spare": "0"},
	}}, pool.Options{Node: "n1", Log: slog.New(slog.NewTextHandler(b.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	b.pool = set.All()[0]
	b.node, err = node.New(h, set, node.Options{Name: "n1", StateDir: filepath.Join(dir, "state"), TargetRoot: dir})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onDisk mounts the guest's disk for a test and returns a directory there.
func onDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	lab.Output(t, "mkfs.ext4", "-q", "-F", lab.DiskPath(0))
	lab.Output(t, "mount", lab.DiskPath(0), dir)
	t.Cleanup(func() { lab.Output(t, "umount", dir) })
	return dir
}

func encrypted() map[string]string { return map[string]string{"encryption": "luks2"} }

func (b *bed) create(name string, size int64, source backend.Source, parameters map[string]string) backend.Volume {
	b.t.Helper()
	v, err := b.pool.Create(b.t.Context(), pool.VolumeRequest{Name: name, Required: size, Source: source, Parameters: parameters})
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// expand grows a volume as the controller and the node do, one after the other.
func (b *bed) expand(v backend.Volume, path string, size int64) (int64, error) {
	b.t.Helper()
	if _, err := b.pool.Expand(b.t.Context(), v.ID, size, 0); err != nil {
		return 0, err
	}
	return b.node.Expand(b.t.Context(), handle(v), path)
}

func handle(v backend.Volume) string { return "p:" + string(v.ID) }

func (b *bed) staging(v backend.Volume) string {
	return filepath.Join(b.dir, "staging", string(v.ID))
}

// stage stages a volume with a passphrase, and a previous one if there are two.
func (b *bed) stage(v backend.Volume, change func(*node.StageRequest), passphrases ...string) error {
	b.t.Helper()
	r := node.StageRequest{Volume: handle(v), Access: v.Access, Staging: b.staging(v), FSType: "ext4", Secrets: map[string]string{}}
	for i, k := range []string{"passphrase", "previous-passphrase"} {
		if i < len(passphrases) {
			r.Secrets[k] = passphrases[i]
		}
	}
	if change != nil {
		change(&r)
	}
	if err := os.MkdirAll(r.Staging, 0o700); err != nil {
		b.t.Fatal(err)
	}
	return b.node.Stage(b.t.Context(), r)
}

func (b *bed) mustStage(v backend.Volume, passphrases ...string) {
	b.t.Helper()
	if err := b.stage(v, nil, passphrases...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) unstage(v backend.Volume) {
	b.t.Helper()
	if err := b.node.Unstage(b.t.Context(), handle(v), b.staging(v)); err != nil {
		b.t.Fatal(err)
	}
	if slices.Contains(mappings(b.t), "/dev/mapper/"+crypt.Name(handle(v))) {
		b.t.Errorf("%s is still open", handle(v))
	}
}

// mappings are the open ones of Dozo's.
func mappings(t *testing.T) (names []string) {
	t.Helper()
	found, err := filepath.Glob("/dev/mapper/dozo-*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (b *bed) image(v backend.Volume) string {
	return filepath.Join(b.dir, "images", "volumes", string(v.ID), "image")
}

func (b *bed) write(v backend.Volume, file, text string) {
	b.t.Helper()
	f, err := os.Create(filepath.Join(b.staging(v), file))
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		b.t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) holds(v backend.Volume, file, text string) {
	b.t.Helper()
	got, err := os.ReadFile(filepath.Join(b.staging(v), file))
	if err != nil || string(got) != text {
		b.t.Errorf("%s has %.40q, %v, want %.40q", file, got, err, text)
	}
}

// delete removes volumes, and nothing may be left then.
func (b *bed) delete(volumes ...backend.Volume) {
	b.t.Helper()
	for _, v := range volumes {
		if err := b.pool.Delete(b.t.Context(), v.ID); err != nil {
			b.t.Error(err)
		}
	}
	hosttest.NothingLeft(b.t, filepath.Join(b.dir, "images"), "dozo-pool.json", "lock", "volumes", "snapshots", "groups")
	if left := mappings(b.t); len(left) > 0 {
		b.t.Errorf("left open: %v", left)
	}
}

// secret fails the test if a passphrase can be seen where others look.
func (b *bed) secret(passphrases ...string) {
	b.t.Helper()
	places := map[string]string{"the log": b.log.String(), "the programs' arguments": b.argv.String()}
	records, err := filepath.Glob(filepath.Join(b.dir, "state", "*.json"))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, r := range records {
		text, err := os.ReadFile(r)
		if err != nil {
			b.t.Fatal(err)
		}
		places[r] = string(text)
	}
	if !strings.Contains(places["the programs' arguments"], "cryptsetup ") {
		b.t.Error("no program was seen: this test sees nothing")
	}
	for place, text := range places {
		for _, p := range passphrases {
			if strings.Contains(text, p) {
				b.t.Errorf("a passphrase is in %s", place)
			}
		}
	}
}

func (b *bed) refused(err error, kind errs.Kind, words ...string) {
	b.t.Helper()
	if !errs.Is(err, kind) {
		b.t.Fatalf("got %v (%v), want %v", err, errs.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			b.t.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(fmt.Sprintf("%v %+v", err, err), key) {
		b.t.Error("the passphrase is in an error")
	}
}
