package webhook

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/test/lab/api"
)

// bed is a real API server that asks our webhook, over TLS with the certificate that we made.
type bed struct {
	client      client.Client
	certificate *Certificate
	address     string
}

func newBed(t *testing.T, age time.Duration) *bed {
	t.Helper()
	server := api.Start(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ctrllog.SetLogger(logr.Discard())
	certificate := &Certificate{
		Secret: client.ObjectKey{Namespace: "default", Name: "dozo-webhook"}, Configuration: "dozo-pods", Host: "127.0.0.1", Log: log, age: age,
	}
	reader, cache, err := claims.NewReader(server.Config, []backend.Kind{{Name: "lvm", NodeBound: true}}, certificate.Objects())
	if err != nil {
		t.Fatal(err)
	}
	certificate.Client = reader.Live
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := &admission.Webhook{Handler: &Pods{Volumes: reader.Of, Schedulers: []string{"default-scheduler"}, Log: log}}
	s := &http.Server{Handler: handler, TLSConfig: &tls.Config{GetCertificate: certificate.Get}}
	go func() { _ = s.ServeTLS(l, "", "") }()
	b := &bed{client: reader.Live, certificate: certificate, address: l.Addr().String()}
	b.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}, // no controller runs
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "dozo-webhook"}}, b.configuration())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- cache.Start(ctx) }()
	go func() { ended <- certificate.Keep(ctx, cache) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		s.Close()
	})
	return b
}

func (b *bed) configuration() *admissionv1.MutatingWebhookConfiguration {
	url := "https://" + b.address + PodsPath
	fail, none, seconds := admissionv1.Fail, admissionv1.SideEffectClassNone, int32(5)
	return &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "dozo-pods"},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name: "pods.dozo.dev", ClientConfig: admissionv1.WebhookClientConfig{URL: &url},
			FailurePolicy: &fail, // so that the test sees a failure; users have Ignore
			SideEffects:   &none, TimeoutSeconds: &seconds, AdmissionReviewVersions: []string{"v1"},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
}

func (b *bed) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := b.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually tries until what is nil, since API server and caches learn of things a moment later.
func eventually(t *testing.T, what func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := what()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func newPod(name string, volumes ...corev1.VolumeSource) *corev1.Pod {
	off := false
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.AutomountServiceAccountToken = &off
	p.Spec.Containers = []corev1.Container{{Name: "main", Image: "i"}, {Name: "side", Image: "i"}}
	for i, v := range volumes {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: string(rune('a' + i)), VolumeSource: v})
	}
	return p
}

func claimed(name string) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
}

func ephemeral(class *string) corev1.VolumeSource {
	return corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: claimSpec(class)}}}
}

func claimSpec(class *string) corev1.PersistentVolumeClaimSpec {
	return corev1.PersistentVolumeClaimSpec{
		StorageClassName: class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}
}

func newClaim(name, class string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: claimSpec(&class)}
}

func newClass(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode}
}

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
	for end := time.Now().Add(13 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
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
