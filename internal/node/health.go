package node

import (
	"context"
	"fmt"
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/fs"
	"github.com/dozo-dev/dozo/internal/host/mnt"
)

// The reasons of problems that are seen from the node.
const (
	ReasonNotMounted   = "NotMounted"          // its staging mount is gone
	ReasonDeviceGone   = "DeviceGone"          // there is no device of that number, or nothing behind it
	ReasonDeviceFails  = "DeviceReadFailed"    // reading its first block fails, or is not answered
	ReasonReadOnly     = "FileSystemReadOnly"  // the file system turned read-only by itself
	ReasonNoAnswer     = "FileSystemFailed"    // its root directory cannot be read: it shut itself down, or hangs
	ReasonCheckFailed  = "StorageUnanswered"   // the pool could not say how the volume is
	ReasonBeforeReboot = "StagedBeforeRestart" // its record is from before the node started
)

func problem(s backend.Severity, reason, format string, args ...any) backend.Problem {
	return backend.Problem{Severity: s, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Health returns what is wrong with a volume as seen from this node, worst first; none if all is
// well. errs.NotFound if it is not staged here.
func (n *Node) Health(ctx context.Context, volume string) ([]backend.Problem, error) {
	if err := checkVolume(volume); err != nil {
		return nil, err
	}
	rec, err := n.load(volume)
	if err != nil {
		return nil, err
	}
	boot, err := n.boot()
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, errs.E(errs.NotFound, "%s: %s is not staged on this node", fieldVolume, volume)
	}
	if rec.Boot != boot {
		return []backend.Problem{problem(backend.Inaccessible, ReasonBeforeReboot, "%s was staged before the node restarted, and not since", volume)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var all []backend.Problem
	if rec.Block {
		all, err = n.blockHealth(ctx, rec)
	} else {
		all, err = n.fsHealth(ctx, rec)
	}
	if err != nil {
		return nil, err
	}
	all = append(all, n.poolHealth(ctx, rec)...)
	all = append(all, n.limitHealth(ctx, rec)...)
	slices.SortStableFunc(all, func(a, b backend.Problem) int { return int(b.Severity) - int(a.Severity) })
	return all, nil
}

// poolHealth is what the storage says of a volume, or the way to it.
func (n *Node) poolHealth(ctx context.Context, rec *record) []backend.Problem {
	if rec.Access.Local == nil {
		return n.connect.Check(ctx, rec.Access)
	}
	p, err := locals{n.pools}.get(rec.Access.Local.Pool)
	var found []backend.Problem
	if err == nil {
		found, err = p.Check(ctx, rec.Access.Local.ID)
	}
	if err != nil {
		found = append(found, problem(backend.Degraded, ReasonCheckFailed, "the pool could not say how the volume is: %v", err))
	}
	return found
}

func (n *Node) fsHealth(ctx context.Context, rec *record) ([]backend.Problem, error) {
	at, err := n.place(fieldStaging, rec.Staging)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	var m *host.MountInfo
	if err == nil {
		defer at.Close()
		if m, err = at.Mounted(); err != nil {
			return nil, err
		}
	}
	if m == nil {
		return []backend.Problem{problem(backend.Inaccessible, ReasonNotMounted, "nothing is mounted at %s any more; stop the volume's pods, so that it is staged anew", rec.Staging)}, nil
	}
	var all []backend.Problem
	if failed := mnt.Failed(m); failed != "" && !rec.readOnly() {
		all = append(all, problem(backend.Inaccessible, ReasonReadOnly, "%s on %s takes no writes any more (%s), as file systems do when they meet an error; see the kernel's log, then stop the volume's pods and let them start again, which checks it", m.FsType, m.Source, failed))
	}
	if err := n.alive(ctx, rec, at); err != nil {
		all = append(all, problem(backend.Inaccessible, ReasonNoAnswer, "%s on %s does not answer: %v; see the kernel's log", m.FsType, m.Source, err))
	}
	if rec.Access.Mount != nil {
		return all, nil
	}
	number := host.DeviceNumber{Major: m.Major, Minor: m.Minor}
	if number.Major == 0 { // a number of the file system's own, as btrfs has it
		if number, err = n.host.DeviceNumber(m.Source); err != nil {
			return append(all, problem(backend.Inaccessible, ReasonDeviceGone, "%v", err)), nil
		}
	}
	all = append(all, fs.Errors(n.host, m.FsType, number)...)
	return append(all, n.deviceHealth(ctx, number)...), nil
}

func (n *Node) blockHealth(ctx context.Context, rec *record) ([]backend.Problem, error) {
	path, err := n.live(rec, "")
	if err != nil {
		return nil, err
	}
	var target *mnt.Place
	if path != "" {
		if target, err = n.place(fieldTarget, path); err != nil {
			return nil, err
		}
		defer target.Close()
	}
	number, err := n.blockDevice(rec, target)
	if err != nil {
		return []backend.Problem{problem(backend.Inaccessible, ReasonDeviceGone, "%v", err)}, nil
	}
	return n.deviceHealth(ctx, number), nil
}

// deviceHealth reads from the device itself, past all caches.
func (n *Node) deviceHealth(ctx context.Context, number host.DeviceNumber) []backend.Problem {
	name := fs.DeviceName(n.host, number)
	if name == "" || fs.DeviceSize(n.host, number) == 0 {
		return []backend.Problem{problem(backend.Inaccessible, ReasonDeviceGone, "device %d:%d: nothing is behind it any more; stop the volume's pods, so that it is connected anew", number.Major, number.Minor)}
	}
	if _, err := n.host.ReadDevice(ctx, "health.read", n.host.Dev(name), 0, 4096); err != nil {
		return []backend.Problem{problem(backend.Inaccessible, ReasonDeviceFails, "%v", err)}
	}
	return nil
}
