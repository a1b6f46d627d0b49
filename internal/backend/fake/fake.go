// Package fake is a backend that lives in memory, for tests of everything above the contract. It has
// real state: volumes hold bytes, snapshots are copies, deletion gives space back. It implements
// every optional interface ([Basic] and its like hide some), passes package backendtest, and fails
// where a test arms it to ([Backend.Arm]).
package fake

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// What Kind declares.
const (
	KindName    = "fake"
	Granularity = 4 << 10
	MinSize     = 64 << 10
	MaxSize     = 1 << 40
)

// Options configure a fake.
type Options struct {
	Pool      string           // "": "fake"
	Node      string           // "": "node-1"
	Total     int64            // bytes; 0: 1 TiB
	NodeBound bool             // volumes are on Node only
	Linked    bool             // a volume with snapshots is not deleted: errs.InUse
	Outside   bool             // volumes are outside the cluster: reached by iSCSI, or with the class parameter protocol: nfs by mount
	Now       func() time.Time // nil: time.Now; when snapshots are taken
}

// Backend is a pool in memory. It is safe for concurrent use.
type Backend struct {
	disk *disk

	mu     sync.Mutex
	armed  Errors
	calls  map[string]int
	closed bool
}

var _ interface {
	backend.Backend
	backend.Expander
	backend.Cloner
	backend.Snapshotter
	backend.GroupSnapshotter
	backend.Activator
	backend.Marker
	backend.Checker
} = (*Backend)(nil)

var _ interface {
	backend.Modifier
	backend.Gauger
	backend.Importer
	backend.Attacher
} = (*Backend)(nil)

// disk is what outlives a process: [Backend.Reopen] shares it.
type disk struct {
	o Options

	mu        sync.Mutex
	volumes   map[backend.ID]*volume
	snapshots map[backend.ID]*snapshot
}

type volume struct {
	backend.Volume
	data     *content
	mark     backend.Mark
	active   bool
	opens    int
	problems []backend.Problem
	foreign  bool       // not made by us: see AddForeign
	from     backend.ID // what it was called before it was imported
	admitted map[string]admission
}

type snapshot struct {
	backend.Snapshot
	data *content
	mark backend.Mark
}

// New returns an empty pool.
func New(o Options) *Backend {
	o.Pool = cmp.Or(o.Pool, "fake")
	o.Node = cmp.Or(o.Node, "node-1")
	o.Total = cmp.Or(o.Total, 1<<40)
	if o.Now == nil {
		o.Now = time.Now
	}
	return over(&disk{o: o, volumes: map[backend.ID]*volume{}, snapshots: map[backend.ID]*snapshot{}})
}

func over(d *disk) *Backend { return &Backend{disk: d, calls: map[string]int{}} }

// Kind describes the fake. Pools that it opens with one name share their storage as long as the
// Kind is kept; o.Pool and o.Node are those of the configuration.
func Kind(o Options) backend.Kind {
	var mu sync.Mutex
	pools := map[string]*Backend{}
	return backend.Kind{
		Name:        KindName,
		Parameters:  o.parameters(),
		Granularity: Granularity,
		MinSize:     MinSize,
		MaxSize:     MaxSize,
		NodeBound:   o.NodeBound,
		Shares:      o.shares(),
		Mask:        func(map[string]string) backend.Mask { return backend.FullMask() },
		Open: func(_ context.Context, c backend.Config) (backend.Backend, error) {
			mu.Lock()
			defer mu.Unlock()
			if b := pools[c.Pool]; b != nil {
				return b.Reopen(), nil
			}
			o := o
			o.Pool, o.Node = c.Pool, c.Node
			pools[c.Pool] = New(o)
			return pools[c.Pool], nil
		},
	}
}

// Reopen returns the pool as the next process finds it: what is stored is there, what was armed,
// counted or closed in this one is not.
func (b *Backend) Reopen() *Backend { return over(b.disk) }

// Step says how one method fails. Before and After work once, Hold until it is set to nil.
type Step struct {
	Before error // the next call answers this and does nothing
	After  error // the next call does all of its work and then answers this
	// Hold is called at the start of every call, so that a test can keep it from going on: it
	// waits for what it likes, and its error becomes that of the call.
	Hold func(context.Context) error
}

// Errors are the failures that a fake is armed with: a field for each method.
type Errors struct {
	Down error // all calls answer this until it is nil: storage that cannot be reached

	Create, Delete, Get, List, Capacity, Close                              Step // After of a List comes halfway
	Expand, CloneSource                                                     Step
	CreateSnapshot, DeleteSnapshot, GetSnapshot, ListSnapshots, CreateGroup Step
	Activate, Deactivate, Mark, SetMark, Check, Modify, Gauges, Import      Step
	Attach, Detach                                                          Step
}

// Arm changes what will fail.
func (b *Backend) Arm(change func(*Errors)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.armed)
}

// Calls returns how often a method, "Create", was called on this Backend, failed calls included.
func (b *Backend) Calls(method string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[method]
}

// do runs one call: do has the disk to itself.
func do[T any](ctx context.Context, b *Backend, method string, step func(*Errors) *Step, work func(*disk) (T, error)) (T, error) {
	var none T
	if err := b.begin(ctx, method, step); err != nil {
		return none, err
	}
	b.disk.mu.Lock()
	value, err := work(b.disk)
	b.disk.mu.Unlock()
	if err == nil {
		err = b.once(&step(&b.armed).After)
	}
	if err != nil {
		return none, err
	}
	return value, nil
}

func (b *Backend) begin(ctx context.Context, method string, step func(*Errors) *Step) error {
	b.mu.Lock()
	b.calls[method]++
	hold, closed := step(&b.armed).Hold, b.closed
	b.mu.Unlock()
	if closed {
		return errs.E(errs.Unavailable, "fake: %s after Close", method)
	}
	if hold != nil {
		if err := hold(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	down := b.armed.Down
	b.mu.Unlock()
	if down != nil {
		return down
	}
	return b.once(&step(&b.armed).Before)
}

// once disarms and returns an error.
func (b *Backend) once(armed *error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := *armed
	*armed = nil
	return err
}
