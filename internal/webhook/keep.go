package webhook

import (
	"context"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/errs"
)

// retryAfter is how long after a failure it is tried again.
const retryAfter = 5 * time.Second

// Objects are the two objects that [Certificate.Keep] watches, and no others of their types.
func (c *Certificate) Objects() map[client.Object]cache.ByObject {
	name := func(n string) fields.Selector { return fields.OneTermEqualSelector("metadata.name", n) }
	return map[client.Object]cache.ByObject{
		&corev1.Secret{}: {Namespaces: map[string]cache.Config{c.Secret.Namespace: {FieldSelector: name(c.Secret.Name)}}},
		&admissionv1.MutatingWebhookConfiguration{}: {Field: name(c.Configuration)},
	}
}

// Keep calls Ensure whenever one of the objects changes or the certificate is to be renewed, until ctx is
// done: whoever overwrites the webhook configuration, as an upgrade does, is corrected at once.
func (c *Certificate) Keep(ctx context.Context, from cache.Cache) error {
	changed := make(chan struct{}, 1)
	touch := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for object := range c.Objects() {
		informer, err := from.GetInformer(ctx, object)
		if err == nil {
			_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
				AddFunc: touch, UpdateFunc: func(_, new any) { touch(new) }, DeleteFunc: touch,
			})
		}
		if err != nil && ctx.Err() == nil {
			return errs.E(errs.Unavailable, "watching %T: %w", object, err)
		}
	}
	for {
		again, err := c.Ensure(ctx)
		wait := max(time.Until(again), retryAfter)
		if err != nil && ctx.Err() == nil {
			wait = retryAfter
			if !errs.Is(err, errs.Aborted) { // another replica was faster
				c.Log.Error("the serving certificate", "error", err)
			}
		}
		select {
		case <-changed:
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}
