package crash

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
)

// publishInline makes the volume and mounts it, in one call.
func (u use) publishInline() Step {
	return Step{Name: "publish inline " + u.name, Do: func(ctx context.Context, d Driver) error {
		return d.Node.PublishInline(ctx, node.InlineRequest{Volume: u.name, Size: u.size, Target: u.target(d), FSType: u.fs})
	}}
}

func (u use) unpublishInline() Step {
	return Step{Name: "unpublish inline " + u.name, Do: func(ctx context.Context, d Driver) error {
		return d.Node.UnpublishInline(ctx, u.name, u.target(d))
	}}
}

// abandon is a pod that is deleted when its volume was being made: nobody asks for it again.
func (u use) abandon() Step {
	return Step{Name: "abandon " + u.name, Do: func(ctx context.Context, d Driver) error {
		begun := filepath.Join(d.Dir, "begun")
		_, err := os.Lstat(begun)
		if errors.Is(err, fs.ErrNotExist) {
			if err := os.WriteFile(begun, nil, 0o600); err != nil {
				return err
			}
			if err := u.publishInline().Do(ctx, d); err != nil {
				return err
			}
		}
		err = u.unpublishInline().Do(ctx, d)
		if errs.Is(err, errs.InUse) { // an fsck that outlived the driver ends soon: the kubelet asks again
			err = errs.E(errs.Busy, "%w", err)
		}
		return err
	}}
}

func TestLoopfileInline(t *testing.T) {
	hosttest.NeedRoot(t)
	v := use{"v", "ext4", 32 * mib}
	Try(t, Path{Open: openLoopfile, Close: release, Steps: []Step{
		v.publishInline(), v.write(), v.publishInline(), v.verify(), v.unpublishInline(),
	}})
}

func TestLoopfileInlineAbandoned(t *testing.T) {
	hosttest.NeedRoot(t)
	v := use{"v", "ext4", 32 * mib}
	Try(t, Path{Open: openLoopfile, Close: release, Steps: []Step{v.abandon()}})
}
