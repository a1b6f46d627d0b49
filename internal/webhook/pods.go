// Package webhook marks pods that are still to get volumes of ours, so that kube-scheduler asks the
// scheduler extender about them and about no other pods.
//
// It never refuses a pod. What it cannot find out it marks: an extender that is asked in vain passes every
// node, while a pod that was not marked is placed without regard to room.
package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/dozo-dev/dozo/internal/claims"
)

// Resource is the extended resource that marks a pod: in kube-scheduler's configuration it is the one
// managed by the extender. No node has any of it, and the kubelet leaves it out for that reason.
const Resource corev1.ResourceName = "dozo.dev/storage"

// IgnoreLabel with the value "ignore", on a pod or its namespace, keeps the webhook away.
const IgnoreLabel = "dozo.dev/webhook"

// PodsPath is where the API server asks.
const PodsPath = "/mutate-pods"

// Pods decides about pods that are being created.
type Pods struct {
	Volumes    func(context.Context, *corev1.Pod) ([]claims.Volume, error) // as [claims.Reader.Of]
	Schedulers []string                                                    // names of those that have the extender: to others the mark is an unknown resource
	Log        *slog.Logger
}

// Handle is [admission.Handler].
func (p *Pods) Handle(ctx context.Context, r admission.Request) admission.Response {
	var pod corev1.Pod
	if err := json.Unmarshal(r.Object.Raw, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("object: not a pod: %w", err))
	}
	if pod.Namespace == "" {
		pod.Namespace = r.Namespace // it is set only after this
	}
	if reason := p.leaves(&pod); reason != "" {
		return admission.Allowed(reason)
	}
	volumes, err := p.Volumes(ctx, &pod)
	switch {
	case err != nil:
		p.Log.Info("marked, since its volumes are not known", "pod", pod.Namespace+"/"+podName(&pod), "error", err)
	case len(volumes) == 0:
		return admission.Allowed("it is to get no volume of ours")
	}
	patch, err := mark(r.Object.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	return admission.Patched("marked for the scheduler extender", patch...)
}

// leaves says why a pod is left alone whatever its volumes are.
func (p *Pods) leaves(pod *corev1.Pod) string {
	switch {
	case pod.Labels[IgnoreLabel] == "ignore":
		return "its label says so"
	case pod.Spec.NodeName != "":
		return "its node is chosen"
	case !slices.Contains(p.Schedulers, schedulerName(pod)):
		return "its scheduler has no extender"
	case len(pod.Spec.Containers) == 0:
		return "it has no container" // the API server will refuse it
	case marked(pod):
		return "it is marked"
	}
	return ""
}

func schedulerName(pod *corev1.Pod) string {
	if pod.Spec.SchedulerName == "" {
		return corev1.DefaultSchedulerName
	}
	return pod.Spec.SchedulerName
}

func podName(pod *corev1.Pod) string {
	if pod.Name == "" {
		return pod.GenerateName
	}
	return pod.Name
}

func marked(pod *corev1.Pod) bool {
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		if _, ok := c.Resources.Requests[Resource]; ok {
			return true
		}
		if _, ok := c.Resources.Limits[Resource]; ok {
			return true
		}
	}
	return false
}

// mark returns the patch that marks a pod, on its first container: kube-scheduler looks at all. The patch
// touches nothing else, not even fields of a newer Kubernetes that our types do not have.
func mark(raw []byte) ([]jsonpatch.JsonPatchOperation, error) {
	var pod struct {
		Spec struct {
			Containers []struct {
				Resources map[string]json.RawMessage `json:"resources"`
			} `json:"containers"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(raw, &pod); err != nil {
		return nil, fmt.Errorf("object: not a pod: %w", err)
	}
	const resources = "/spec/containers/0/resources"
	one := map[string]any{string(Resource): "1"}
	have := pod.Spec.Containers[0].Resources
	if have == nil {
		return []jsonpatch.JsonPatchOperation{jsonpatch.NewOperation("add", resources, map[string]any{"limits": one, "requests": one})}, nil
	}
	var patch []jsonpatch.JsonPatchOperation
	for _, list := range []string{"limits", "requests"} { // of an extended resource both must be the same
		if text := string(have[list]); text == "" || text == "null" {
			patch = append(patch, jsonpatch.NewOperation("add", resources+"/"+list, one))
			continue
		}
		name := strings.ReplaceAll(string(Resource), "/", "~1")
		patch = append(patch, jsonpatch.NewOperation("add", resources+"/"+list+"/"+name, "1"))
	}
	return patch, nil
}
