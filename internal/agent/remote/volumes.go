package remote

import (
	"context"
	"iter"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Create is [backend.Backend]. A volume that exists stays on its node, whatever r.Nodes says.
func (b *Backend) Create(ctx context.Context, r backend.Request) (backend.Volume, error) {
	o, err := ensure[v1alpha1.NodeVolume](ctx, b, want[*v1alpha1.NodeVolume]{
		id: r.ID,
		fresh: func(ctx context.Context) (*v1alpha1.NodeVolume, error) {
			if err := b.admits(ctx); err != nil {
				return nil, err
			}
			node, err := b.place(ctx, r)
			return record.NewVolume(b.pool, node, r), err
		},
		fits: func(o *v1alpha1.NodeVolume) error {
			v, _ := record.Volume(o)
			return v.Satisfies(r)
		},
		same: func(o *v1alpha1.NodeVolume) bool {
			was := record.Request(o)
			return was.Name == r.Name && was.Size == r.Size && was.Limit == r.Limit && was.Source == r.Source
		},
	})
	if err != nil {
		return backend.Volume{}, err
	}
	v, _ := record.Volume(o)
	return v, nil
}

// Delete is [backend.Backend].
func (b *Backend) Delete(ctx context.Context, id backend.ID) error {
	return remove[v1alpha1.NodeVolume](ctx, b, id, "")
}

// Get is [backend.Backend].
func (b *Backend) Get(ctx context.Context, id backend.ID) (backend.Volume, error) {
	o, err := b.volume(ctx, id)
	if err != nil {
		return backend.Volume{}, err
	}
	v, _ := record.Volume(o)
	return v, nil
}

// pageSize is how many objects are read at a time.
const pageSize = 500

// List is [backend.Backend].
func (b *Backend) List(ctx context.Context) iter.Seq2[backend.Volume, error] {
	return func(yield func(backend.Volume, error) bool) {
		for next := ""; ; {
			page := v1alpha1.NodeVolumeList{ListMeta: metav1.ListMeta{Continue: next}}
			if err := b.list(ctx, &page); err != nil {
				yield(backend.Volume{}, err)
				return
			}
			for i := range page.Items {
				if v, exists := record.Volume(&page.Items[i]); exists && !yield(v, nil) {
					return
				}
			}
			if next = page.Continue; next == "" {
				return
			}
		}
	}
}

// list reads the next page of the pool's objects.
func (b *Backend) list(ctx context.Context, page client.ObjectList) error {
	return asked(b.view.api.List(ctx, page, client.MatchingFields{"spec.pool": b.pool}, client.Limit(pageSize), client.Continue(page.GetContinue())))
}

// Expand is [backend.Expander]. A growth that fails for good is taken back, so that the object asks for what
// can be.
func (b *Backend) Expand(ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
	for {
		o, err := b.volume(ctx, id)
		if err != nil {
			return backend.Volume{}, err
		}
		v, _ := record.Volume(o)
		switch {
		case v.Size >= size:
			return v, nil
		case gone(o) && !record.Answered(o):
			return backend.Volume{}, errs.E(errs.Aborted, "volume %s is being deleted", id)
		}
		o.Spec.Size, o.Spec.Absent = record.Bytes(max(size, o.Spec.Size.Value())), false
		o.Spec.Attempt++
		if o, err = raced(o, b.view.api.Update(ctx, o)); err == nil && o != nil {
			o, err = answered(ctx, b.view, o)
		}
		if err != nil {
			return backend.Volume{}, err
		}
		if o == nil {
			continue
		}
		if err := record.Answer(o); err != nil {
			return backend.Volume{}, b.undoExpand(ctx, o, err)
		}
	}
}

// undoExpand has the object ask for what there is, after a growth that failed for a reason.
func (b *Backend) undoExpand(ctx context.Context, o *v1alpha1.NodeVolume, reason error) error {
	if final(reason) && o.Status.Size != nil {
		o.Spec.Size = *o.Status.Size
		if _, err := raced(o, b.view.api.Update(ctx, o)); err != nil {
			return errs.E(errs.KindOf(reason), "%w (and the larger size is still asked for: %w)", reason, err)
		}
	}
	return reason
}

// Modify is [backend.Modifier].
func (b *Backend) Modify(ctx context.Context, id backend.ID, l backend.Limits) (backend.Volume, error) {
	for {
		o, err := b.volume(ctx, id)
		if err != nil {
			return backend.Volume{}, err
		}
		switch {
		case gone(o) && !record.Answered(o):
			return backend.Volume{}, errs.E(errs.Aborted, "volume %s is being deleted", id)
		case record.Limits(o) == l && record.Answered(o) && record.Answer(o) == nil:
			v, _ := record.Volume(o)
			return v, nil
		}
		record.SetLimits(o, l)
		o.Spec.Absent = false
		o.Spec.Attempt++
		if o, err = raced(o, b.view.api.Update(ctx, o)); err == nil && o != nil {
			o, err = answered(ctx, b.view, o)
		}
		if err == nil && o != nil {
			err = record.Answer(o)
		}
		if err != nil {
			return backend.Volume{}, err
		}
	}
}

// CloneSource is [backend.Cloner].
func (b *Backend) CloneSource(ctx context.Context, id backend.ID) error {
	_, err := b.volume(ctx, id)
	return err
}

// Check is [backend.Checker]: what the node found when it last looked.
func (b *Backend) Check(ctx context.Context, id backend.ID) ([]backend.Problem, error) {
	o, err := b.volume(ctx, id)
	if err != nil {
		return nil, err
	}
	problems := record.Problems(o)
	switch answer := record.Answer(o); {
	case record.Lost(o):
		problems = append(problems, backend.Problem{Severity: backend.Inaccessible, Reason: v1alpha1.ReasonNodeGone,
			Message: "node " + o.Spec.Node + " has left the cluster; what it has comes back with it"})
	case errs.Is(answer, errs.NotFound):
		problems = append(problems, backend.Problem{Severity: backend.DataLoss, Reason: record.Reason(answer), Message: answer.Error()})
	}
	return problems, nil
}

// Capacity is [backend.Backend]: of one node, or of all that answer together.
func (b *Backend) Capacity(ctx context.Context, node string) (backend.Capacity, error) {
	pools, err := b.nodePools(ctx, b.view.api)
	if err != nil {
		return backend.Capacity{}, err
	}
	var sum backend.Capacity
	silent := errs.E(errs.Unavailable, "pool %s: no node has it yet", b.pool)
	ready := 0
	for _, p := range pools {
		if node != "" && p.node != node {
			continue
		}
		if p.err != nil {
			silent = errs.E(errs.Unavailable, "node %s: %w", p.node, p.err)
			continue
		}
		ready++
		sum.Total += p.Capacity.Value()
		sum.Available += p.Available.Value()
		sum.MaxVolume = max(sum.MaxVolume, p.MaximumVolumeSize.Value())
	}
	known := slices.ContainsFunc(pools, func(p nodePool) bool { return p.node == node })
	if ready == 0 && (node == "" || known) {
		return backend.Capacity{}, silent
	}
	return sum, nil // a node that does not have the pool has no room in it
}
