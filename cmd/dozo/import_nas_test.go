package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/controller"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/lab/api"
)

// nasBed is a cluster with a pool "nas" on a simulated NAS, and the rights that the controller's pod has: what the command
// can do there it can do by kubectl exec.
type nasBed struct {
	*central
	dir    string      // of the images
	nas    *dsm.Client // looks at the NAS as an administrator does
	sim    *dsmsim.Sim
	server *dsmsim.Server // that the pool knows
	config *rest.Config   // of the controller's service account
	gate   gate
}

func newNASBed(t *testing.T) *nasBed {
	t.Helper()
	b := &nasBed{central: &central{Server: api.Start(t), t: t}, dir: t.TempDir()}
	b.make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	b.config = b.asInstalled()
	b.gate.open(t.Context(), 0)
	b.config.Wrap(b.gate.transport)
	files, err := dsmsim.NewFiles(b.dir)
	b.fine(err)
	b.sim, err = dsmsim.New(dsmsim.Config{Plane: files, Accounts: []dsmsim.Account{{Name: "dozo", Password: password}}, Model: dsmsim.Models()["top"]})
	b.fine(err)
	b.server, err = dsmsim.Serve("127.0.0.1:0", b.gate.handler(b.sim))
	b.fine(err)
	beside, err := dsmsim.Serve("127.0.0.1:0", b.sim)
	b.fine(err)
	t.Cleanup(func() { _, _ = b.server.Stop(), beside.Stop() })
	b.nas, err = dsm.New(dsm.Config{URL: beside.URL, CA: beside.CA(), Pause: time.Millisecond, Credentials: dsm.Credentials{Account: "dozo", Password: dsm.NewSecret(password)}})
	b.fine(err)
	b.make(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: loginSecret}, Data: map[string][]byte{"username": []byte("dozo"), "password": []byte(password)}})
	b.make(&v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: "nas"}, Spec: v1alpha1.PoolSpec{Kind: outsideKind,
		Options: map[string]string{"url": b.server.URL, "ca": string(b.server.CA())}, SecretRef: &v1alpha1.SecretReference{Name: loginSecret}}})
	return b
}

func (b *nasBed) fine(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// run runs "dozo import" as in the controller's pod.
func (b *nasBed) run(f importFlags) (string, error) {
	b.t.Helper()
	return b.runIn(b.t.Context(), f)
}

func (b *nasBed) runIn(ctx context.Context, f importFlags) (string, error) {
	b.t.Helper()
	if f.pool == "" {
		f.pool = "nas"
	}
	f.namespace = namespace
	scheme, err := controller.Scheme()
	b.fine(err)
	c, err := client.New(b.config, client.Options{Scheme: scheme})
	var out bytes.Buffer
	if err == nil {
		err = f.check()
	}
	if err == nil {
		err = f.run(ctx, f.importer(c), &out)
	}
	if strings.Contains(out.String()+fmt.Sprint(err), password) {
		b.t.Error("it tells the password")
	}
	return out.String(), err
}

// lun makes one with data, as somebody else does, and returns its UUID and the file that is its disk.
func (b *nasBed) lun(name string) (uuid, image string) {
	b.t.Helper()
	before := b.images()
	uuid, err := b.nas.CreateLUN(b.t.Context(), dsm.NewLUN{Name: name, Location: "/volume1", Type: dsm.TypeThin, Size: 5 << 20, Description: "default/" + name})
	b.fine(err)
	for path := range b.images() {
		if !before[path] {
			image = path
		}
	}
	b.fine(os.WriteFile(image, []byte(name+"'s data"), 0o600))
	return uuid, image
}

func (b *nasBed) images() map[string]bool {
	b.t.Helper()
	all, err := filepath.Glob(filepath.Join(b.dir, "images", "*"))
	b.fine(err)
	found := map[string]bool{}
	for _, path := range all {
		found[path] = true
	}
	return found
}

func (b *nasBed) pv(name string) *corev1.PersistentVolume {
	b.t.Helper()
	p := &corev1.PersistentVolume{}
	b.fine(b.Client.Get(b.t.Context(), client.ObjectKey{Name: name}, p))
	return p
}

// nothingMade fails if there is a PersistentVolume of Dozo's, or a LUN that has not the name it had.
func (b *nasBed) nothingMade(luns ...string) {
	b.t.Helper()
	var all corev1.PersistentVolumeList
	b.fine(b.Client.List(b.t.Context(), &all))
	for _, p := range all.Items {
		if p.Spec.CSI.Driver == "synology.dozo.dev" {
			b.t.Errorf("there is PersistentVolume %s", p.Name)
		}
	}
	for _, name := range luns {
		if l, err := b.nas.LUN(b.t.Context(), name); err != nil || l.Description != "default/"+name {
			b.t.Errorf("LUN %s is %+v, %v", name, l, err)
		}
	}
}

func has(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the output lacks %q:\n%s", w, text)
		}
	}
}

// TestImportFromNAS is one test since an API server takes a while to start.
func TestImportFromNAS(t *testing.T) {
	b := newNASBed(t)
	for _, part := range []struct {
		name string
		run  func(*nasBed)
	}{{"refused", importRefused}, {"from Synology's driver", importFromSynologyCSI}, {"one by one", importOneByOne}, {"killed", importKilled}} {
		t.Run(part.name, func(t *testing.T) {
			b.t = t
			part.run(b)
		})
	}
}

// importOneByOne: a LUN and a share become volumes of the pool that the controller serves, by this process.
func importOneByOne(b *nasBed) {
	t := b.t
	uuid, image := b.lun("data")
	b.fine(b.nas.CreateShare(t.Context(), dsm.NewShare{Name: "docs", VolumePath: "/volume1", QuotaMB: 5}))
	b.make(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "chap"}, Provisioner: "synology.dozo.dev", MountOptions: []string{"noatime"}, Parameters: map[string]string{
		"pool": "nas", "mkfsOptions": "-m 0", "csi.storage.k8s.io/node-stage-secret-name": "nas-chap", "csi.storage.k8s.io/node-stage-secret-namespace": "dozo"}})
	f := importFlags{lun: "data", claim: "default/data", class: "chap", dryRun: true}
	would, err := b.run(f)
	b.fine(err)
	has(t, would, "volumeHandle: nas:import-nas-data", dsm.WWID(uuid), "storage: 5Mi", "persistentVolumeReclaimPolicy: Retain", "name: nas-chap")
	t.Log("\n" + would)
	if l, err := b.nas.LUN(t.Context(), "data"); err != nil || l.Description != "default/data" {
		t.Errorf("the dry run left %+v, %v", l, err)
	}
	f.dryRun = false
	for range 2 {
		if out, err := b.run(f); err != nil || out != "LUN data is volume nas.import-nas-data, PersistentVolume import-nas-data, 5Mi.\n" {
			t.Errorf("%v: %s", err, out)
		}
	}
	p := b.pv("import-nas-data")
	if s := p.Spec; s.NodeAffinity != nil || s.AccessModes[0] != corev1.ReadWriteOnce || s.ClaimRef.Name != "data" || *s.CSI.NodeStageSecretRef != (corev1.SecretReference{Name: "nas-chap", Namespace: "dozo"}) ||
		s.MountOptions[0] != "noatime" || !strings.Contains(s.CSI.VolumeAttributes["dozo.dev/access"], `"iscsi":{"wwid":"`+dsm.WWID(uuid)+`"}`) {
		t.Errorf("the PersistentVolume is %+v, %+v", s, s.CSI)
	}
	if l, err := b.nas.LUN(t.Context(), uuid); err != nil || l.Name != "dozo.nas.import-nas-data" {
		t.Errorf("the LUN is %+v, %v", l, err)
	}
	if text, err := os.ReadFile(image); err != nil || string(text) != "data's data" {
		t.Errorf("it holds %q, %v", text, err)
	}
	if out, err := b.run(importFlags{share: "docs"}); err != nil || out != "share docs is volume nas.import-nas-docs, PersistentVolume import-nas-docs, 5Mi.\n" {
		t.Errorf("%v: %s", err, out)
	}
	b.make(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "smb"}, Provisioner: "synology.dozo.dev", Parameters: map[string]string{"pool": "nas", "protocol": "smb", "users": "alice"}})
	b.fine(b.nas.CreateShare(t.Context(), dsm.NewShare{Name: "films", VolumePath: "/volume1", QuotaMB: 5}))
	if out, err := b.run(importFlags{share: "films", class: "smb", dryRun: true}); err != nil || !strings.Contains(out, `"type":"cifs"`) {
		t.Errorf("the class says SMB: %v: %s", err, out)
	}
	p = b.pv("import-nas-docs")
	if p.Spec.AccessModes[0] != corev1.ReadWriteMany || p.Spec.CSI.FSType != "" || !strings.Contains(p.Spec.CSI.VolumeAttributes["dozo.dev/access"], `"source":"127.0.0.1:/volume1/dz-import-nas-`) {
		t.Errorf("the PersistentVolume is %+v", p.Spec)
	}
}

// importRefused: what is refused leaves the NAS and the cluster as they were, and says what to do.
func importRefused(b *nasBed) {
	t, ctx := b.t, b.t.Context()
	uuid, _ := b.lun("mapped")
	target, err := b.nas.CreateTarget(ctx, dsm.NewTarget{Name: "k8s-csi-mapped", IQN: "iqn.mapped"})
	b.fine(err)
	b.fine(b.nas.MapLUN(ctx, uuid, target))
	b.lun("free")
	b.make(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, Spec: b.elsewhere()})
	b.make(&v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Spec: v1alpha1.PoolSpec{Kind: "lvm"}})
	b.make(&v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: "hidden"}, Spec: v1alpha1.PoolSpec{Kind: outsideKind,
		Options: map[string]string{"url": b.server.URL}, SecretRef: &v1alpha1.SecretReference{Name: "somebody-elses"}}})
	b.make(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "each"}, Provisioner: "synology.dozo.dev", Parameters: map[string]string{
		"csi.storage.k8s.io/node-stage-secret-name": "${pvc.name}", "csi.storage.k8s.io/node-stage-secret-namespace": "${pvc.namespace}"}})
	for what, c := range map[string]struct {
		flags importFlags
		kind  errs.Kind
		words []string
	}{
		"in use":             {importFlags{lun: "mapped"}, errs.InUse, []string{"pool nas", "mapped to a target", "SAN Manager"}},
		"absent":             {importFlags{lun: "nothing"}, errs.NotFound, []string{"no LUN nothing"}},
		"no such pool":       {importFlags{lun: "free", pool: "x"}, errs.NotFound, []string{"pool x"}},
		"a pool on nodes":    {importFlags{lun: "free", pool: "fast"}, errs.Invalid, []string{"--node", "--lv"}},
		"no right":           {importFlags{lun: "free", pool: "hidden"}, errs.Invalid, []string{"pool hidden", "no right to read the Secret somebody-elses"}},
		"a name that is":     {importFlags{lun: "free", name: "theirs"}, errs.Exists, []string{"--name"}},
		"a secret per claim": {importFlags{lun: "free", class: "each"}, errs.Invalid, []string{"class each", "${pvc.name}"}},
	} {
		for _, dry := range []bool{true, false} {
			c.flags.dryRun = dry
			out, err := b.run(c.flags)
			if !errs.Is(err, c.kind) {
				t.Errorf("%s: %v (%v), want %v", what, err, errs.KindOf(err), c.kind)
			}
			has(t, fmt.Sprint(out, err), c.words...)
		}
	}
	b.nothingMade("mapped", "free")
	b.fine(b.server.Stop())
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if out, err := b.runIn(short, importFlags{lun: "free"}); !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.Aborted) {
		t.Errorf("a NAS that is away: %v: %s", err, out)
	}
	b.fine(b.server.Start())
	if _, err := b.run(importFlags{lun: "free", dryRun: true}); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// elsewhere is that of a PersistentVolume of another driver.
func (b *nasBed) elsewhere() corev1.PersistentVolumeSpec {
	s := b.oldSpec("x", "else", corev1.ReadWriteOnce)
	s.CSI.Driver = "else.example.org"
	return s
}

// oldSpec is that of a PersistentVolume of Synology's own driver, as its versions up to 1.4 make them.
func (b *nasBed) oldSpec(handle, claim string, mode corev1.PersistentVolumeAccessMode, attributes ...string) corev1.PersistentVolumeSpec {
	all := map[string]string{"dsm": "127.0.0.1", "protocol": "iscsi", "source": "", "formatOptions": "", "mountPermissions": "", "baseDir": "", "storage.kubernetes.io/csiProvisionerIdentity": "1-2-csi.san.synology.com"}
	for n := 0; n < len(attributes); n += 2 {
		all[attributes[n]] = attributes[n+1]
	}
	return corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("5Mi")}, AccessModes: []corev1.PersistentVolumeAccessMode{mode},
		StorageClassName: "synology-iscsi-storage", PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
		ClaimRef:               &corev1.ObjectReference{Namespace: "default", Name: claim},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "csi.san.synology.com", VolumeHandle: handle, FSType: "ext4", VolumeAttributes: all}},
	}
}

// old makes a claim's volume as Synology's driver has it.
func (b *nasBed) old(claim, pv string, spec corev1.PersistentVolumeSpec) {
	b.t.Helper()
	b.make(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: pv}, Spec: spec})
	b.make(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: claim}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: ptr.To(spec.StorageClassName), AccessModes: spec.AccessModes, VolumeName: pv, Resources: corev1.VolumeResourceRequirements{Requests: spec.Capacity},
	}})
}

// importFromSynologyCSI: the volumes of Synology's driver are refused while anybody uses them, and moved when nobody does.
func importFromSynologyCSI(b *nasBed) {
	t, ctx := b.t, b.t.Context()
	if out, err := b.run(importFlags{synology: true}); err != nil || out != "There are no volumes of Synology's driver.\n" {
		t.Errorf("%v: %s", err, out)
	}
	uuid, _ := b.lun("k8s-csi-pvc-1")
	target, err := b.nas.CreateTarget(ctx, dsm.NewTarget{Name: "k8s-csi-pvc-1", IQN: "iqn.t"})
	b.fine(err)
	b.fine(b.nas.MapLUN(ctx, uuid, target))
	b.fine(b.nas.CreateShare(ctx, dsm.NewShare{Name: "k8s-csi-pvc-2", VolumePath: "/volume1", QuotaMB: 5, Description: "Created by Synology K8s CSI"}))
	share, err := b.nas.Share(ctx, "k8s-csi-pvc-2")
	b.fine(err)
	b.old("data", "pvc-1", b.oldSpec(uuid, "data", corev1.ReadWriteOnce))
	b.old("docs", "pvc-2", b.oldSpec(share.UUID, "docs", corev1.ReadWriteMany, "protocol", "nfs", "source", "//127.0.0.1/k8s-csi-pvc-2", "baseDir", "/volume1/k8s-csi-pvc-2"))
	b.old("many", "pvc-3", b.oldSpec("7a9121bc-0000-4000-8000-000000000000", "many", corev1.ReadWriteMany))
	b.make(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}) // which pods have to have
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "user"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "c"}},
		Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}}}
	b.make(pod)
	attachment := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: storagev1.VolumeAttachmentSpec{Attacher: "csi.san.synology.com", NodeName: "n1",
		Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To("pvc-1")}}}
	b.make(attachment)

	all := func(dry bool) string {
		out, err := b.run(importFlags{synology: true, dryRun: dry})
		if err == nil { // of pvc-3
			t.Error("a file system that many nodes write to was imported")
		}
		return out
	}
	only := importFlags{synology: true, claim: "default/data"}
	refused := func(words ...string) {
		t.Helper()
		out, err := b.run(only)
		if err == nil {
			t.Error("it was imported")
		}
		has(t, out, words...)
	}
	out := all(true)
	has(t, out, "# claim default/data: PersistentVolume pvc-1 of csi.san.synology.com, iscsi, "+uuid, "have to end first: user", "attached to these nodes", "not imported: pool nas: importFrom: LUN k8s-csi-pvc-1 is mapped",
		"volumeHandle: nas:dozo-pvc-2", "ReadWriteMany, which destroys data")
	t.Log("\n" + out)
	refused("used by pods: [user]")
	b.fine(b.Client.Delete(ctx, pod, client.GracePeriodSeconds(0)))
	refused("attached to nodes: [n1]")
	if p := b.pv("pvc-1"); p.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		t.Error("what was refused changed the PersistentVolume")
	}
	b.fine(b.Client.Delete(ctx, attachment))
	refused("is mapped to a target", "SAN Manager")
	b.nothingMade("k8s-csi-pvc-1")
	b.fine(b.nas.UnmapLUN(ctx, uuid, target))

	out = all(false)
	has(t, out, "# done: it is volume nas.dozo-pvc-1, and PersistentVolume dozo-pvc-1 waits for the claim", "kubectl -n default delete pvc data\n", "volumeName: dozo-pvc-1", "kubectl delete pv pvc-1\n",
		"# done: it is volume nas.dozo-pvc-2", "kubectl delete pv pvc-2\n")
	t.Log("\n" + out)
	for name, handle := range map[string]string{"pvc-1": "nas:dozo-pvc-1", "pvc-2": "nas:dozo-pvc-2"} {
		old, p := b.pv(name), b.pv("dozo-"+name)
		if old.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain || p.Spec.CSI.VolumeHandle != handle || p.Spec.ClaimRef.UID != "" || p.Spec.AccessModes[0] != old.Spec.AccessModes[0] {
			t.Errorf("the PersistentVolumes are %+v, and %+v", old.Spec, p.Spec)
		}
	}
	if b.pv("dozo-pvc-1").Spec.CSI.FSType != "ext4" || b.pv("dozo-pvc-2").Spec.CSI.FSType != "" {
		t.Error("a share has no fsType, a LUN the old one")
	}
	if err := b.Client.Get(ctx, client.ObjectKey{Name: "dozo-pvc-3"}, &corev1.PersistentVolume{}); !apierrors.IsNotFound(err) {
		t.Errorf("what was refused: %v", err)
	}
	if again, err := b.run(only); err != nil || !strings.Contains(again, "# done") {
		t.Errorf("again: %v: %s", err, again)
	}
}
