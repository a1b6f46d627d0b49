package backendtest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

type (
	attachHook = func(*fake.Backend, context.Context, backend.ID, backend.AttachRequest) (backend.Access, error)
	detachHook = func(*fake.Backend, context.Context, backend.ID, string) error
)

func attachMutants() []mutant {
	attaches := func(h attachHook) func(bool) hooks { return always(hooks{attach: h}) }
	detaches := func(h detachHook) func(bool) hooks { return always(hooks{detach: h}) }
	return []mutant{
		{"an access is another one each time", "attach twice is one access", func(bool) hooks { return newAccessEachTime() }},
		{"an access leads to another volume", "attach twice is one access", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			_, err := f.Attach(ctx, id, r)
			return backend.LocalAccess("fake", "law-b"), err
		})},
		{"what is absent is attached", "what is absent is not found", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			a, err := f.Attach(ctx, id, r)
			if errs.Is(err, errs.NotFound) {
				err = nil
			}
			return a, err
		})},
		{"who reads is let write", "a node is not admitted otherwise than it was", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			r.ReadOnly = false
			return f.Attach(ctx, id, r)
		})},
		{"what is raw is forgotten", "what was a block device is raw", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			a, err := f.Attach(ctx, id, r)
			if a.ISCSI != nil {
				a.ISCSI.Raw = r.Block
			}
			return a, err
		})},
		{"what is only to be read is not raw", "what was a block device is raw", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			a, err := f.Attach(ctx, id, r)
			if a.ISCSI != nil {
				a.ISCSI.Raw = a.ISCSI.Raw && !(id == "law-b" && r.Block && r.ReadOnly)
			}
			return a, err
		})},
		{"copies are not raw", "a copy of what was a block device is raw", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			a, err := f.Attach(ctx, id, r)
			if a.ISCSI != nil && id != "law-a" {
				a.ISCSI.Raw = false
			}
			return a, err
		})},
		{"copies of copies do not say it", "a copy says that it is one", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			a, err := f.Attach(ctx, id, r)
			if a.ISCSI != nil && id == "law-again" {
				a.ISCSI.Copied = false
			}
			return a, err
		})},
		{"all are copies", "a copy says that it is one", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			a, err := f.Attach(ctx, id, r)
			if a.ISCSI != nil {
				a.ISCSI.Copied = true
			}
			return a, err
		})},
		{"everybody is admitted", "a second node is kept out", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			r.Shared = true
			return f.Attach(ctx, id, r)
		})},
		{"who keeps a node out is not said", "a second node is kept out", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			a, err := f.Attach(ctx, id, r)
			if errs.Is(err, errs.InUse) {
				err = errs.E(errs.InUse, "mapped")
			}
			return a, err
		})},
		{"nobody shares", "nodes that share are admitted together", attaches(func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
			r.Shared = false
			return f.Attach(ctx, id, r)
		})},
		{"a detachment is of all nodes", "nodes that share are admitted together", detaches(func(f *fake.Backend, ctx context.Context, id backend.ID, _ string) error {
			return f.Detach(ctx, id, "")
		})},
		{"a detachment is of all volumes", "detach twice is one detachment", detaches(func(f *fake.Backend, ctx context.Context, id backend.ID, node string) error {
			for v := range f.List(ctx) {
				if err := f.Detach(ctx, v.ID, node); err != nil {
					return err
				}
			}
			return f.Detach(ctx, id, node)
		})},
		{"who was not attached cannot be detached", "detach twice is one detachment", detaches(func(f *fake.Backend, ctx context.Context, id backend.ID, node string) error {
			if node != "" && fmt.Sprint(f.Attached(id)) != "["+node+"]" {
				return errs.E(errs.NotFound, "%s is not attached to %s", id, node)
			}
			return f.Detach(ctx, id, node)
		})},
		{"no node is nobody", "detach of no node is of all", detaches(func(f *fake.Backend, ctx context.Context, id backend.ID, node string) error {
			if node == "" {
				return nil
			}
			return f.Detach(ctx, id, node)
		})},
		{"delete detaches", "an attached volume is not deleted", always(hooks{delete: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
			if err := f.Detach(ctx, id, ""); err != nil {
				return err
			}
			return f.Delete(ctx, id)
		}})},
		{"an expansion detaches", "an attached volume grows", always(hooks{expand: func(f *fake.Backend, ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
			if err := f.Detach(ctx, id, ""); err != nil {
				return backend.Volume{}, err
			}
			return f.Expand(ctx, id, size)
		}})},
		{"a snapshot of what is attached is refused", "an attached volume is copied", always(hooks{
			createSnapshot: func(f *fake.Backend, ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
				if len(f.Attached(r.Source)) > 0 {
					return backend.Snapshot{}, errs.E(errs.InUse, "%s is attached", r.Source)
				}
				return f.CreateSnapshot(ctx, r)
			},
		})},
		{"a node is out when nobody answers", "a node that nobody can shut out is not out", detaches(func(f *fake.Backend, ctx context.Context, id backend.ID, node string) error {
			if err := f.Detach(ctx, id, node); !errs.Is(err, errs.Unavailable) {
				return err
			}
			return nil
		})},
		{"one mapping at a time", "many callers of one node get one access", always(slowAttach())},
		{"looks before it admits", "one of many nodes is admitted", func(bool) hooks { return hooks{attach: looksFirst} }},
		{"a cancelled attach stays begun", "a cancelled attach can be finished", func(bool) hooks { return stuckAttach() }},
		{"a cancelled detach stays begun", "a cancelled detach can be finished", func(bool) hooks { return stuckDetach() }},
	}
}

func newAccessEachTime() hooks {
	var n atomic.Int32
	return hooks{attach: func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
		_, err := f.Attach(ctx, id, r)
		return backend.LocalAccess("fake", backend.ID(fmt.Sprint(n.Add(1)))), err
	}}
}

// slowAttach fails who comes while another is at it, as a temporary file would.
func slowAttach() hooks {
	alone := oneAtATime()
	return hooks{attach: func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (a backend.Access, err error) {
		return a, alone(func() error {
			a, err = f.Attach(ctx, id, r)
			return err
		})
	}}
}

// looksFirst is right as long as nobody comes between the look and the admission.
func looksFirst(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
	if nodes := f.Attached(id); !r.Shared && len(nodes) > 0 && nodes[0] != r.Node {
		return backend.Access{}, errs.E(errs.InUse, "attached to %v", nodes)
	}
	time.Sleep(5 * time.Millisecond)
	r.Shared = true
	return f.Attach(ctx, id, r)
}

func stuckAttach() hooks {
	var stuck atomic.Bool
	return hooks{attach: func(f *fake.Backend, ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
		if stuck.Load() {
			return backend.Access{}, errs.E(errs.Aborted, "locked")
		}
		stuck.Store(ctx.Err() != nil)
		return f.Attach(ctx, id, r)
	}}
}

func stuckDetach() hooks {
	var stuck atomic.Bool
	return hooks{detach: func(f *fake.Backend, ctx context.Context, id backend.ID, node string) error {
		if stuck.Load() && node != "" {
			return errs.E(errs.Aborted, "locked")
		}
		stuck.Store(ctx.Err() != nil)
		return f.Detach(ctx, id, node)
	}}
}
