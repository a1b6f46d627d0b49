package node

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/fs"
	"github.com/dozo-dev/dozo/internal/host/mnt"
)

// maxHandle is the longest volume handle, in bytes: CSI's bound for strings.
const maxHandle = 128

func checkVolume(volume string) error {
	switch {
	case volume == "":
		return errs.E(errs.Invalid, "%s: missing", fieldVolume)
	case len(volume) > maxHandle:
		return errs.E(errs.Invalid, "%s: %d bytes long, at most %d are allowed", fieldVolume, len(volume), maxHandle)
	}
	return nil
}

func (r StageRequest) check() error {
	_, optionsErr := mnt.ParseOptions(fieldOptions, r.MountOptions)
	for _, err := range []error{
		checkVolume(r.Volume), r.Access.Check(), mnt.CheckPath(fieldStaging, r.Staging), optionsErr, r.checkContent(), r.checkSecrets(),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// options are the mount options, which check has found to be right.
func (r *record) options() mnt.Options {
	o, _ := mnt.ParseOptions(fieldOptions, r.MountOptions)
	return o
}

// readOnly reports whether every use of the volume here only reads.
func (r *record) readOnly() bool { return r.ReadOnly || r.options().ReadOnly }

// recordFor returns the record of a request: the stored one if it is of the same request, a new one
// if there is none or it is from before the last boot, when all it speaks of was undone.
func (n *Node) recordFor(r StageRequest) (rec *record, known bool, err error) {
	boot, err := n.boot()
	if err != nil {
		return nil, false, err
	}
	want := &record{
		Version: versionFor(r.Access), Volume: r.Volume, Boot: boot, Access: plain(r.Access), Staging: r.Staging,
		Block: r.Block, FSType: r.FSType, MountOptions: slices.Clone(r.MountOptions), ReadOnly: r.ReadOnly,
	}
	if len(want.MountOptions) == 0 {
		want.MountOptions = nil
	}
	old, err := n.load(r.Volume)
	if err == nil && old != nil {
		want.Version, want.Inline = max(want.Version, old.Version), old.Inline // outlives a boot, as the volume does
	}
	if err != nil || old == nil || old.Boot != boot {
		return want, false, err
	}
	switch {
	case !reflect.DeepEqual(old.Access, want.Access):
		return nil, false, errs.E(errs.InUse, "%s: %s is staged here by another way of access; unstage it from %s first", fieldVolume, r.Volume, old.Staging)
	case old.Staging != want.Staging:
		return nil, false, errs.E(errs.InUse, "%s: %s is staged at %s; unstage it there first", fieldStaging, r.Volume, old.Staging)
	case old.Block != want.Block:
		return nil, false, errs.E(errs.InUse, "volume_capability: %s is staged with block=%v; unstage it first", r.Volume, old.Block)
	}
	want.MadeStaging, want.Device, want.Targets = old.MadeStaging, old.Device, old.Targets
	if !sameOptions(old, want) {
		return want, false, n.refuseOther(old)
	}
	return old, true, nil
}

func sameOptions(a, b *record) bool {
	return a.FSType == b.FSType && a.ReadOnly == b.ReadOnly && slices.Equal(a.MountOptions, b.MountOptions)
}

// refuseOther returns errs.Exists if what a record with other options asks for is there; one of a
// Stage that never got there may be replaced.
func (n *Node) refuseOther(old *record) error {
	there := old.Block
	if !there {
		at, err := n.place(fieldStaging, old.Staging)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		if err == nil {
			defer at.Close()
			m, err := at.Mounted()
			if err != nil {
				return err
			}
			there = m != nil
		}
	}
	if there {
		return errs.E(errs.Exists, "volume_capability: %s is staged with fs_type %q, mount options %q, read-only %v; unstage it to change them",
			old.Volume, old.FSType, old.MountOptions, old.readOnly())
	}
	return nil
}

// staging is one Stage on its way.
type staging struct {
	node  *Node
	r     StageRequest
	rec   *record
	known bool            // the record was there before
	at    *mnt.Place      // nil for a block volume
	found *host.MountInfo // what was mounted there at the beginning
	below string          // the device that the storage gives
}

func (n *Node) stage(ctx context.Context, r StageRequest) error {
	rec, known, err := n.recordFor(r)
	if err != nil {
		return err
	}
	s := &staging{node: n, r: r, rec: rec, known: known}
	if r.Block {
		return s.undoIfBarren(ctx, n.stageBlock(ctx, r, rec))
	}
	if s.at, err = n.place(fieldStaging, rec.Staging); errs.Is(err, errs.NotFound) {
		return errs.E(errs.Invalid, "%w", err) // the volume was not looked for
	} else if err != nil {
		return err
	}
	defer s.at.Close()
	if s.found, err = s.at.Mounted(); err != nil {
		return err
	}
	if s.found != nil {
		return s.repeat(ctx)
	}
	return s.undoIfBarren(ctx, s.first(ctx))
}

// undoIfBarren takes back what was begun if nothing came of it: whoever gets an error that will stay
// does not call Unstage.
func (s *staging) undoIfBarren(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if live, liveErr := s.node.live(s.rec, ""); live != "" || liveErr != nil {
		return err
	}
	if undo := s.node.teardown(context.WithoutCancel(ctx), s.rec); undo != nil {
		return errs.E(errs.KindOf(err), "%w (and to undo what was begun: %v)", err, undo)
	}
	return err
}

// first stages a volume that is not mounted.
func (s *staging) first(ctx context.Context) error {
	shape, err := s.at.Look()
	switch {
	case err != nil:
		return err
	case shape == mnt.Absent:
		s.rec.MadeStaging = true
	case shape != mnt.Dir:
		return errs.E(errs.InUse, "%s: %s is not an empty directory; it is left as it is", fieldStaging, s.rec.Staging)
	}
	if err := s.node.save("stage.record", s.rec); err != nil {
		return err
	}
	if s.rec.Access.Mount != nil {
		return s.mountNet(ctx)
	}
	size, err := s.connect(ctx)
	if err != nil {
		return err
	}
	m, err := s.mount(ctx)
	if err != nil {
		return err
	}
	return s.node.grow(ctx, "stage.grow", s.rec, m, size)
}

// repeat stages a volume at whose staging path something is mounted: itself, one hopes.
func (s *staging) repeat(ctx context.Context) error {
	n := s.node
	if s.rec.Access.Mount != nil {
		return s.repeatNet(ctx)
	}
	d, err := n.found(ctx, s.rec, true)
	if errs.Is(err, errs.InUse) && !s.known {
		return errors.Join(err, n.connect.Disconnect(ctx, s.rec.Access))
	}
	if err != nil {
		return err
	}
	s.rec.Device = d.path
	if !n.ours(s.found, s.rec) {
		err := errs.E(errs.InUse, "%s: %s has something else mounted: %s (%s); it is left as it is", fieldStaging, s.rec.Staging, s.found.Source, s.found.FsType)
		if !s.known { // else something is amiss, and Unstage has to see to it
			err = errors.Join(err, n.connect.Disconnect(ctx, s.rec.Access))
		}
		return err
	}
	if mnt.IsReadOnly(s.found) && !s.rec.readOnly() {
		return errs.E(errs.Exists, "%s: %s is mounted read-only, maybe since its file system met an error (see the kernel's log); stop its pods, so that it is unstaged, and let them start again", fieldStaging, s.rec.Staging)
	}
	if err := n.save("stage.record", s.rec); err != nil {
		return err
	}
	return n.grow(ctx, "stage.grow", s.rec, s.found, d.size)
}

// connect notes the device before it is used, so that what is mounted can be known for ours.
func (s *staging) connect(ctx context.Context) (size int64, err error) {
	backend.Progress(ctx, "connect")
	d, err := s.node.attach(ctx, s.r, s.rec)
	if err != nil {
		return 0, err
	}
	s.rec.Device, s.below = d.path, d.below
	return d.size, s.node.save("stage.device", s.rec)
}

// stageBlock makes the device ready. It is its user's from the first moment, and so never blank to
// us again.
func (n *Node) stageBlock(ctx context.Context, r StageRequest, rec *record) error {
	if err := n.save("stage.record", rec); err != nil {
		return err
	}
	d, err := n.attach(ctx, r, rec)
	if err != nil {
		return err
	}
	rec.Device = d.path
	if err := n.save("stage.device", rec); err != nil {
		return err
	}
	if rec.ReadOnly {
		return nil
	}
	access := rec.Access
	if access.ISCSI != nil { // what an interrupted formatting left on the disk goes, whatever the storage says of it
		disk := *access.ISCSI
		disk.Raw, access.ISCSI = false, &disk
	}
	marks, err := n.contentMarks(access, d.below, "")
	if err != nil {
		return err
	}
	return fs.MarkRaw(ctx, marks)
}

// ours reports whether a mount is of the record's volume. The device may be gone by now, but then
// its name is still the mount's.
func (n *Node) ours(m *host.MountInfo, rec *record) bool {
	if rec.Access.Mount != nil {
		return mnt.IsNet(m, rec.Access.Mount.Type, rec.Access.Mount.Source)
	}
	if rec.Device == "" {
		return false
	}
	number, err := n.host.DeviceNumber(rec.Device)
	if err != nil {
		return m.Source == rec.Device
	}
	return mnt.IsOf(n.host, m, number)
}

// directory makes the staging path, if it is not there.
func (s *staging) directory() error {
	shape, err := s.at.Look()
	if err != nil || shape != mnt.Absent {
		return err
	}
	return s.at.Make("stage.mkdir", false)
}

// mount finds or makes the file system and mounts it.
func (s *staging) mount(ctx context.Context) (*host.MountInfo, error) {
	n, rec := s.node, s.rec
	kind, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.directory(); err != nil {
		return nil, err
	}
	backend.Progress(ctx, "mount")
	return mnt.Mount(n.host, "stage.mount", s.at, mnt.FileSystem{
		Type: kind, Device: rec.Device, Options: rec.options(), ReadOnly: rec.ReadOnly, Extra: fs.Extra(kind),
	})
}

// prepare makes the device's file system fit for mounting and returns its type.
func (s *staging) prepare(ctx context.Context) (kind string, err error) {
	n, r, rec := s.node, s.r, s.rec
	mounts, err := n.host.MountsOf(rec.Device)
	if err != nil {
		return "", errs.E(errs.Unavailable, "mount table: %w", err)
	}
	if len(mounts) > 0 {
		// Of our own doing that can only be targets, whose staging mount somebody took away.
		if live, err := n.live(rec, ""); err != nil || live == "" {
			return "", errors.Join(err, errs.E(errs.InUse, "device %s: is mounted at %s, not by Dozo; unmount it there first", rec.Device, mounts[0].MountPoint))
		}
		return mounts[0].FsType, nil
	}
	marks, err := n.contentMarks(rec.Access, s.below, r.FSType)
	if err != nil {
		return "", err
	}
	readOnly := rec.readOnly() && rec.Inline == nil // one that is made for its pod has to be formatted
	kind, err = fs.Ensure(ctx, n.host, fs.Request{
		Device: rec.Device, Type: r.FSType, MkfsOptions: r.MkfsOptions, ReadOnly: readOnly, NoDiscard: rec.Access.Local == nil,
	}, marks)
	if err != nil {
		return "", err
	}
	found := fs.Found{Device: rec.Device, Type: kind, ReadOnly: readOnly}
	if disk := rec.Access.ISCSI; disk != nil && disk.Copied {
		found.Copy = disk.WWID
	}
	if err := fs.Distinguish(ctx, n.host, found, marks); err != nil {
		return "", err
	}
	if readOnly {
		return kind, nil
	}
	backend.Progress(ctx, "check of the file system")
	return kind, fs.Fsck(ctx, n.host, rec.Device, kind)
}

// grow makes the file system at m as large as its device.
func (n *Node) grow(ctx context.Context, op string, rec *record, m *host.MountInfo, size int64) error {
	if rec.readOnly() {
		return nil
	}
	backend.Progress(ctx, "grow the file system")
	_, err := fs.Grow(ctx, n.host, op, fs.Mounted{Type: m.FsType, Device: rec.Device, Path: m.MountPoint}, size)
	return err
}
