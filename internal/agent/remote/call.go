package remote

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// want is one thing that is to be on a node.
type want[O record.Object] struct {
	id    backend.ID
	fresh func(ctx context.Context) (O, error) // the object for it, where there is none: chooses the node
	fits  func(o O) error                      // errs.Exists if what exists is something else
	same  func(o O) bool                       // whether an object that nothing came of asks for this
}

// ensure makes what is wanted, or finds it made.
func ensure[T any, O record.Of[T]](ctx context.Context, b *Backend, w want[O]) (O, error) {
	for {
		o, err := wish[T, O](ctx, b, w)
		if err != nil {
			return nil, err
		}
		if o != nil {
			o, err = answered[T, O](ctx, b.view, o)
		}
		if err != nil {
			return nil, err
		}
		if o == nil || gone(o) {
			continue // it was deleted meanwhile, or has to be: begin again
		}
		err = record.Answer(o)
		if err != nil && final(err) && !exists(o) {
			// Nothing came of it: the name is free again, and the next attempt may choose another node.
			if err := remove[T, O](ctx, b, w.id, o.GetUID()); err != nil {
				return nil, err
			}
		}
		if err == nil {
			err = w.fits(o)
		}
		if err != nil {
			return nil, err
		}
		return o, nil
	}
}

// wish writes that w is wanted, unless that is written. It returns the object to wait for; nil to begin
// again, since somebody else was faster.
func wish[T any, O record.Of[T]](ctx context.Context, b *Backend, w want[O]) (O, error) {
	o, err := get[T, O](ctx, b, w.id)
	if errs.Is(err, errs.NotFound) {
		if o, err = w.fresh(ctx); err != nil {
			return nil, err
		}
		return raced[T](o, b.view.api.Create(ctx, o))
	}
	if err != nil {
		return nil, err
	}
	spec, _ := o.Item()
	switch {
	case o.GetDeletionTimestamp() != nil:
		return nil, waitGone[T](ctx, b, o)
	case exists(o):
		if err := w.fits(o); err != nil {
			return nil, err
		}
	case !w.same(o):
		// Left by another request, of which nothing came.
		return nil, remove[T, O](ctx, b, w.id, o.GetUID())
	case record.Lost(o):
		return nil, abandon(ctx, b, o)
	}
	if !spec.Absent && (!record.Answered(o) || record.Answer(o) == nil) {
		return o, nil // it is done, or being done
	}
	spec.Absent = false
	spec.Attempt++
	return raced[T](o, b.view.api.Update(ctx, o))
}

// raced returns o as written; nil if somebody else was faster.
func raced[T any, O record.Of[T]](o O, err error) (O, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	return o, asked(err)
}

// gone reports whether the object is on its way out.
func gone(o record.Object) bool {
	spec, _ := o.Item()
	return spec.Absent || o.GetDeletionTimestamp() != nil
}

// waitGone waits until an object that is being deleted is gone.
func waitGone[T any, O record.Of[T]](ctx context.Context, b *Backend, o O) error {
	spec, _ := o.Item()
	spec.Attempt++
	if o, err := raced[T](o, b.view.api.Update(ctx, o)); o == nil || err != nil {
		return err
	}
	now, err := answered[T, O](ctx, b.view, o)
	if err != nil || now == nil {
		return err
	}
	if err := record.Answer(now); err != nil {
		return errs.E(errs.Aborted, "%s is being deleted: %w", o.GetName(), err)
	}
	return nil
}

// remove has the node delete what it has under an ID, and waits until it did. With a uid it is that object
// and no later one.
func remove[T any, O record.Of[T]](ctx context.Context, b *Backend, id backend.ID, uid types.UID) error {
	for {
		o, err := get[T, O](ctx, b, id)
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if uid != "" && uid != o.GetUID() {
			return nil
		}
		if !exists(o) && record.Lost(o) {
			return abandon(ctx, b, o)
		}
		spec, _ := o.Item()
		if !gone(o) || record.Answered(o) {
			spec.Absent = true
			spec.Attempt++
			if o, err = raced[T](o, b.view.api.Update(ctx, o)); err != nil {
				return err
			}
			if o == nil {
				continue
			}
		}
		now, err := answered[T, O](ctx, b.view, o)
		if err != nil || now == nil {
			return err
		}
		if err := record.Answer(now); err != nil && gone(now) {
			return err
		}
	}
}

// abandon deletes an object of which nothing came and whose node has left the cluster: nobody else would.
func abandon(ctx context.Context, b *Backend, o record.Object) error {
	uid := o.GetUID()
	if err := b.view.api.Delete(ctx, o, client.Preconditions{UID: &uid}); err != nil {
		return asked(client.IgnoreNotFound(err))
	}
	free := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	return asked(client.IgnoreNotFound(b.view.api.Patch(ctx, o, free)))
}
