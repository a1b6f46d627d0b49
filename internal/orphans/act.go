package orphans

import (
	"context"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/errs"
)

// poll is how often an answer is looked for. A person waits.
const poll = 200 * time.Millisecond

// Pick finds one orphan by its name, as things are now. errs.NotFound if there is none.
func Pick(ctx context.Context, r client.Reader, name string, now time.Time) (Orphan, error) {
	if strings.Count(name, "/") < 2 {
		return Orphan{}, errs.E(errs.Invalid, "%q: it has the form NODE/POOL/ID, as dozo orphans lists it", name)
	}
	all, err := Find(ctx, r, now)
	if err != nil {
		return Orphan{}, err
	}
	i := slices.IndexFunc(all, func(o Orphan) bool { return o.Name() == name })
	if i < 0 {
		return Orphan{}, errs.E(errs.NotFound, "%s is no orphan; dozo orphans lists them", name)
	}
	return all[i], nil
}

// Adopt makes the object of something that is on a node's storage, and waits until its node says that it fits.
func Adopt(ctx context.Context, c client.Client, o Orphan) error {
	if o.stored == nil {
		return errs.E(errs.Invalid, "%s: %s; only what is on the storage and in no object can be adopted", o.Name(), o.Why)
	}
	obj := record.Adopted(o.Pool, o.Node, *o.stored)
	if err := c.Create(ctx, obj); err != nil {
		return errs.E(errs.Aborted, "%s: making its object: %w", o.Name(), err)
	}
	there, err := answered(ctx, c, obj)
	if err == nil && !there {
		err = errs.E(errs.Aborted, "%s: somebody deleted its object", o.Name())
	}
	if err == nil {
		err = record.Answer(obj)
	}
	return err
}

// Delete deletes an orphan, data and all, and waits until its node has done it. It is for things that no
// PersistentVolume refers to. The node does it, for an object that asks for it with spec.absent: so it may
// refuse, say because the volume is mounted, and whoever asks for the volume at the same time wins.
func Delete(ctx context.Context, c client.Client, o Orphan) error {
	switch {
	case o.Claimed != "":
		return errs.E(errs.InUse, "%s: %s refers to it; delete that first, through its claim if there is one", o.Name(), o.Claimed)
	case o.object != nil && record.Lost(o.object):
		// The node is not there to do it: what it has is an orphan again if it comes back.
		uid := o.object.GetUID()
		return client.IgnoreNotFound(c.Delete(ctx, o.object, client.Preconditions{UID: &uid}))
	}
	obj, err := ask(ctx, c, o)
	if err != nil {
		return err
	}
	there, err := answered(ctx, c, obj)
	if err != nil || !there {
		return err
	}
	spec, _ := obj.Item()
	if !spec.Absent {
		return errs.E(errs.Aborted, "%s: somebody asked for it meanwhile, and has it", o.Name())
	}
	refusal := record.Answer(obj)
	if refusal == nil {
		refusal = errs.E(errs.Internal, "%s: its node says neither that it is gone nor why not", o.Name())
	}
	return withdraw(ctx, c, obj, refusal)
}

// ask writes that something is to be deleted.
func ask(ctx context.Context, c client.Client, o Orphan) (record.Object, error) {
	if o.stored != nil {
		obj := record.Adopted(o.Pool, o.Node, *o.stored)
		spec, _ := obj.Item()
		spec.Absent = true
		if err := c.Create(ctx, obj); err != nil {
			return nil, errs.E(errs.Aborted, "%s: making its object: %w", o.Name(), err)
		}
		return obj, nil
	}
	spec, _ := o.object.Item()
	spec.Absent = true
	spec.Attempt++
	if err := c.Update(ctx, o.object); err != nil { // refused if anything changed since it was found
		return nil, errs.E(errs.Aborted, "%s: %w", o.Name(), err)
	}
	return o.object, nil
}

// withdraw takes a wish back that was refused, so that nobody finds it later and does it then.
func withdraw(ctx context.Context, c client.Client, obj record.Object, refusal error) error {
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"absent":false}}`))
	if err := c.Patch(ctx, obj, patch); err != nil && !apierrors.IsNotFound(err) {
		return errs.E(errs.KindOf(refusal), "%w (and spec.absent of %s is still set: %w)", refusal, obj.GetName(), err)
	}
	return refusal
}

// answered waits until a node has answered an object, and reads it as it is then. there is false if it is gone.
func answered(ctx context.Context, c client.Client, obj record.Object) (there bool, err error) {
	uid := obj.GetUID()
	spec, _ := obj.Item()
	node := spec.Node
	for {
		err := c.Get(ctx, client.ObjectKeyFromObject(obj), obj)
		switch {
		case apierrors.IsNotFound(err), err == nil && obj.GetUID() != uid:
			return false, nil
		case err != nil && ctx.Err() == nil:
			return false, errs.E(errs.Unavailable, "the API server: %w", err)
		case err == nil && record.Answered(obj):
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, errs.E(errs.Aborted, "waiting for node %s: %w; what is asked for stays asked for: kubectl get %s %s -o yaml", node, ctx.Err(), kind(obj), obj.GetName())
		case <-time.After(poll):
		}
	}
}

func kind(obj record.Object) string {
	if _, ok := obj.(*v1alpha1.NodeSnapshot); ok {
		return "nodesnapshot"
	}
	return "nodevolume"
}
