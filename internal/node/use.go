package node

import (
	"cmp"
	"context"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/fs"
	"github.com/dozo-dev/dozo/internal/host/mnt"
)

// askTimeout bounds a question to a file system or device that may hang.
const askTimeout = 10 * time.Second

// at returns the record of a volume and the place that path is, which is one of the volume's, with
// something mounted unless a block volume is only staged there. errs.NotFound if any of it is not so.
func (n *Node) at(volume, path string) (*record, *mnt.Place, error) {
	rec, err := n.load(volume)
	if err != nil {
		return nil, nil, err
	}
	boot, err := n.boot()
	if err != nil {
		return nil, nil, err
	}
	if rec == nil || rec.Boot != boot {
		return nil, nil, errs.E(errs.NotFound, "%s: %s is not staged on this node", fieldVolume, volume)
	}
	if !rec.has(path) && !n.mapped(rec, path) {
		return nil, nil, errs.E(errs.NotFound, "%s: %s is neither staged nor published at %s", fieldPath, volume, path)
	}
	at, err := n.place(fieldPath, path)
	if err != nil {
		return nil, nil, err
	}
	mounted, err := at.IsMountPoint()
	if err == nil && !mounted && !(rec.Block && path == rec.Staging) {
		err = errs.E(errs.NotFound, "%s: nothing is mounted at %s", fieldPath, path)
	}
	if err != nil {
		at.Close()
		return nil, nil, err
	}
	return rec, at, nil
}

// mapped reports whether path is where the kubelet has bound a block volume's device for itself. It asks
// there for statistics (volumeDevices/PV/dev/POD), not where it had the volume published. The device's
// number is what shows that it is this volume.
func (n *Node) mapped(rec *record, path string) bool {
	if !rec.Block || rec.Device == "" {
		return false
	}
	at, err := n.place(fieldPath, path)
	if err != nil {
		return false
	}
	defer at.Close()
	if mounted, err := at.IsMountPoint(); err != nil || !mounted {
		return false
	}
	number, err := at.Device()
	if err != nil {
		return false
	}
	ours, err := n.host.DeviceNumber(rec.Device)
	return err == nil && number == ours
}

func (n *Node) expand(ctx context.Context, volume, path string) (int64, error) {
	rec, at, err := n.at(volume, path)
	if err != nil {
		return 0, err
	}
	defer at.Close()
	if rec.Access.Mount != nil {
		st, err := n.use(ctx, rec, at) // it is grown there
		return int64(st.Blocks) * cmp.Or(st.Frsize, st.Bsize), err
	}
	d, err := n.found(ctx, rec, true)
	if err != nil {
		return 0, err
	}
	if rec.Block {
		return d.full, nil
	}
	rec.Device = d.path
	number, err := n.host.DeviceNumber(d.path)
	if err != nil {
		return 0, err
	}
	m, err := at.Mounted()
	if err != nil {
		return 0, err
	}
	if m == nil {
		return 0, errs.E(errs.NotFound, "%s: nothing is mounted at %s any more", fieldPath, path)
	}
	if !mnt.IsOf(n.host, m, number) {
		return 0, errs.E(errs.InUse, "%s: %s has something else mounted: %s (%s)", fieldPath, path, m.Source, m.FsType)
	}
	// The target may be read-only, and its mount then refuses to grow what it shows.
	if from, err := n.place(fieldStaging, rec.Staging); err == nil {
		defer from.Close()
		if staged, err := from.Mounted(); err == nil && staged != nil && mnt.Same(staged, m) {
			m = staged
		}
	}
	return d.full, n.grow(ctx, "expand.grow", rec, m, d.size)
}

// Stats returns the use of the volume published or staged at path. errs.NotFound unless it is there.
func (n *Node) Stats(ctx context.Context, volume, path string) (Stats, error) {
	if err := checkVolume(volume); err != nil {
		return Stats{}, err
	}
	if err := mnt.CheckPath(fieldPath, path); err != nil {
		return Stats{}, err
	}
	rec, at, err := n.at(volume, path)
	if err != nil {
		return Stats{}, err
	}
	defer at.Close()
	if rec.Block {
		return n.blockStats(rec, at)
	}
	st, err := n.use(ctx, rec, at)
	if err != nil {
		return Stats{}, err
	}
	unit := cmp.Or(st.Frsize, st.Bsize)
	return Stats{
		TotalBytes:      int64(st.Blocks) * unit,
		UsedBytes:       int64(st.Blocks-st.Bfree) * unit,
		AvailableBytes:  int64(st.Bavail) * unit,
		TotalInodes:     int64(st.Files),
		UsedInodes:      int64(st.Files - st.Ffree),
		AvailableInodes: int64(st.Ffree),
	}, nil
}

// blockStats asks for the size of a device without opening it.
func (n *Node) blockStats(rec *record, at *mnt.Place) (Stats, error) {
	if at.String() == rec.Staging {
		at = nil // nothing is mounted there
	}
	number, err := n.blockDevice(rec, at)
	if err != nil {
		return Stats{}, err
	}
	size := fs.DeviceSize(n.host, number)
	if size == 0 {
		return Stats{}, errs.E(errs.Unavailable, "device %d:%d: nothing is behind it", number.Major, number.Minor)
	}
	return Stats{TotalBytes: size, Block: true}, nil
}

// blockDevice is the device at a target, or with none the one that the volume was connected as.
func (n *Node) blockDevice(rec *record, target *mnt.Place) (host.DeviceNumber, error) {
	if target != nil {
		return target.Device()
	}
	return n.host.DeviceNumber(rec.Device)
}
