// Package sanity runs the csi-sanity suite of kubernetes-csi/csi-test against the whole driver: real
// loop devices, real file systems, real mounts, over its real socket.
package sanity

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/driver"
	"github.com/dozo-dev/dozo/test/synology"
)

const mib = 1 << 20

// absent are the specs that are skipped because the storage has no such thing, by a part of their names.
// Any other spec that is skipped fails the test.
var absent = map[string]string{
	"ControllerPublishVolume":                       "image files are on the node itself: nothing is attached by a controller",
	"ControllerUnpublishVolume":                     "likewise",
	"volume lifecycle should work":                  "likewise: the spec attaches by a controller",
	"volume lifecycle should be idempotent":         "likewise",
	"ModifyVolume":                                  "image files have nothing that can be modified",
	"volume attribute class":                        "likewise",
	"pagination should detect volumes added":        "pending in csi-test itself",
	"NodeGetStorageHealth":                          "pools are judged by their volumes",
	"with single node single writer access mode is": "set by the suite where the driver has no such mode",
}

// absentOutside are those of volumes that are attached, to any node.
var absentOutside = map[string]string{
	"max attach limit":                              "there is no limit",
	"with accessibility requirements":               "volumes are not bound to nodes",
	"pagination should detect volumes added":        "pending in csi-test itself",
	"NodeGetStorageHealth":                          "pools are judged by their volumes",
	"with single node single writer access mode is": "set by the suite where the driver has no such mode",
}

// world is what a run of the suite is about.
type world struct {
	fs   string
	size int64
	pool pool.Spec     // the zero one is of image files
	kind *backend.Kind // of the pool; nil: one of ours
	nas  *synology.Bed // nil: the pool is on this machine
}

// lacks says why a spec is skipped in this world, "" if it should not be.
func (w world) lacks(spec string) string {
	if w.pool.Kind == "lvm" && strings.Contains(spec, "GroupController") {
		return "LVM takes one snapshot at a time"
	}
	if w.nas != nil {
		for part, why := range absentOnNAS(w.fs) {
			if strings.Contains(spec, part) {
				return why
			}
		}
	}
	known := absent
	if w.kind != nil || w.nas != nil {
		known = absentOutside
	}
	for part, why := range known {
		if strings.Contains(spec, part) {
			return why
		}
	}
	return ""
}

func (w world) config(t *testing.T, d driver.Driver) sanity.TestConfig {
	c := sanity.NewTestConfig()
	if w.nas != nil {
		c.SecretsFile = secretsFile(t)
	}
	c.Address = d.Socket
	c.TargetPath, c.StagingPath = filepath.Join(d.Dir, "target"), filepath.Join(d.Dir, "staging")
	c.TestVolumeSize, c.TestVolumeExpandSize = w.size, 2*w.size
	c.TestVolumeParameters = map[string]string{"pool": cmp.Or(w.pool.Name, "images")}
	c.TestVolumeAccessType = "mount"
	if w.fs == "block" {
		c.TestVolumeAccessType = "block"
	}
	c.DialOptions = append(driver.DialOptions(), grpc.WithUnaryInterceptor(w.chooseFS))
	c.ControllerDialOptions = c.DialOptions
	return c
}

// chooseFS names the file system in requests, as the suite leaves it to the driver.
func (w world) chooseFS(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	type one interface{ GetVolumeCapability() *csi.VolumeCapability }
	type many interface {
		GetVolumeCapabilities() []*csi.VolumeCapability
	}
	var all []*csi.VolumeCapability
	switch r := req.(type) {
	case one:
		all = append(all, r.GetVolumeCapability())
	case many:
		all = r.GetVolumeCapabilities()
	}
	for _, c := range all {
		if m := c.GetMount(); m != nil && m.FsType == "" {
			m.FsType = w.fs
		}
	}
	err := invoke(ctx, method, req, reply, cc, opts...)
	// The suite compares a topology that it sent with one that it got by reflection (controller.go:1454),
	// caches of the encoder included: without this no driver could pass.
	if m, ok := reply.(proto.Message); ok {
		proto.Size(m)
	}
	return err
}

func (w world) start(t *testing.T) driver.Driver {
	if w.nas != nil {
		return w.nas.Both(func(m *backend.Mask) {
			m.Snapshotter = !isShare(w.fs) // what the kind has, its shares lack
		})
	}
	if w.pool.Kind == "" {
		return driver.Start(t, t.TempDir(), "")
	}
	if w.kind != nil {
		return driver.StartPool(t, t.TempDir(), w.pool, *w.kind)
	}
	return driver.StartPool(t, t.TempDir(), w.pool)
}

// run runs the suite, which a process can do once.
func (w world) run(t *testing.T) {
	d := w.start(t)
	config := w.config(t, d)
	sanity.GinkgoTest(&config)
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.ReportAfterSuite("count", func(r ginkgo.Report) { w.judge(t, r) })
	suite, reporter := ginkgo.GinkgoConfiguration()
	reporter.Succinct, reporter.NoColor = true, true
	ginkgo.RunSpecs(t, "csi-sanity "+w.fs, suite, reporter)
	if w.nas != nil {
		w.nas.NothingLeft()
		return
	}
	d.NothingLeft(t)
}

// judge prints the count of specs, and fails if one was skipped that is not absent by nature.
func (w world) judge(t *testing.T, r ginkgo.Report) {
	count := map[types.SpecState]int{}
	for _, s := range r.SpecReports {
		if s.LeafNodeType != types.NodeTypeIt {
			continue
		}
		count[s.State]++
		skipped := s.State.Is(types.SpecStateSkipped | types.SpecStatePending)
		if skipped && w.lacks(s.FullText()) == "" {
			t.Errorf("skipped, and not absent by nature: %s: %s", s.FullText(), s.Failure.Message)
		}
	}
	fmt.Printf("\ncsi-sanity: %s: %d passed, %d failed, %d skipped (absent by nature)\n", strings.TrimSpace(w.pool.Name+" "+w.fs), count[types.SpecStatePassed],
		len(r.SpecReports)-count[types.SpecStatePassed]-count[types.SpecStateSkipped]-count[types.SpecStatePending],
		count[types.SpecStateSkipped]+count[types.SpecStatePending])
}
