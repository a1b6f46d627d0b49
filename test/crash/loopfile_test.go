package crash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/loopfile"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/lab"
)

const mib = 1 << 20

// openLoopfile starts a driver with a pool of image files below dir.
func openLoopfile(ctx context.Context, h *host.Host, dir string) (Driver, error) {
	images := filepath.Join(dir, "images")
	for _, d := range []string{images, filepath.Join(dir, "staging"), filepath.Join(dir, "pod")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return Driver{}, err
		}
	}
	quiet := slog.New(slog.DiscardHandler)
	set, err := pool.OpenSet(ctx, []backend.Kind{loopfile.Kind(h)}, []pool.Spec{{
		Name: "p", Kind: "loopfile", Options: map[string]string{"path": images, "spare": "0", "inlineLimit": "64Mi"},
	}}, pool.Options{Node: "n1", Log: quiet})
	if err != nil {
		return Driver{}, err
	}
	n, err := node.New(h, set, node.Options{Name: "n1", StateDir: filepath.Join(dir, "state"), TargetRoot: dir})
	if err != nil {
		return Driver{}, err
	}
	return Driver{Host: h, Pool: set.All()[0], Node: n, Dir: dir}, nil
}

// release unmounts and detaches what a failed run left, so that it ends with the test.
func release(dir string) {
	h := host.New()
	table, err := h.Mounts()
	if err != nil {
		return
	}
	for _, m := range slices.Backward(table) {
		if strings.HasPrefix(m.MountPoint, dir+"/") {
			_ = h.Thaw("release", m.MountPoint) // most are not frozen
			_ = unix.Unmount(m.MountPoint, unix.MNT_DETACH)
		}
	}
	devices, _ := h.LoopDevices()
	for _, d := range devices {
		if !strings.HasPrefix(d.File, dir) {
			continue
		}
		if f, err := os.Open(d.Path); err == nil {
			_ = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
			f.Close()
		}
	}
}

// use is a volume as a pod uses it.
type use struct {
	name, fs string
	size     int64
}

func (u use) block() bool             { return u.fs == "block" }
func (u use) handle() string          { return "p:" + u.name }
func (u use) staging(d Driver) string { return filepath.Join(d.Dir, "staging", u.name) }
func (u use) target(d Driver) string  { return filepath.Join(d.Dir, "pod", u.name) }

func (u use) create(source backend.Source) Step {
	return Step{Name: "create " + u.name, Do: func(ctx context.Context, d Driver) error {
		_, err := d.Pool.Create(ctx, pool.VolumeRequest{Name: u.name, Required: u.size, Source: source})
		return err
	}}
}

func (u use) stage() Step {
	return Step{Name: "stage " + u.name, Do: func(ctx context.Context, d Driver) error {
		if err := os.Mkdir(u.staging(d), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		r := node.StageRequest{Volume: u.handle(), Access: backend.LocalAccess("p", backend.ID(u.name)), Staging: u.staging(d), Block: u.block()}
		if !u.block() {
			r.FSType = u.fs
		}
		return d.Node.Stage(ctx, r)
	}}
}

func (u use) publish() Step {
	return Step{Name: "publish " + u.name, Do: func(ctx context.Context, d Driver) error {
		return d.Node.Publish(ctx, node.PublishRequest{Volume: u.handle(), Staging: u.staging(d), Target: u.target(d), Block: u.block()})
	}}
}

func (u use) unpublish() Step {
	return Step{Name: "unpublish " + u.name, Do: func(ctx context.Context, d Driver) error {
		return d.Node.Unpublish(ctx, u.handle(), u.target(d))
	}}
}

func (u use) unstage() Step {
	return Step{Name: "unstage " + u.name, Do: func(ctx context.Context, d Driver) error {
		if err := d.Node.Unstage(ctx, u.handle(), u.staging(d)); err != nil {
			return err
		}
		if err := os.Remove(u.staging(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}}
}

func (u use) expand(size int64) Step {
	return Step{Name: "expand " + u.name, Do: func(ctx context.Context, d Driver) error {
		if _, err := d.Pool.Expand(ctx, backend.ID(u.name), size, 0); err != nil {
			return err
		}
		if _, err := d.Node.Expand(ctx, u.handle(), u.target(d)); err != nil {
			return err
		}
		s, err := d.Node.Stats(ctx, u.handle(), u.target(d))
		if err == nil && s.TotalBytes < size*8/10 {
			err = fmt.Errorf("the pod sees %d bytes of %d", s.TotalBytes, size)
		}
		return err
	}}
}

func (u use) modify() Step {
	return Step{Name: "modify " + u.name, Do: func(ctx context.Context, d Driver) error {
		_, err := d.Pool.Modify(ctx, backend.ID(u.name), backend.Limits{ReadIOPS: 1000})
		return err
	}}
}

func (u use) delete() Step {
	return Step{Name: "delete " + u.name, Do: func(ctx context.Context, d Driver) error { return d.Pool.Delete(ctx, backend.ID(u.name)) }}
}

// data is what is written, recognisable and the same in every process.
func data() []byte {
	var b []byte
	for n := range 2 * mib / sha256.Size {
		s := sha256.Sum256([]byte{byte(n), byte(n >> 8), byte(n >> 16)})
		b = append(b, s[:]...)
	}
	return b
}

func (u use) open(d Driver, flags int) (*os.File, error) {
	if u.block() {
		return os.OpenFile(u.target(d), flags&^os.O_CREATE, 0)
	}
	return os.OpenFile(filepath.Join(u.target(d), "data"), flags, 0o600)
}

func (u use) write() Step {
	return Step{Name: "write " + u.name, Do: func(_ context.Context, d Driver) error {
		f, err := u.open(d, os.O_WRONLY|os.O_CREATE)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt(data(), 0); err != nil {
			return err
		}
		return f.Sync()
	}}
}

func (u use) verify() Step {
	return Step{Name: "verify " + u.name, Do: func(_ context.Context, d Driver) error {
		f, err := u.open(d, os.O_RDONLY)
		if err != nil {
			return err
		}
		defer f.Close()
		got, err := io.ReadAll(io.LimitReader(f, 2*mib))
		if err == nil && !bytes.Equal(got, data()) {
			err = errors.New("the data is not what was written")
		}
		return err
	}}
}

// life is a volume from its creation to its end.
func (u use) life() []Step {
	return []Step{
		u.create(backend.Source{}), u.stage(), u.publish(), u.write(), u.expand(2 * u.size), u.modify(), u.verify(),
		u.unpublish(), u.unstage(), u.stage(), u.publish(), u.verify(), u.unpublish(), u.unstage(), u.delete(),
	}
}

func TestLoopfileVolume(t *testing.T) {
	hosttest.NeedRoot(t)
	for _, u := range []use{{"v", "ext4", 32 * mib}, {"v", "xfs", 300 * mib}, {"v", "btrfs", 128 * mib}, {"v", "block", 16 * mib}} {
		t.Run(u.fs, func(t *testing.T) {
			t.Parallel() // one of them may be in a guest, which is slow
			if u.fs == "ext4" && !mayGrowExt4(t) {
				return
			}
			Try(t, Path{Open: openLoopfile, Steps: u.life(), Close: release})
		})
	}
}

// mayGrowExt4 is true where the test can go on: elsewhere it runs in a guest.
func mayGrowExt4(t *testing.T) bool {
	return lab.WithCapability(t, unix.CAP_SYS_RESOURCE, lab.Guest{MemoryMiB: 1024, Modules: []string{"loop"}})
}

func TestLoopfileSnapshots(t *testing.T) {
	hosttest.NeedRoot(t)
	t.Parallel()
	v := use{"v", "xfs", 300 * mib}
	w := use{"w", "xfs", 300 * mib}
	restored := use{"restored", "xfs", 400 * mib}
	cloned := use{"cloned", "xfs", 400 * mib}
	steps := slices.Concat(tried(v.create(backend.Source{}), v.stage(), v.publish(), v.write(), w.create(backend.Source{})), []Step{
		{Name: "snapshot", Do: func(ctx context.Context, d Driver) error {
			_, err := d.Pool.Snapshot(ctx, "s", "v")
			return err
		}},
		restored.create(backend.Source{Snapshot: "s"}), cloned.create(backend.Source{Volume: "v"}),
		restored.stage(), // which gives it a UUID of its own
	}, tried(
		restored.publish(), restored.verify(), restored.unpublish(), restored.unstage(), restored.delete(),
		cloned.stage(), cloned.publish(), cloned.verify(), cloned.unpublish(), cloned.unstage(), cloned.delete(),
	), []Step{
		{Name: "snapshot group", Do: func(ctx context.Context, d Driver) error {
			made, err := d.Pool.SnapshotGroup(ctx, "g", []backend.ID{"v", "w"})
			if err == nil && len(made) != 2 {
				err = fmt.Errorf("%d snapshots of 2", len(made))
			}
			return err
		}},
		{Name: "delete group", Do: func(ctx context.Context, d Driver) error { return d.Pool.DeleteGroup(ctx, "g") }},
		{Name: "delete snapshot", Do: func(ctx context.Context, d Driver) error { return d.Pool.DeleteSnapshot(ctx, "s") }},
	}, tried(Step{Name: "write on", Do: func(_ context.Context, d Driver) error {
		return os.WriteFile(filepath.Join(v.target(d), "more"), data(), 0o600)
	}}, v.verify(), v.unpublish(), v.unstage(), v.delete(), w.delete()))
	Try(t, Path{Open: openLoopfile, Steps: steps, Close: release})
}

// tried marks steps that TestLoopfileVolume kills.
func tried(steps ...Step) []Step {
	for n := range steps {
		steps[n].Tried = true
	}
	return steps
}
