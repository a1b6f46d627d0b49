package devices

import (
	"bytes"
	"context"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/block"
	"github.com/dozo-dev/dozo/internal/host/fs"
)

const (
	// edge is what has to be zeros at both ends of a device, where signatures and backups of them are.
	edge        = 1 << 20
	edgeTimeout = 30 * time.Second
)

// Empty returns nil if a device has nothing on it and nobody has it open for themselves. blkid has to know
// nothing there, and both ends have to be zeros, since blkid does not know everything: errs.InUse says what
// is there, errs.Unavailable that it could not be told.
func Empty(ctx context.Context, h *host.Host, device string) error {
	id, err := fs.Identify(ctx, h, device)
	switch {
	case err != nil:
		return err
	case id.Type != "":
		return errs.E(errs.InUse, "holds something: %s", id.Type)
	}
	size, err := h.DeviceSize("devices.size", device)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, edgeTimeout)
	defer cancel()
	for _, off := range []int64{0, max(0, size-edge) &^ 4095} {
		b, err := h.ReadDevice(ctx, "devices.read", device, off, edge)
		if err != nil {
			return err
		}
		if n := int64(len(b)); n < min(edge, size-off)&^4095 {
			return errs.E(errs.Unavailable, "device %s: read %d bytes at byte %d", device, n, off)
		}
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return errs.E(errs.InUse, "holds data in its first or last MiB that nothing here knows; if that may go, overwrite both with zeros")
		}
	}
	return Free(device)
}

// Free returns nil if nobody has a device for themselves: mounted anywhere, as swap, or under another device.
func Free(device string) error {
	f, err := block.Open(device)
	if err != nil {
		return err
	}
	return f.Close()
}
