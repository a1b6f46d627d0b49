package open

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/dozo-dev/dozo/api/v1alpha1"
)

// watchAgain is the wait before a watch that ended, or was refused, is tried again.
const watchAgain = 5 * time.Second

// watchSecrets watches the Secrets that the Pools of the kind name, each by itself: so the right to see these few
// is enough.
func (f *Follower) watchSecrets(ctx context.Context) error {
	var all v1alpha1.PoolList
	if err := f.Read.List(ctx, &all); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, p := range all.Items {
		if p.Spec.Kind == f.Kind && p.Spec.SecretRef != nil {
			wanted[p.Spec.SecretRef.Name] = true
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, end := range f.watched {
		if !wanted[name] {
			end()
			delete(f.watched, name)
		}
	}
	for name := range wanted {
		if f.watched[name] == nil {
			// The call ends; what ends the watch is that nobody wants it, or the manager.
			watching, end := context.WithCancel(context.WithoutCancel(ctx))
			f.watched[name] = end
			go f.watchSecret(watching, name)
		}
	}
	return nil
}

// watches ends them all with the manager.
type watches struct{ f *Follower }

// NeedLeaderElection is [manager.LeaderElectionRunnable]: as the Follower runs everywhere, so do they.
func (watches) NeedLeaderElection() bool { return false }

// Start is [manager.Runnable].
func (w watches) Start(ctx context.Context) error {
	<-ctx.Done()
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	for _, end := range w.f.watched {
		end()
	}
	return nil
}

// watchSecret has the Pools looked at again whenever a Secret may have changed.
func (f *Follower) watchSecret(ctx context.Context, name string) {
	for ctx.Err() == nil {
		f.followSecret(ctx, name)
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

// followSecret does so until the watch ends, which the API server does every few minutes.
func (f *Follower) followSecret(ctx context.Context, name string) {
	w, err := f.Live.Watch(ctx, &corev1.SecretList{}, client.InNamespace(f.Namespace), client.MatchingFields{metav1.ObjectNameField: name})
	if err != nil { // reading it says why, to who can do something about it
		return
	}
	defer w.Stop()
	f.lookAgain(ctx, name) // it may have changed while nobody watched
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-w.ResultChan():
			if !open {
				return
			}
			if _, ok := e.Object.(*corev1.Secret); ok {
				f.lookAgain(ctx, name)
			}
		}
	}
}

// lookAgain has the Pools followed anew that name a Secret.
func (f *Follower) lookAgain(ctx context.Context, secret string) {
	var all v1alpha1.PoolList
	if err := f.Read.List(ctx, &all); err != nil {
		return // the watch of Pools comes with them all when it is back
	}
	for i := range all.Items {
		p := &all.Items[i]
		if p.Spec.Kind != f.Kind || p.Spec.SecretRef == nil || p.Spec.SecretRef.Name != secret {
			continue
		}
		select {
		case f.changed <- event.GenericEvent{Object: p}:
		case <-ctx.Done():
			return
		}
	}
}
