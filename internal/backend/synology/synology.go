package synology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// Backend is a pool on a NAS. It is safe for concurrent use.
type Backend struct {
	nas   *dsm.Client
	pool  string
	opts  options
	log   *slog.Logger
	pause time.Duration // between two looks at what the NAS is doing, at first
	locks *keylock.Locks

	mu        sync.Mutex
	limits    *dsm.Limits     // nil: not asked yet
	conformed map[string]bool // targets whose CHAP was set since the start, as it may have changed
}

var _ interface {
	backend.Backend
	backend.Expander
	backend.Cloner
	backend.Snapshotter
	backend.Attacher
	backend.Checker
	backend.Gauger
	backend.Importer
} = (*Backend)(nil)

// process is what the pools of a process have in common, also those of one name that are opened one after the other: what the one
// before has under way goes on when its options or its secret change.
type process struct {
	logins dsm.Logins // pools of one NAS have one account, most of the time
	// locks are of what several volumes or nodes have in common: targets, and the rules of a share. Their names have the pool's in them.
	locks *keylock.Locks
}

func newProcess() *process { return &process{locks: keylock.New(time.Now)} }

// open does not ask the NAS anything: one that is down now may answer later, and until then calls say so. It is
// asked again after pause, if a read got no answer or something is not done yet; 0: as is right for a NAS. A pool in no
// process has nothing in common with others.
func open(c backend.Config, pause time.Duration, in *process) (*Backend, error) {
	if in == nil {
		in = newProcess()
	}
	o, err := read(c)
	if err != nil {
		return nil, err
	}
	log := cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	o.dsm.Log, o.dsm.Pause, o.dsm.Logins = log, pause, &in.logins
	nas, err := dsm.New(o.dsm)
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "options: %w", err)
	}
	return &Backend{nas: nas, pool: c.Pool, opts: o, log: log, pause: cmp.Or(pause, firstPause), locks: in.locks, conformed: map[string]bool{}}, nil
}

// logoutPatience is how long the NAS has to answer a logout; a session that is left ends by itself when it was idle.
const logoutPatience = 5 * time.Second

// Close logs out.
func (b *Backend) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), logoutPatience)
	defer cancel()
	if err := b.nas.Close(ctx); err != nil {
		b.log.Debug("the session at the NAS ends when it has been idle", "pool", b.pool, "error", err)
	}
	return nil
}

// protocol is what a volume with these parameters of a class is reached by.
func (b *Backend) protocol(parameters map[string]string) string {
	return cmp.Or(parameters["protocol"], b.opts.protocol)
}

// thing is a volume as it is on the NAS: exactly one of lun and share is set.
type thing struct {
	lun   *dsm.LUN
	share *dsm.Share
	mark  mark
}

// errStranger is in the error about what has the name of a volume and is none.
var errStranger = errors.New("its description does not say that it is of this pool and cluster")

// find looks for a volume, first where the pool usually makes them. errs.NotFound if the NAS says of both that there is none.
func (b *Backend) find(ctx context.Context, id backend.ID) (thing, error) {
	look := []func(context.Context, backend.ID) (thing, error){b.findLUN, b.findShare}
	if isShared(b.opts.protocol) {
		look[0], look[1] = look[1], look[0]
	}
	t, err := look[0](ctx, id)
	if errs.Is(err, errs.NotFound) {
		t, err = look[1](ctx, id)
	}
	if errs.Is(err, errs.NotFound) || b.hasNoLUNs(err) {
		err = errs.E(errs.NotFound, "pool %s has no volume %s", b.pool, id)
	}
	return t, err
}

// hasNoLUNs reports whether an error says that the NAS has no SAN Manager, where none is needed. In a pool of LUNs it is no
// answer to whether there is one: somebody may have removed SAN Manager.
func (b *Backend) hasNoLUNs(err error) bool {
	return isShared(b.opts.protocol) && errs.Is(err, errs.Unsupported)
}

// lunsWithSnapshots are all of the NAS, with the snapshots that are of this pool and cluster.
func (b *Backend) lunsWithSnapshots(ctx context.Context) ([]dsm.LUN, error) {
	luns, err := b.nas.LUNsWithSnapshots(ctx, func(s dsm.Snapshot) bool {
		_, ours := b.owns(s.Description)
		return ours
	})
	if b.hasNoLUNs(err) {
		return nil, nil
	}
	return luns, err
}

// findLUN finds a LUN that is a volume. One of its name that is somebody else's is none.
func (b *Backend) findLUN(ctx context.Context, id backend.ID) (thing, error) {
	l, err := b.nas.LUN(ctx, b.lunName(id))
	if err != nil {
		return thing{}, err
	}
	m, ok := b.owns(l.Description)
	if !ok || m.ID != string(id) {
		return thing{}, errs.E(errs.NotFound, "LUN %s: %w", l.Name, errStranger)
	}
	return thing{lun: &l, mark: m}, nil
}

// findShare finds a share that is a volume.
func (b *Backend) findShare(ctx context.Context, id backend.ID) (thing, error) {
	s, err := b.nas.Share(ctx, b.shareName(id))
	if err != nil {
		return thing{}, err
	}
	m, ok := b.owns(s.Description)
	if !ok || m.ID != string(id) {
		return thing{}, errs.E(errs.NotFound, "share %s: %w", s.Name, errStranger)
	}
	return thing{share: &s, mark: m}, nil
}

// volume is what a thing is to the pool.
func (b *Backend) volume(t thing) backend.Volume {
	v := backend.Volume{ID: backend.ID(t.mark.ID), Name: t.mark.Name, Source: t.mark.Source}
	if t.share != nil {
		v.Size, v.Access = shareSize(*t.share, t.mark), b.shareAccess(t)
		return v
	}
	v.Size, v.Access = int64(t.lun.Size), backend.ISCSIAccess(dsm.WWID(t.lun.UUID), nil)
	return v
}

// Get is [backend.Backend].
func (b *Backend) Get(ctx context.Context, id backend.ID) (backend.Volume, error) {
	t, err := b.find(ctx, id)
	if err != nil {
		return backend.Volume{}, err
	}
	return b.volume(t), nil
}

// List is [backend.Backend]: two calls.
func (b *Backend) List(ctx context.Context) iter.Seq2[backend.Volume, error] {
	return func(yield func(backend.Volume, error) bool) {
		things, err := b.things(ctx)
		for _, t := range things {
			if !yield(b.volume(t), nil) {
				return
			}
		}
		if err != nil {
			yield(backend.Volume{}, err)
		}
	}
}

func (b *Backend) things(ctx context.Context) ([]thing, error) {
	luns, err := b.nas.LUNs(ctx)
	if err != nil && !b.hasNoLUNs(err) {
		return nil, err
	}
	shares, err := b.nas.Shares(ctx)
	if err != nil {
		return nil, err
	}
	var all []thing
	for _, l := range luns {
		if m, ok := b.owns(l.Description); ok && l.Name == b.lunName(backend.ID(m.ID)) {
			all = append(all, thing{lun: &l, mark: m})
		}
	}
	for _, s := range shares {
		if m, ok := b.owns(s.Description); ok && s.Name == b.shareName(backend.ID(m.ID)) {
			all = append(all, thing{share: &s, mark: m})
		}
	}
	return all, nil
}

// Create is [backend.Backend].
func (b *Backend) Create(ctx context.Context, r backend.Request) (backend.Volume, error) {
	protocol := b.protocol(r.Parameters)
	t, err := b.find(ctx, r.ID)
	switch {
	case err == nil && t.protocol() != protocol:
		return backend.Volume{}, errs.E(errs.Exists, "name %q: a volume exists that is not reached by %s, as parameters[\"protocol\"] asks; choose another name", r.Name, protocol)
	case err != nil && !errs.Is(err, errs.NotFound):
		return backend.Volume{}, err
	case isShared(protocol) && err == nil:
		return b.finishShare(ctx, t, r)
	case isShared(protocol):
		return b.makeShare(ctx, r, protocol)
	case err == nil:
		if v, err := b.finishLUN(ctx, t, r); !errs.Is(err, errs.NotFound) {
			return v, err
		}
		// An earlier call was deleting it still.
	}
	return b.makeLUN(ctx, r)
}

// Delete is [backend.Backend].
func (b *Backend) Delete(ctx context.Context, id backend.ID) error {
	t, err := b.find(ctx, id)
	switch {
	case errs.Is(err, errs.NotFound):
		// The snapshot of a clone that never came to be may be left.
		return b.dropCopies(ctx, id)
	case err != nil:
		return err
	case t.share != nil:
		return b.deleteShare(ctx, t)
	}
	return b.deleteLUN(ctx, t)
}

// Expand is [backend.Expander].
func (b *Backend) Expand(ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
	t, err := b.find(ctx, id)
	switch {
	case err != nil:
		return backend.Volume{}, err
	case b.volume(t).Size >= size:
		return b.volume(t), nil
	case t.share != nil:
		return b.expandShare(ctx, id, size)
	}
	return b.expandLUN(ctx, t, size)
}

// Attach is [backend.Attacher].
func (b *Backend) Attach(ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
	if r.Node == "" {
		return backend.Access{}, errs.E(errs.Invalid, "node: missing")
	}
	t, err := b.find(ctx, id)
	switch {
	case err != nil:
		return backend.Access{}, err
	case t.share != nil:
		return b.attachShare(ctx, id, r)
	}
	return b.attachLUN(ctx, t, r)
}

// Detach is [backend.Attacher].
func (b *Backend) Detach(ctx context.Context, id backend.ID, node string) error {
	t, err := b.find(ctx, id)
	switch {
	case errs.Is(err, errs.NotFound):
		if err := b.estrangedShare(ctx, id); err != nil {
			return err
		}
		if t.lun, err = b.estrangedLUN(ctx, id); err != nil {
			return err
		}
	case err != nil:
		return err
	case t.share != nil:
		return b.detachShare(ctx, id, node)
	}
	return b.detachLUN(ctx, t.lun, id, node)
}

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 3 * time.Second
)

// until looks again and again, ever less often, until done. errs.Aborted with what is waited for when ctx ends first.
func (b *Backend) until(ctx context.Context, what string, done func() (bool, error)) error {
	for pause := b.pause; ; pause = min(pause*3/2, longestPause) {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		backend.Progress(ctx, what)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errs.E(errs.Aborted, "%s; call again: %w", what, ctx.Err())
		}
	}
}

// ceilings returns what the model allows, which does not change while the NAS is the same.
func (b *Backend) ceilings(ctx context.Context) (dsm.Limits, error) {
	b.mu.Lock()
	known := b.limits
	b.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	l, err := b.nas.Limits(ctx)
	if err != nil {
		return dsm.Limits{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limits = &l
	return l, nil
}

// explain names the ceiling that DSM refused something for.
func (b *Backend) explain(ctx context.Context, err error) error {
	code := dsm.CodeOf(err)
	if code != dsm.CodeNoMoreLUNs && code != dsm.CodeNoMoreTargets && code != dsm.CodeNoMoreSnapshots {
		return err
	}
	l, unknown := b.ceilings(ctx)
	most := func(n dsm.Number) string {
		if unknown != nil || n == 0 {
			return "as many as its model allows"
		}
		return fmt.Sprint(int64(n))
	}
	switch code {
	case dsm.CodeNoMoreLUNs:
		return errs.E(errs.NoSpace, "the NAS has %s LUNs (max_iscsiluns), those of virtual machines included, and takes no more; delete some, or use another NAS, or shares (protocol nfs or smb): %w", most(l.LUNs), err)
	case dsm.CodeNoMoreTargets:
		return errs.E(errs.NoSpace, "the NAS has %s iSCSI targets (max_iscsitrgs) and takes no more: each node that uses its LUNs needs one (each attached volume with targets: volume), and one that a LUN left (.W and digits in its name) "+
			"gets no other and stays until its last has left; drain nodes that have such, delete some that are not Dozo's in SAN Manager, or use another NAS: %w", most(l.Targets), err)
	}
	return errs.E(errs.NoSpace, "the LUN has %s snapshots (max_snapshot_per_lun) and takes no more; delete some: %w", most(l.SnapshotsPerLUN), err)
}
