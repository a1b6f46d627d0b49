// Package remote is the controller's end of node-bound storage: a backend whose volumes are on the nodes
// that have a pool. It writes what is wanted into NodeVolumes and NodeSnapshots, and waits, on a watch, for
// what the agent of the node answers.
//
// # Who is right
//
// Which volumes there are is asked of the API server, never of a cache: "not found" is said only by who
// knows. The name of an object is the lock of a volume in the whole cluster: a call that is repeated, from
// here or from another replica, meets the object that the first one made, and the node recorded there wins.
// Nothing is kept in this process, so it can be killed at any point and called again.
//
// # What is final
//
// Errors that a repetition cannot change (no space, a wrong parameter) take a volume that never existed back
// again, so that the next attempt may choose another node. Others leave the object where it is.
package remote

import (
	"context"
	"errors"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// Backend is a pool on the nodes. It is safe for concurrent use.
type Backend struct {
	pool string
	view *View
	mask backend.Mask
}

var _ interface {
	backend.Proxy
	backend.Expander
	backend.Cloner
	backend.Snapshotter
	backend.GroupSnapshotter
	backend.Checker
	backend.Modifier
} = (*Backend)(nil)

// New returns the pool of that name, whose nodes can do what local has. What a node does with a volume that
// it has is nothing for here, and its figures it says itself.
func New(pool string, v *View, local backend.Mask) *Backend {
	local.Activator, local.Marker, local.Gauger, local.Importer, local.Attacher = false, false, false, false, false
	return &Backend{pool: pool, view: v, mask: local}
}

// Mask is [backend.Proxy].
func (b *Backend) Mask() backend.Mask { return b.mask }

// Kind returns k with pools that are reached through the agents on the nodes. They can do what k says that
// its pools can. Which options a pool must have is the nodes' to say: those where another process serves the
// pool want none.
func Kind(k backend.Kind, v *View) backend.Kind {
	if m := k.Mask(nil); m.Activator && m.Marker {
		// It is the node that encrypts; see [pool.Pool.Parameters].
		k.Parameters = slices.Concat(k.Parameters, pool.EncryptionParameters())
	}
	k.Options = slices.Clone(k.Options)
	for i := range k.Options {
		k.Options[i].Required = false
	}
	k.Open = func(_ context.Context, c backend.Config) (backend.Backend, error) {
		return New(c.Pool, v, k.Mask(c.Options)), nil
	}
	return k
}

// Budget is the longest that one call may wait for a node. Nothing is lost by giving up: what the node does
// goes on, and the next call meets it.
func Budget() time.Duration { return 2 * time.Minute }

// Close is [backend.Backend]. There is nothing to close.
func (b *Backend) Close() error { return nil }

// asked classifies what the API server said, or that it did not.
func asked(err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return errs.E(errs.NotFound, "%w", err)
	case apierrors.IsConflict(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return errs.E(errs.Aborted, "%w; call again", err)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return errs.E(errs.Internal, "the API server refuses: %w", err)
	case apierrors.IsTooManyRequests(err):
		return errs.E(errs.Busy, "the API server: %w", err)
	}
	return errs.E(errs.Unavailable, "the API server: %w", err)
}

// final reports whether an error would be the same if the call were repeated now.
func final(err error) bool {
	return slices.Contains([]errs.Kind{
		errs.Invalid, errs.OutOfRange, errs.NotFound, errs.Exists, errs.NoSpace, errs.Unsupported,
	}, errs.KindOf(err))
}

// get reads an object at the API server.
func get[T any, O record.Of[T]](ctx context.Context, b *Backend, id backend.ID) (O, error) {
	o := O(new(T))
	err := b.view.api.Get(ctx, client.ObjectKey{Name: v1alpha1.ObjectName(b.pool, string(id))}, o)
	return o, asked(err)
}

// exists reports whether the node has, or had, what the object stands for.
func exists(o record.Object) bool {
	_, status := o.Item()
	return status.ID != ""
}

// volume reads a volume that exists.
func (b *Backend) volume(ctx context.Context, id backend.ID) (*v1alpha1.NodeVolume, error) {
	o, err := get[v1alpha1.NodeVolume](ctx, b, id)
	if err == nil && !exists(o) {
		err = errs.E(errs.NotFound, "volume %s: node %s has not made it", id, o.Spec.Node)
	}
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "volume %s: %w", id, err)
	}
	return o, nil
}

// snapshot reads a snapshot that exists.
func (b *Backend) snapshot(ctx context.Context, id backend.ID) (*v1alpha1.NodeSnapshot, error) {
	o, err := get[v1alpha1.NodeSnapshot](ctx, b, id)
	if err == nil && !exists(o) {
		err = errs.E(errs.NotFound, "snapshot %s: node %s has not made it", id, o.Spec.Node)
	}
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "snapshot %s: %w", id, err)
	}
	return o, nil
}
