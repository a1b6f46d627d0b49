// Package backend is the contract between Dozo and a kind of storage.
//
// A pool is a place that can make volumes; a backend knows one kind of pool. What a backend must do
// is [Backend], six methods; what it can do besides is one optional interface each ([Expander],
// [Snapshotter], …), and a backend has a capability if and only if it implements the interface. How
// a node reaches a volume is data ([Access]) on which one host layer acts, so a backend never mounts.
//
// # What a backend may rely on
//
// All calls come through a pool (package pool), which has checked and completed them: IDs fit the
// grammar, sizes are positive multiples of [Kind.Granularity], parameters are declared ones with
// defaults filled in, a source has been found to exist and to be no larger than the request. The
// pool runs one call at a time for a volume or snapshot ID within its process, with a context that
// is not cancelled when the caller goes away; two processes may still overlap, so a backend holds
// what locks its storage has.
//
// # What it must do
//
// Every method is idempotent, safe for concurrent use, and may be killed at any point and called
// again. "Not found" is said only when the storage answered; if it could not be asked, that is
// errs.Unavailable. Package backendtest is this contract as a test suite: a backend is done when it
// passes.
package backend

import (
	"context"
	"iter"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Backend provisions volumes in one pool.
type Backend interface {
	// Create makes a volume, or returns the one with r.ID if it satisfies r (see [Volume.Satisfies],
	// whose error it returns otherwise: errs.Exists). A source in r is only ever of a sort that the
	// backend can copy: [Snapshotter] or [Cloner]. errs.NoSpace if there is no room.
	Create(ctx context.Context, r Request) (Volume, error)

	// Delete removes a volume and its data. Deleting an absent volume succeeds. errs.InUse if a node
	// has it open or something that cannot live without it depends on it.
	Delete(ctx context.Context, id ID) error

	// Get returns a volume: errs.NotFound if the storage says that there is none, any other kind
	// (usually errs.Unavailable) if it could not be asked.
	Get(ctx context.Context, id ID) (Volume, error)

	// List yields the volumes of this pool made by Dozo and no others, in no particular order. It
	// yields an error and stops when it cannot go on: half a list never looks like a whole one.
	List(ctx context.Context) iter.Seq2[Volume, error]

	// Capacity says what room there is, on one node where a pool is bound to nodes ("" = this one).
	Capacity(ctx context.Context, node string) (Capacity, error)

	// Close releases what the backend holds in this process. Volumes stay as they are.
	Close() error
}

// Expander is a backend whose volumes can grow, also while they are in use.
type Expander interface {
	// Expand makes a volume at least size bytes large and returns it. One that is already that
	// large is left alone: volumes never shrink.
	Expand(ctx context.Context, id ID, size int64) (Volume, error)
}

// Cloner is a backend whose Create takes [Source.Volume].
type Cloner interface {
	// CloneSource says that Create copies from volume id, or why it will not.
	CloneSource(ctx context.Context, id ID) error
}

// Snapshotter is a backend that keeps point-in-time copies, and whose Create takes [Source.Snapshot].
type Snapshotter interface {
	// CreateSnapshot copies what is in r.Source now, or returns the snapshot r.ID if it is of that
	// source (errs.Exists otherwise). The copy is at least crash-consistent: every write that was
	// acknowledged as durable before the call is in it, and none that came after it without it.
	CreateSnapshot(ctx context.Context, r SnapshotRequest) (Snapshot, error)
	// DeleteSnapshot removes a snapshot; an absent one is no error. Volumes made from it stay.
	DeleteSnapshot(ctx context.Context, id ID) error
	// GetSnapshot is to snapshots what Get is to volumes.
	GetSnapshot(ctx context.Context, id ID) (Snapshot, error)
	// ListSnapshots is to snapshots what List is to volumes.
	ListSnapshots(ctx context.Context) iter.Seq2[Snapshot, error]
}

// GroupSnapshotter is a [Snapshotter] that can copy several volumes at one point in time.
type GroupSnapshotter interface {
	// CreateGroup makes one snapshot for each request, all of the same instant, or none.
	// Each request has the same Group. Called again, it returns the same snapshots.
	CreateGroup(ctx context.Context, rs []SnapshotRequest) ([]Snapshot, error)
}

// Attacher is a backend that lets a node reach a volume only after it was asked to, and shuts it out again:
// what a node that is cut off still writes then never arrives.
type Attacher interface {
	// Attach admits a node and returns how it reaches the volume. Called again for the same node, it
	// returns the same. errs.InUse, with the other node's name, while another node is admitted, unless r is
	// shared; errs.NotFound if there is no such volume; errs.Exists if the node was admitted to read only, or to write too, and
	// r asks for the other, also if the storage does not enforce it. The access to a device is [ISCSI.Raw] from the first time on that
	// r.Block is set, as it is of what was imported, and of copies of either. It is [ISCSI.Copied] if the volume was made with a [Source].
	Attach(ctx context.Context, id ID, r AttachRequest) (Access, error)
	// Detach shuts a node out ("" = all nodes): when it returns, nothing that the node sends changes the volume. A node that was
	// not admitted is no error, nor is a volume that is gone.
	Detach(ctx context.Context, id ID, node string) error
}

// AttachRequest says which node is to be admitted to a volume.
type AttachRequest struct {
	Node      string
	Addresses []string // IP addresses that the node is known by; none: they are not known
	Shared    bool     // other nodes may be admitted as well
	ReadOnly  bool     // the node only reads, and sees to that itself where the storage cannot
	Block     bool     // it is used as a block device, as it is: from then on its content is its user's own business
}

// Activator is a backend whose volumes have to be made ready on the node that uses them, because
// they live there (lvchange -ay, losetup, drbdadm primary).
type Activator interface {
	// Activate makes the volume usable on this node and returns the path of its block device, whose
	// size is that of the volume by then, also if it grew since an earlier call.
	Activate(ctx context.Context, id ID) (device string, err error)
	// Deactivate undoes Activate, also for a volume that was deleted meanwhile; one that is not
	// active is no error. errs.InUse while something has the device open.
	Deactivate(ctx context.Context, id ID) error
}

// Marker is a backend that remembers beside a volume's data how far its first formatting got, so
// that a device which held a file system once is never formatted again, whatever a probe says.
type Marker interface {
	// Mark returns what was last set, or the zero Mark for a new volume. A copy has the mark that
	// its source had at the time of the copy, with [Mark.Copied] set.
	Mark(ctx context.Context, id ID) (Mark, error)
	// SetMark stores the mark durably before it returns.
	SetMark(ctx context.Context, id ID, m Mark) error
}

// Checker is a backend that can tell whether a volume is well.
type Checker interface {
	// Check returns what is wrong with the volume as seen from the storage; none if all is well.
	Check(ctx context.Context, id ID) ([]Problem, error)
}

// Modifier is a backend that keeps [Limits] with its volumes. It is the node that enforces them, on
// the volume's block device: a backend only has to remember.
type Modifier interface {
	// Modify sets a volume's limits, all of them, and returns it. They are durable when it returns. A
	// copy does not have its source's.
	Modify(ctx context.Context, id ID, l Limits) (Volume, error)
}

// Gauger is a backend that has more to say of its pool than its [Capacity].
type Gauger interface {
	// Gauges returns figures of the pool as they are now, for those who watch it; the same names each
	// time, without those that cannot be told. It is asked with every scrape, so it must cost little.
	Gauges(ctx context.Context) ([]Gauge, error)
}

// Importer is a backend that takes what Dozo did not make for a volume, without copying it.
type Importer interface {
	// Import makes what the storage calls from the volume r.ID, as it is: of r only ID, Name, Limits and
	// Parameters count. Its mark says from the first moment that it has data, as [Raw] does, so that it is
	// never formatted. Called again, it returns the same volume. errs.NotFound if there is no such thing,
	// errs.Exists if it or the ID is a volume already, errs.InUse while somebody has it open, errs.Invalid
	// for what cannot be a volume of this pool, with the reason. What was refused is as it was before.
	Import(ctx context.Context, from string, r Request) (Volume, error)
}

// Request asks for a volume.
type Request struct {
	ID         ID
	Name       string            // what the caller called it; kept with the volume, for people
	Size       int64             // bytes; > 0 and a multiple of the kind's granularity
	Limit      int64             // bytes; 0 is none, else ≥ Size
	Source     Source            // what the volume starts with; the zero Source is a blank one
	Parameters map[string]string // those the kind declares, each present
	Nodes      []string          // where it may be, best first; empty is anywhere
	Limits     Limits            // only ever of a Modifier; those of a volume that exists already stay
}

// Source is what a new volume is a copy of: at most one field is set.
type Source struct {
	Snapshot ID `json:"snapshot,omitempty"`
	Volume   ID `json:"volume,omitempty"`
}

// IsZero reports whether there is no source: the volume starts blank.
func (s Source) IsZero() bool { return s == Source{} }

// Volume is a volume as it is.
type Volume struct {
	ID     ID
	Name   string
	Size   int64 // bytes
	Source Source
	Nodes  []string // the only nodes that can reach it; empty is all
	Access Access
	Limits Limits
}

// Satisfies returns nil if v is what r asks for, so that a repeated Create can return it; otherwise
// an errs.Exists that names what differs. A volume larger than r.Size satisfies r up to r.Limit: it
// may have been expanded since the first call.
func (v Volume) Satisfies(r Request) error {
	switch {
	case v.Name != r.Name:
		return errs.E(errs.Exists, "name %q: its ID %s is taken by the volume named %q", r.Name, v.ID, v.Name)
	case v.Size < r.Size:
		return errs.E(errs.Exists, "name %q: a volume of %d bytes exists, %d are required; delete it or choose another name", r.Name, v.Size, r.Size)
	case r.Limit > 0 && v.Size > r.Limit:
		return errs.E(errs.Exists, "name %q: a volume of %d bytes exists, the limit is %d; delete it or choose another name", r.Name, v.Size, r.Limit)
	case v.Source != r.Source:
		return errs.E(errs.Exists, "name %q: a volume exists whose source is %+v, not %+v; choose another name", r.Name, v.Source, r.Source)
	}
	return nil
}

// SnapshotRequest asks for a snapshot of one volume.
type SnapshotRequest struct {
	ID     ID
	Name   string
	Source ID // the volume
	Group  ID // the group it is made with; empty for a snapshot on its own
}

// Snapshot is a point-in-time copy as it is.
type Snapshot struct {
	ID      ID
	Name    string
	Source  ID        // the volume it was taken of, which may be gone
	Size    int64     // bytes: the least a volume made from it can have
	Created time.Time // the instant whose data it holds
	Group   ID        // empty unless taken as one of a group
	Nodes   []string  // the only nodes that a volume made from it can be on; empty is all
}

// Satisfies returns nil if s is what r asks for, otherwise an errs.Exists that names what differs.
func (s Snapshot) Satisfies(r SnapshotRequest) error {
	switch {
	case s.Name != r.Name:
		return errs.E(errs.Exists, "snapshot name %q: its ID %s is taken by the snapshot named %q", r.Name, s.ID, s.Name)
	case s.Source != r.Source:
		return errs.E(errs.Exists, "snapshot name %q: it exists, of volume %s and not %s; choose another name", r.Name, s.Source, r.Source)
	case s.Group != r.Group:
		return errs.E(errs.Exists, "snapshot name %q: it exists in group %q and not %q", r.Name, s.Group, r.Group)
	}
	return nil
}

// Capacity is the room of a pool, in bytes.
type Capacity struct {
	Total     int64 // all that volumes can have, used or not
	Available int64 // what new volumes can still have together
	MaxVolume int64 // the largest volume that a Create could make now
}

// Gauge is one figure of a pool. Each Name is there once for a Part.
type Gauge struct {
	Name  string // as Prometheus has them, with the unit last: "thin_pool_size_bytes"; the kind's name goes before it
	Help  string // one sentence
	Part  string // what of the pool it is of, such as one of its volume groups
	Value float64
}

// Mark is how far the first formatting of a volume got; see [Marker].
type Mark struct {
	FS     string `json:"fs,omitempty"`     // the file system's type; empty: never begun
	Done   bool   `json:"done,omitempty"`   // false with FS set: mkfs was begun, and nothing was ever mounted
	Copied bool   `json:"copied,omitempty"` // the data came from another volume, file system UUID and all
}

// Raw is the [Mark.FS] of a volume whose content is its user's own business: it was handed out as a block
// device, or was there before Dozo. Done with it, it is never formatted, whatever a probe says.
const Raw = "raw"

// Severity grades a [Problem], in rising order.
type Severity uint8

// The severities, after CSI's VolumeHealthErrorType.
const (
	Degraded     Severity = iota + 1 // usable, not as it should be
	Inaccessible                     // cannot be read or written from here
	DataLoss                         // data is gone, or in all likelihood
)

// Problem is something that is wrong with a volume.
type Problem struct {
	Severity Severity
	Reason   string // CamelCase, stable, for programs
	Message  string // for people: what is wrong and what to do
}
