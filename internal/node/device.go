package node

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/connect"
	"github.com/dozo-dev/dozo/internal/host/crypt"
	"github.com/dozo-dev/dozo/internal/host/fs"
	"github.com/dozo-dev/dozo/internal/host/mnt"
)

// device is what a volume is used through on this node: the device that its storage gives, or what is
// behind that one's encryption.
type device struct {
	path  string
	below string // that its storage gives: another one than path, if it is encrypted
	size  int64  // bytes that can be used
	full  int64  // bytes of the volume: more than size, if it is encrypted
}

func (r StageRequest) checkSecrets() error {
	if m := r.Access.Mount; m != nil && m.Type == backend.CIFS {
		_, err := mnt.LoginFrom(r.Secrets)
		return err
	}
	if err := connect.CheckSecrets(r.Access, r.Secrets); err != nil || r.Access.Encryption == nil {
		return err
	}
	_, err := crypt.KeyFrom(r.Secrets)
	return err
}

// attach makes the device of a volume that is being staged.
func (n *Node) attach(ctx context.Context, r StageRequest, rec *record) (device, error) {
	below, size, err := n.connect.Connect(ctx, rec.Access, r.Secrets)
	e := rec.Access.Encryption
	if err != nil || e == nil {
		return device{below, below, size, size}, err
	}
	key, err := crypt.KeyFrom(r.Secrets)
	if err != nil {
		return device{}, err
	}
	marks, err := n.marks(rec.Access, below)
	if err != nil {
		return device{}, err
	}
	path, err := crypt.Open(ctx, n.host, crypt.Volume{
		Device: below, Name: crypt.Name(rec.Volume), Discard: e.Discard, ReadOnly: rec.readOnly(),
	}, key, marks)
	if err != nil {
		return device{}, err
	}
	return n.opened(path, below, size)
}

// found returns the device of a volume that is staged; grow makes it as large as the volume is by now.
// No key is needed for that.
func (n *Node) found(ctx context.Context, rec *record, grow bool) (device, error) {
	below, size, err := n.connect.Found(ctx, rec.Access, grow)
	if err != nil || rec.Access.Encryption == nil {
		return device{below, below, size, size}, err
	}
	name := crypt.Name(rec.Volume)
	path, err := crypt.Opened(n.host, name, below)
	if err != nil {
		return device{}, err
	}
	if path == "" {
		return device{}, errs.E(errs.InUse, "%s: %s is encrypted, and was closed by somebody else; stop its pods, so that it is staged anew", fieldVolume, rec.Volume)
	}
	if grow {
		if err := crypt.Resize(ctx, n.host, name); err != nil {
			return device{}, err
		}
	}
	return n.opened(path, below, size)
}

func (n *Node) opened(path, below string, full int64) (device, error) {
	size, err := n.host.DeviceSize("luks.size", path)
	return device{path, below, size, full}, err
}

// detach undoes attach.
func (n *Node) detach(ctx context.Context, rec *record) error {
	if rec.Access.Encryption != nil {
		if err := crypt.Close(ctx, n.host, crypt.Name(rec.Volume)); err != nil {
			return err
		}
	}
	if rec.Access.Mount != nil {
		return nil
	}
	return n.connect.Disconnect(ctx, rec.Access)
}

// contentMarks are the marks of what is on the device that a volume is used through; below is the one that its
// storage gives.
func (n *Node) contentMarks(a backend.Access, below, kind string) (fs.Marks, error) {
	m, err := n.marks(a, below)
	if err != nil || a.Encryption == nil {
		return m, err
	}
	return crypt.Inside(m, kind), nil
}
