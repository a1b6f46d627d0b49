package webhook

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestPodsAreMarked has a real API server create pods of every sort.
func TestPodsAreMarked(t *testing.T) {
	b := newBed(t, 0)
	ours, theirs := "ours", "theirs"
	bound := newClaim("bound", ours)
	bound.Spec.VolumeName = "pv-1"
	b.create(t,
		newClass(ours, "lvm.dozo.dev", storagev1.VolumeBindingWaitForFirstConsumer),
		newClass("at-once", "lvm.dozo.dev", storagev1.VolumeBindingImmediate),
		newClass(theirs, "example.com/nfs", storagev1.VolumeBindingWaitForFirstConsumer),
		newClaim("ours", ours), newClaim("theirs", theirs), newClaim("at-once", "at-once"), newClaim("no-class", ""), bound,
	)
	eventually(t, b.certificate.Ready)
	inline := corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "lvm.dozo.dev", VolumeAttributes: map[string]string{"size": "1Gi"}}}
	cases := map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"ours":            {newPod("p", claimed("ours")), true},
		"ours and theirs": {newPod("p", claimed("theirs"), claimed("ours")), true},
		"theirs":          {newPod("p", claimed("theirs")), false},
		"bound":           {newPod("p", claimed("bound")), false},
		"immediate":       {newPod("p", claimed("at-once")), false},
		"no class":        {newPod("p", claimed("no-class")), false},
		"no volume":       {newPod("p"), false},
		"not there yet":   {newPod("p", claimed("later")), true},
		"ephemeral":       {newPod("p", ephemeral(&ours)), true},
		"their ephemeral": {newPod("p", ephemeral(&theirs)), false},
		"no default":      {newPod("p", ephemeral(nil)), false},
		"inline":          {newPod("p", inline), true},
	}
	other := newPod("p", claimed("ours"))
	other.Spec.SchedulerName = "other"
	labelled := newPod("p", claimed("ours"))
	labelled.Labels = map[string]string{IgnoreLabel: "ignore"}
	placed := newPod("p", claimed("ours"))
	placed.Spec.NodeName = "n1"
	unnamed := newPod("", ephemeral(&ours))
	unnamed.GenerateName = "set-"
	for name, pod := range map[string]*corev1.Pod{"another scheduler": other, "labelled": labelled, "placed": placed} {
		cases[name] = struct {
			pod  *corev1.Pod
			want bool
		}{pod, false}
	}
	cases["without a name"] = struct {
		pod  *corev1.Pod
		want bool
	}{unnamed, true}
	first := true
	for name, c := range cases {
		create := func() error { return b.client.Create(t.Context(), c.pod.DeepCopy(), client.DryRunAll) }
		if first { // the API server takes a moment to know the webhook
			eventually(t, create)
			first = false
		}
		got := c.pod.DeepCopy()
		if err := b.client.Create(t.Context(), got, client.DryRunAll); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := corev1.ResourceList(nil)
		if c.want {
			want = corev1.ResourceList{Resource: resource.MustParse("1")}
		}
		main, side := got.Spec.Containers[0].Resources, got.Spec.Containers[1].Resources
		if !cmp.Equal(main.Limits, want) || !cmp.Equal(main.Requests, want) || len(side.Limits) > 0 {
			t.Errorf("%s: limits %v, requests %v, want %v; the second container has %v", name, main.Limits, main.Requests, want, side.Limits)
		}
	}
}

// TestCertificateIsKept: it is renewed before it ends, and there is no moment in which the API server does
// not trust what is served. The first one here is renewed after 5 s, which is the least.
func TestCertificateIsKept(t *testing.T) {
	b := newBed(t, certRenew+time.Hour+2*time.Second) // it is valid an hour before it is made
	eventually(t, b.certificate.Ready)
	ask := func() error { return b.client.Create(t.Context(), newPod("p", claimed("later")), client.DryRunAll) }
	eventually(t, ask)
	serials := map[string]bool{}
	for end := time.Now().Add(time.Minute); len(serials) < 3 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := ask(); err != nil {
			t.Fatalf("after %d certificates: %v", len(serials), err)
		}
		pair, err := b.certificate.Get(nil)
		if err != nil {
			t.Fatal(err)
		}
		serials[pair.Leaf.SerialNumber.String()] = true
	}
	if len(serials) < 3 {
		t.Errorf("%d certificates were served, want 3", len(serials))
	}
}

// TestConfigurationIsCorrected: whoever overwrites the webhook configuration, as an upgrade does.
func TestConfigurationIsCorrected(t *testing.T) {
	b := newBed(t, 0)
	eventually(t, b.certificate.Ready)
	var w admissionv1.MutatingWebhookConfiguration
	trusted := func() error {
		if err := b.client.Get(t.Context(), client.ObjectKey{Name: "dozo-pods"}, &w); err != nil {
			return err
		}
		if len(w.Webhooks[0].ClientConfig.CABundle) == 0 {
			return errors.New("the API server is told no authority")
		}
		return nil
	}
	eventually(t, trusted)
	w.Webhooks[0].ClientConfig.CABundle = nil
	if err := b.client.Update(t.Context(), &w); err != nil {
		t.Fatal(err)
	}
	eventually(t, trusted)
}

// TestMarkIsIdempotent: a pod that is marked is left alone, wherever the mark is.
func TestMarkIsIdempotent(t *testing.T) {
	one := corev1.ResourceList{Resource: resource.MustParse("1")}
	for name, change := range map[string]func(*corev1.PodSpec){
		"requests": func(s *corev1.PodSpec) { s.Containers[0].Resources.Requests = one },
		"limits":   func(s *corev1.PodSpec) { s.Containers[1].Resources.Limits = one },
		"init containers": func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: one}}}
		},
	} {
		pod := newPod("p")
		change(&pod.Spec)
		if !marked(pod) {
			t.Errorf("%s: not seen", name)
		}
	}
}

// TestMarkTouchesNothingElse compares patches, on pods with fields that our types do not have.
func TestMarkTouchesNothingElse(t *testing.T) {
	for raw, want := range map[string]string{
		`{"spec":{"containers":[{"new":1}]}}`:                                          `[{"op":"add","path":"/spec/containers/0/resources","value":{"limits":{"dozo.dev/storage":"1"},"requests":{"dozo.dev/storage":"1"}}}]`,
		`{"spec":{"containers":[{"resources":{"claims":[{"name":"gpu"}]}}]}}`:          `[{"op":"add","path":"/spec/containers/0/resources/limits","value":{"dozo.dev/storage":"1"}},{"op":"add","path":"/spec/containers/0/resources/requests","value":{"dozo.dev/storage":"1"}}]`,
		`{"spec":{"containers":[{"resources":{"limits":{"cpu":1},"requests":null}}]}}`: `[{"op":"add","path":"/spec/containers/0/resources/limits/dozo.dev~1storage","value":"1"},{"op":"add","path":"/spec/containers/0/resources/requests","value":{"dozo.dev/storage":"1"}}]`,
	} {
		patch, err := mark([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(patch)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s: %s", raw, diff)
		}
	}
}
