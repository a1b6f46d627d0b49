package remote

import (
	"context"
	"iter"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// CreateSnapshot is [backend.Snapshotter].
func (b *Backend) CreateSnapshot(ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
	return b.take(ctx, r, nil)
}

// take takes one snapshot, on its own or as a member of a group.
func (b *Backend) take(ctx context.Context, r backend.SnapshotRequest, group []backend.SnapshotRequest) (backend.Snapshot, error) {
	o, err := ensure[v1alpha1.NodeSnapshot](ctx, b, want[*v1alpha1.NodeSnapshot]{
		id: r.ID,
		fresh: func(ctx context.Context) (*v1alpha1.NodeSnapshot, error) {
			node, err := b.sourceNode(ctx, backend.Source{Volume: r.Source})
			return record.NewSnapshot(b.pool, node, r, group), err
		},
		fits: func(o *v1alpha1.NodeSnapshot) error {
			s, _ := record.Snapshot(o)
			return s.Satisfies(r)
		},
		same: func(o *v1alpha1.NodeSnapshot) bool {
			return record.SnapshotRequest(o) == r && slices.Equal(record.GroupRequests(o), group)
		},
	})
	if err != nil {
		return backend.Snapshot{}, err
	}
	s, _ := record.Snapshot(o)
	return s, nil
}

// DeleteSnapshot is [backend.Snapshotter].
func (b *Backend) DeleteSnapshot(ctx context.Context, id backend.ID) error {
	return remove[v1alpha1.NodeSnapshot](ctx, b, id, "")
}

// GetSnapshot is [backend.Snapshotter].
func (b *Backend) GetSnapshot(ctx context.Context, id backend.ID) (backend.Snapshot, error) {
	o, err := b.snapshot(ctx, id)
	if err != nil {
		return backend.Snapshot{}, err
	}
	s, _ := record.Snapshot(o)
	return s, nil
}

// ListSnapshots is [backend.Snapshotter].
func (b *Backend) ListSnapshots(ctx context.Context) iter.Seq2[backend.Snapshot, error] {
	return func(yield func(backend.Snapshot, error) bool) {
		for next := ""; ; {
			page := v1alpha1.NodeSnapshotList{ListMeta: metav1.ListMeta{Continue: next}}
			if err := b.list(ctx, &page); err != nil {
				yield(backend.Snapshot{}, err)
				return
			}
			for i := range page.Items {
				if s, exists := record.Snapshot(&page.Items[i]); exists && !yield(s, nil) {
					return
				}
			}
			if next = page.Continue; next == "" {
				return
			}
		}
	}
}

// CreateGroup is [backend.GroupSnapshotter]. Every member's object names all, and the node takes them all at
// once when it meets the first; the others find theirs taken.
func (b *Backend) CreateGroup(ctx context.Context, rs []backend.SnapshotRequest) ([]backend.Snapshot, error) {
	group := slices.SortedFunc(slices.Values(rs), func(a, b backend.SnapshotRequest) int { return compare(a.ID, b.ID) })
	if err := b.groupFits(ctx, rs, group); err != nil {
		return nil, err
	}
	made, failed := make([]backend.Snapshot, len(rs)), make([]error, len(rs))
	var all sync.WaitGroup
	for i, r := range rs {
		all.Go(func() { made[i], failed[i] = b.take(ctx, r, group) })
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return made, nil
}

func compare(a, b backend.ID) int {
	if a < b {
		return -1
	}
	return 1
}

// groupFits refuses a group that cannot be before anything is made: one whose volumes are on several nodes,
// or whose name is taken by one of other volumes.
func (b *Backend) groupFits(ctx context.Context, rs, group []backend.SnapshotRequest) error {
	nodes := map[string]backend.ID{}
	for _, r := range rs {
		o, err := get[v1alpha1.NodeSnapshot](ctx, b, r.ID)
		switch {
		case err == nil && exists(o):
			s, _ := record.Snapshot(o)
			if err := s.Satisfies(r); err != nil {
				return err
			}
			if !slices.Equal(record.GroupRequests(o), group) {
				return errs.E(errs.Exists, "group %s exists with other members; choose another name", r.Group)
			}
			nodes[o.Spec.Node] = r.Source
			continue
		case err != nil && !errs.Is(err, errs.NotFound):
			return err
		}
		v, err := b.volume(ctx, r.Source)
		if err != nil {
			return err
		}
		nodes[v.Spec.Node] = r.Source
	}
	if len(nodes) > 1 {
		return errs.E(errs.Unsupported, "source_volume_ids: the volumes are on several nodes (%v), which have no instant in common", nodes)
	}
	return nil
}
