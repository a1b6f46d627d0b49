package e2e

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// relistPause is between two attempts to list or watch, when the API server refused one or ended it.
const relistPause = 250 * time.Millisecond

var errWatchEnded = errors.New("the API server ended the watch")

// selection is what to look at: objects of a resource, of one namespace if that is set.
type selection struct {
	resource, namespace string
	labels, fields      string
}

// one selects a single object.
func one(resource, namespace, name string) selection {
	return selection{resource: resource, namespace: namespace, fields: fields.OneTermEqualSelector("metadata.name", name).String()}
}

func (s selection) in(c *Cluster) dynamic.ResourceInterface {
	all := c.dynamic.Resource(resource(s.resource))
	if s.namespace == "" {
		return all
	}
	return all.Namespace(s.namespace)
}

// current are the selected objects as they are now, by name.
type current map[string]*unstructured.Unstructured

// follow shows the selected objects to see, at first and then whenever one of them changes, until see is
// content. It fails only with its context.
func (c *Cluster) follow(ctx context.Context, s selection, see func(current) bool) error {
	for {
		if done, err := c.followOnce(ctx, s, see); done || ctx.Err() != nil {
			return ctx.Err()
		} else if err == nil {
			continue // the watch ended in its time
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(relistPause):
		}
	}
}

// followOnce lists and watches until the watch ends.
func (c *Cluster) followOnce(ctx context.Context, s selection, see func(current) bool) (bool, error) {
	api := s.in(c)
	list, err := api.List(ctx, metav1.ListOptions{LabelSelector: s.labels, FieldSelector: s.fields})
	if err != nil {
		return false, err
	}
	now := current{}
	for i := range list.Items {
		now[list.Items[i].GetName()] = &list.Items[i]
	}
	if see(now) {
		return true, nil
	}
	w, err := api.Watch(ctx, metav1.ListOptions{LabelSelector: s.labels, FieldSelector: s.fields, ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		return false, err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		object, ok := event.Object.(*unstructured.Unstructured)
		switch {
		case event.Type == watch.Added && ok, event.Type == watch.Modified && ok:
			now[object.GetName()] = object
		case event.Type == watch.Deleted && ok:
			delete(now, object.GetName())
		default:
			return false, errWatchEnded // what we know is too old for the API server, say: list again
		}
		if see(now) {
			return true, nil
		}
	}
	return false, nil
}

// typed converts an object to its Go type.
func typed[T any](u *unstructured.Unstructured) (*T, error) {
	object := new(T)
	return object, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, object)
}
