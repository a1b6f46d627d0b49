package webhook

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/test/lab/api"
)

// bed is a real API server that asks our webhook, over TLS with the certificate that we made. It has what
// the chart installs, and our side has no rights but those in it.
type bed struct {
	client      client.Client // the administrator's
	certificate *Certificate
	address     string
}

func newBed(t *testing.T, age time.Duration) *bed {
	t.Helper()
	server := api.Start(t)
	ctrllog.SetLogger(logr.Discard())
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	certificate := &Certificate{
		Secret: client.ObjectKey{Namespace: "dozo", Name: "dozo-webhook"}, Configuration: "dozo-pods", Host: "127.0.0.1", Log: log, age: age,
	}
	ours := rest.CopyConfig(server.Config)
	ours.Impersonate.UserName = "system:serviceaccount:dozo:dozo-webhook"
	reader, cache, err := claims.NewReader(ours, []backend.Kind{{Name: "lvm", NodeBound: true}}, certificate.Objects())
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
	b := &bed{certificate: certificate, address: l.Addr().String()}
	if b.client, err = client.New(server.Config, client.Options{Scheme: reader.Live.Scheme()}); err != nil {
		t.Fatal(err)
	}
	b.create(t, b.manifest(t)...)
	b.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}) // no controller runs
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

// manifest is what the chart installs, with the address of our process in the place of a Service, and without
// mercy for failures, so that the test sees them.
func (b *bed) manifest(t *testing.T) []client.Object {
	t.Helper()
	all := api.Rendered(t, b.client.Scheme(), "webhook")
	for _, o := range all {
		if w, ok := o.(*admissionv1.MutatingWebhookConfiguration); ok {
			url, fail := "https://"+b.address+PodsPath, admissionv1.Fail
			if got := *w.Webhooks[0].ClientConfig.Service.Path; got != PodsPath {
				t.Errorf("the chart's path is %s, want %s", got, PodsPath)
			}
			w.Webhooks[0].ClientConfig = admissionv1.WebhookClientConfig{URL: &url}
			w.Webhooks[0].FailurePolicy = &fail
		}
	}
	return append([]client.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dozo"}}}, all...)
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
