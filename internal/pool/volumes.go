package pool

import (
	"context"
	"iter"
	"slices"
	"unicode/utf8"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// DefaultSize is the size in bytes of a volume whose caller does not care.
const DefaultSize = 1 << 30

// MaxNameLength is the longest name of a volume or snapshot in bytes: CSI's limit for strings.
const MaxNameLength = 128

// VolumeRequest asks a pool for a volume, as a caller does.
type VolumeRequest struct {
	Name       string
	Required   int64 // bytes; 0: as large as its source, or DefaultSize
	Limit      int64 // bytes; 0: none
	Source     backend.Source
	Parameters map[string]string // of the kind; may lack those with a default
	Nodes      []string          // where it may be, best first; empty is anywhere
	Limits     backend.Limits
	// FileSystems are the types that it will be used with, "" being the node's choice; none for a device. The volume
	// becomes as large as they need.
	FileSystems []string
}

// Create makes a volume or returns the one that the same request made before.
func (p *Pool) Create(ctx context.Context, r VolumeRequest) (backend.Volume, error) {
	b, encrypt, err := p.request(r)
	if err != nil {
		return backend.Volume{}, err
	}
	v, err := p.create(ctx, r, b)
	if err == nil && encrypt != nil {
		v.Access = v.Access.Encrypted(*encrypt)
	}
	return v, err
}

func (p *Pool) create(ctx context.Context, r VolumeRequest, b backend.Request) (backend.Volume, error) {
	return operate(ctx, p, "create", keylock.Create(b), func(ctx context.Context) (backend.Volume, error) {
		if err := p.fitSource(ctx, r, &b); err != nil {
			return backend.Volume{}, err
		}
		return p.b.Create(ctx, b)
	})
}

// request checks and completes all of r that can be without asking the storage.
func (p *Pool) request(r VolumeRequest) (b backend.Request, encrypt *backend.Encryption, err error) {
	if err := checkName(r.Name); err != nil {
		return backend.Request{}, nil, err
	}
	parameters, err := backend.Complete("parameters", p.Parameters(), r.Parameters)
	if err != nil {
		return backend.Request{}, nil, err
	}
	encrypt = encryption(parameters)
	if encrypt != nil && p.Shares(parameters) {
		return backend.Request{}, nil, errs.E(errs.Invalid, "parameters[%q]: these volumes are file systems on a server, with no device that a node could encrypt", paramEncryption)
	}
	required, err := r.required(encrypt != nil)
	if err != nil {
		return backend.Request{}, nil, err
	}
	size, err := p.size(required, r.Limit)
	if err != nil {
		return backend.Request{}, nil, err
	}
	if err := p.fitNodes(r.Nodes); err != nil {
		return backend.Request{}, nil, err
	}
	if !r.Limits.IsZero() && p.caps.Modifier == nil {
		return backend.Request{}, nil, p.noLimits()
	}
	return backend.Request{
		ID: backend.IDFor(r.Name), Name: r.Name, Size: size, Limit: r.Limit,
		Source: r.Source, Parameters: parameters, Nodes: r.Nodes, Limits: r.Limits,
	}, encrypt, nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errs.E(errs.Invalid, "name: missing")
	case len(name) > MaxNameLength:
		return errs.E(errs.Invalid, "name: %d bytes long, at most %d are allowed", len(name), MaxNameLength)
	case !utf8.ValidString(name):
		return errs.E(errs.Invalid, "name: %q is not UTF-8", name)
	}
	for _, c := range name {
		if c < ' ' || c >= 0x7f && c <= 0x9f {
			return errs.E(errs.Invalid, "name: has the control character %q", c)
		}
	}
	return nil
}

// size chooses the size for a range: the smallest that the kind can make.
func (p *Pool) size(required, limit int64) (int64, error) {
	switch {
	case required < 0:
		return 0, errs.E(errs.OutOfRange, "capacity_range.required_bytes: %d is negative", required)
	case limit < 0:
		return 0, errs.E(errs.OutOfRange, "capacity_range.limit_bytes: %d is negative", limit)
	case limit > 0 && limit < required:
		return 0, errs.E(errs.OutOfRange, "capacity_range.limit_bytes: %d is less than required_bytes %d", limit, required)
	case required > p.kind.MaxSize:
		return 0, p.tooLarge(required)
	}
	unit, least := p.kind.Granularity, max(required, p.kind.MinSize)
	if required == 0 {
		// Whatever fits will do, so a limit that is no multiple of the unit is rounded down.
		most := p.kind.MaxSize
		if limit > 0 {
			most = min(most, limit)
		}
		least = max(p.kind.MinSize, min(DefaultSize, most/unit*unit))
	}
	units := least / unit
	if least%unit != 0 {
		units++
	}
	if units > p.kind.MaxSize/unit {
		return 0, p.tooLarge(required)
	}
	size := units * unit
	if limit > 0 && size > limit {
		return 0, errs.E(errs.OutOfRange, "capacity_range.limit_bytes: %d leaves no possible size; the smallest here is %d", limit, size)
	}
	return size, nil
}

func (p *Pool) tooLarge(required int64) error {
	return errs.E(errs.OutOfRange, "capacity_range.required_bytes: %d is more than the %d that a %s volume can have",
		required, p.kind.MaxSize/p.kind.Granularity*p.kind.Granularity, p.kind.Name)
}

// fitNodes refuses a volume for nodes that this pool does not reach.
func (p *Pool) fitNodes(nodes []string) error {
	if len(nodes) == 0 || slices.ContainsFunc(nodes, func(n string) bool { return !p.elsewhere(n) }) {
		return nil
	}
	return errs.E(errs.NoSpace, "accessibility_requirements: pool %s is on node %s only, asked for %v", p.name, p.opts.Node, nodes)
}

// fitSource checks that the source can be copied and fits, and lets it decide a size left open. Once
// the volume exists the source is done with: it may be gone, or have grown.
func (p *Pool) fitSource(ctx context.Context, r VolumeRequest, b *backend.Request) error {
	if r.Source.IsZero() {
		return nil
	}
	if err := p.canCopy(r.Source); err != nil {
		return err
	}
	switch v, err := p.b.Get(ctx, b.ID); {
	case err == nil && r.Required == 0:
		b.Size = min(b.Size, v.Size)
		return nil
	case err == nil:
		return nil
	case !errs.Is(err, errs.NotFound):
		return err
	}
	least, err := p.sourceSize(ctx, r.Source)
	if errs.Is(err, errs.NotFound) && p.kind.NodeBound && p.opts.Node != "" && len(r.Nodes) > 0 {
		// This pool is one of several, each on a node of its own, and the scheduler chose the node. What
		// makes it choose again is to be told that there is no room here.
		return errs.E(errs.NoSpace, "volume_content_source: %w; if it is on another node, the copy has to be made there: node %s cannot have it", err, p.opts.Node)
	}
	if err != nil {
		return err
	}
	if r.Limit > 0 && least > r.Limit {
		return errs.E(errs.OutOfRange, "capacity_range.limit_bytes: %d is less than the source's %d", r.Limit, least)
	}
	if r.Required == 0 {
		b.Size, err = p.size(least, r.Limit)
		return err
	}
	if b.Size < least {
		return errs.E(errs.OutOfRange, "capacity_range.required_bytes: %d is less than the source's %d", r.Required, least)
	}
	return nil
}

func (p *Pool) canCopy(s backend.Source) error {
	switch {
	case s.Snapshot != "" && p.caps.Snapshotter == nil:
		return errs.E(errs.Unsupported, "volume_content_source: %s volumes have no snapshots", p.kind.Name)
	case s.Volume != "" && p.caps.Cloner == nil:
		return errs.E(errs.Unsupported, "volume_content_source: %s volumes cannot be cloned", p.kind.Name)
	case s.Snapshot != "" && s.Volume != "":
		return errs.E(errs.Invalid, "volume_content_source: both a snapshot and a volume are set")
	}
	return nil
}

// sourceSize is the least that a copy can have, if there can be one.
func (p *Pool) sourceSize(ctx context.Context, s backend.Source) (int64, error) {
	if s.Snapshot != "" {
		snap, err := p.caps.Snapshotter.GetSnapshot(ctx, s.Snapshot)
		return snap.Size, err
	}
	v, err := p.b.Get(ctx, s.Volume)
	if err != nil {
		return 0, err
	}
	return v.Size, p.caps.Cloner.CloneSource(ctx, s.Volume)
}

// Delete removes a volume; an absent one is no error.
func (p *Pool) Delete(ctx context.Context, id backend.ID) error {
	_, err := operate(ctx, p, "delete", keylock.Resize(id), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.b.Delete(ctx, id)
	})
	return err
}

// Get returns a volume.
func (p *Pool) Get(ctx context.Context, id backend.ID) (backend.Volume, error) {
	return p.b.Get(ctx, id)
}

// List yields the pool's volumes.
func (p *Pool) List(ctx context.Context) iter.Seq2[backend.Volume, error] { return p.b.List(ctx) }

// Capacity says what room there is on a node ("" = this one), in sizes that a Create can ask for.
func (p *Pool) Capacity(ctx context.Context, node string) (backend.Capacity, error) {
	if node != "" && p.elsewhere(node) {
		return backend.Capacity{}, nil
	}
	c, err := p.b.Capacity(ctx, node)
	if err != nil {
		return backend.Capacity{}, err
	}
	c.MaxVolume = min(c.MaxVolume, p.kind.MaxSize) / p.kind.Granularity * p.kind.Granularity
	if c.MaxVolume < p.kind.MinSize {
		c.MaxVolume = 0
	}
	return c, nil
}

// Expand makes a volume at least required bytes large. It never shrinks one.
func (p *Pool) Expand(ctx context.Context, id backend.ID, required, limit int64) (backend.Volume, error) {
	if p.caps.Expander == nil {
		return backend.Volume{}, errs.E(errs.Unsupported, "%s volumes cannot be expanded", p.kind.Name)
	}
	if required == 0 && limit == 0 {
		return backend.Volume{}, errs.E(errs.Invalid, "capacity_range: neither required_bytes nor limit_bytes is set")
	}
	size, err := p.size(required, limit)
	if err != nil {
		return backend.Volume{}, err
	}
	if required == 0 {
		size = 0 // as it is, if that is within the limit
	}
	return operate(ctx, p, "expand", keylock.Resize(id), func(ctx context.Context) (backend.Volume, error) {
		v, err := p.b.Get(ctx, id)
		if err != nil || v.Size >= size && (limit == 0 || v.Size <= limit) {
			return v, err
		}
		if limit > 0 && v.Size > limit {
			return v, errs.E(errs.OutOfRange, "capacity_range.limit_bytes: %d is less than the %d that the volume has; volumes never shrink", limit, v.Size)
		}
		return p.caps.Expander.Expand(ctx, id, size)
	})
}
