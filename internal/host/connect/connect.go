// Package connect turns the data by which a volume is reached into a block device on this node, and
// back. It knows the ways; what lies at their other end is for those who hand in the means.
package connect

import (
	"context"
	"log/slog"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/iscsi"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// Local makes volumes of the pools on this node usable here; see [backend.Activator]. A pool that
// is not there is errs.Unavailable.
type Local interface {
	Activate(ctx context.Context, pool string, id backend.ID) (device string, err error)
	Deactivate(ctx context.Context, pool string, id backend.ID) error
}

// Connector connects volumes. It is safe for concurrent use, one call at a time for one volume.
type Connector struct {
	host      *host.Host
	local     Local
	initiator *iscsi.Initiator
	opts      Options
	locks     *keylock.Locks // in this process, by target: volumes share its session
}

// Options configure a Connector.
type Options struct {
	StateDir string         // which targets are ours; must survive a restart of this process
	Locks    *host.LockFile // against other processes of ours
	Log      *slog.Logger
}

// New returns a connector.
func New(h *host.Host, local Local, o Options) *Connector {
	return &Connector{host: h, local: local, initiator: iscsi.New(h), opts: o, locks: keylock.New(time.Now)}
}

// CheckSecrets returns errs.Invalid unless the secrets have what is needed to connect by a.
func CheckSecrets(a backend.Access, secrets map[string]string) error {
	_, err := chapOf(a, secrets)
	return err
}

func chapOf(a backend.Access, secrets map[string]string) (*iscsi.CHAP, error) {
	if a.ISCSI == nil || a.ISCSI.Target == nil || !a.ISCSI.Target.CHAP {
		return nil, nil
	}
	return iscsi.CHAPFrom(secrets)
}

// Connect makes the volume that a leads to a block device and returns its path and size in bytes.
// Called again it returns the device with the size that the volume has by then. What is to be known for it is
// in secrets, which are kept nowhere but where the machine's programs need them.
func (c *Connector) Connect(ctx context.Context, a backend.Access, secrets map[string]string) (device string, size int64, err error) {
	if err := a.Check(); err != nil {
		return "", 0, err
	}
	chap, err := chapOf(a, secrets)
	if err != nil {
		return "", 0, err
	}
	switch {
	case a.Local != nil:
		device, err = c.local.Activate(ctx, a.Local.Pool, a.Local.ID)
	case a.ISCSI != nil:
		device, err = c.login(ctx, a.ISCSI, chap)
	default:
		err = noDevice()
	}
	return c.sized(device, err)
}

// Found returns the device of a volume that is connected, having verified that it is the volume's, with
// its size. It makes no connection. grow sees to it that the size is what the volume has by now.
func (c *Connector) Found(ctx context.Context, a backend.Access, grow bool) (device string, size int64, err error) {
	if err := a.Check(); err != nil {
		return "", 0, err
	}
	switch {
	case a.Local != nil:
		device, err = c.local.Activate(ctx, a.Local.Pool, a.Local.ID)
	case a.ISCSI != nil:
		device, err = c.find(ctx, a.ISCSI, grow)
	default:
		err = noDevice()
	}
	return c.sized(device, err)
}

func (c *Connector) sized(device string, err error) (string, int64, error) {
	if err != nil {
		return "", 0, err
	}
	if _, err := c.host.DeviceNumber(device); err != nil {
		return "", 0, err
	}
	size, err := c.host.DeviceSize("connect.size", device)
	if err != nil {
		return "", 0, errs.E(errs.Unavailable, "device %s: its size: %w", device, err)
	}
	if size == 0 {
		return "", 0, errs.E(errs.Unavailable, "device %s: it has no size: nothing is behind it", device)
	}
	return device, size, nil
}

// Disconnect undoes Connect; a volume that is not connected is no error. errs.InUse while something
// has the device open.
func (c *Connector) Disconnect(ctx context.Context, a backend.Access) error {
	if err := a.Check(); err != nil {
		return err
	}
	switch {
	case a.Local != nil:
		return c.local.Deactivate(ctx, a.Local.Pool, a.Local.ID)
	case a.ISCSI != nil:
		return c.logout(ctx, a.ISCSI)
	}
	return noDevice()
}

func noDevice() error {
	return errs.E(errs.Internal, "access: a file system on a server has no device here")
}
