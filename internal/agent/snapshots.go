package agent

import (
	"context"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

func (a *Agent) addSnapshots(mgr manager.Manager, s *session) error {
	r := &items[v1alpha1.NodeSnapshot, *v1alpha1.NodeSnapshot]{agent: a, session: s, make: makeSnapshot, remove: removeSnapshot}
	return builder.ControllerManagedBy(mgr).Named("nodesnapshot").
		For(&v1alpha1.NodeSnapshot{}).
		WithOptions(workers(concurrency)).
		Complete(r)
}

// makeSnapshot takes a snapshot, with all those of its group if it has one.
func makeSnapshot(ctx context.Context, p *pool.Pool, o *v1alpha1.NodeSnapshot) error {
	r := record.SnapshotRequest(o)
	if o.Status.ID != "" {
		_, err := p.GetSnapshot(ctx, r.ID)
		if errs.Is(err, errs.NotFound) {
			return vanished("snapshot", p, err)
		}
		return err
	}
	s, err := take(ctx, p, o, r)
	if err == nil {
		record.SetSnapshot(o, s)
	}
	return err
}

func take(ctx context.Context, p *pool.Pool, o *v1alpha1.NodeSnapshot, r backend.SnapshotRequest) (backend.Snapshot, error) {
	if r.Group == "" {
		return p.SnapshotExact(ctx, r)
	}
	made, err := p.GroupExact(ctx, record.GroupRequests(o))
	if err != nil {
		return backend.Snapshot{}, err
	}
	i := slices.IndexFunc(made, func(s backend.Snapshot) bool { return s.ID == r.ID })
	if i < 0 {
		return backend.Snapshot{}, errs.E(errs.Invalid, "spec.group.members: %s is not among them", r.ID)
	}
	return made[i], nil
}

// removeSnapshot deletes the snapshot that the object stands for, and no other of its name.
func removeSnapshot(ctx context.Context, p *pool.Pool, o *v1alpha1.NodeSnapshot) error {
	r := record.SnapshotRequest(o)
	s, err := p.GetSnapshot(ctx, r.ID)
	switch {
	case errs.Is(err, errs.NotFound): // what is left of an interrupted call goes too
	case err != nil:
		return err
	case s.Satisfies(r) != nil:
		return nil
	}
	return p.DeleteSnapshotExact(ctx, r.ID)
}
