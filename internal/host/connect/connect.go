// Package connect turns the data by which a volume is reached into a block device on this node, and
// back. It knows the ways; what lies at their other end is for those who hand in the means.
package connect

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// Local makes volumes of the pools on this node usable here; see [backend.Activator]. A pool that
// is not there is errs.Unavailable.
type Local interface {
	Activate(ctx context.Context, pool string, id backend.ID) (device string, err error)
	Deactivate(ctx context.Context, pool string, id backend.ID) error
}

// Connector connects volumes. It is safe for concurrent use, one call at a time for one volume.
type Connector struct {
	host  *host.Host
	local Local
}

// New returns a connector.
func New(h *host.Host, local Local) *Connector { return &Connector{host: h, local: local} }

// Connect makes the volume that a leads to a block device and returns its path and size in bytes.
// Called again it returns the device with the size that the volume has by then.
func (c *Connector) Connect(ctx context.Context, a backend.Access) (device string, size int64, err error) {
	if err := a.Check(); err != nil {
		return "", 0, err
	}
	if a.Local == nil {
		return "", 0, errs.E(errs.Unsupported, "access: volumes over the network are not connected yet")
	}
	device, err = c.local.Activate(ctx, a.Local.Pool, a.Local.ID)
	if err != nil {
		return "", 0, err
	}
	if _, err := c.host.DeviceNumber(device); err != nil {
		return "", 0, err
	}
	size, err = c.host.DeviceSize("connect.size", device)
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
	if a.Local == nil {
		return errs.E(errs.Unsupported, "access: volumes over the network are not connected yet")
	}
	return c.local.Deactivate(ctx, a.Local.Pool, a.Local.ID)
}
