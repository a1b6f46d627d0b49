package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/dozo-dev/dozo/internal/host/hosttest"
	testdriver "github.com/dozo-dev/dozo/test/driver"
)

// serving is 'dozo serve' in this process.
type serving struct {
	dir, metrics string
	stop         context.CancelFunc
	done         chan error
}

func startServe(t *testing.T, dir string) serving {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that was free a moment ago
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	config := filepath.Join(dir, "pools.yaml")
	text := fmt.Sprintf("pools:\n- name: images\n  kind: loopfile\n  options: {path: %s, spare: \"0\"}\n", filepath.Join(dir, "images"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := serving{dir: dir, metrics: l.Addr().String(), stop: cancel, done: make(chan error, 1)}
	cmd := root()
	cmd.SetArgs([]string{"serve", "--pool-config", config, "--endpoint", s.endpoint(), "--node-name", "n1",
		"--state-dir", filepath.Join(dir, "state"), "--kubelet-dir", dir, "--metrics-address", s.metrics})
	go func() { s.done <- cmd.ExecuteContext(ctx) }()
	return s
}

func (s serving) endpoint() string { return "unix://" + filepath.Join(s.dir, "csi.sock") }

// end stops it as a signal does, and waits.
func (s serving) end(t *testing.T) {
	t.Helper()
	s.stop()
	select {
	case err := <-s.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(closeTimeout):
		t.Error("it does not stop")
	}
}

func (s serving) scrape(t *testing.T) string {
	t.Helper()
	answer, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestServe(t *testing.T) {
	hosttest.NeedRoot(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "images"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := startServe(t, dir)
	conn, err := grpc.NewClient(s.endpoint(), testdriver.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	controller := csi.NewControllerClient(conn)
	request := &csi.CreateVolumeRequest{Name: "v", CapacityRange: &csi.CapacityRange{RequiredBytes: 16 << 20},
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}}}}}
	first, err := controller.CreateVolume(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	metrics := s.scrape(t)
	for _, want := range []string{
		`dozo_pool_operation_duration_seconds_count{kind="loopfile",operation="create",pool="images"} 1`,
		`dozo_pool_capacity_bytes{kind="loopfile",pool="images",type="available"}`,
		`dozo_pool_volumes{kind="loopfile",pool="images"} 1`,
		`dozo_volume_size_bytes{kind="loopfile",name="v",pool="images",volume="v"} 1.6777216e+07`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	s.end(t)
	if _, err := os.Lstat(filepath.Join(dir, "csi.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}

	again := startServe(t, dir)
	second, err := controller.CreateVolume(t.Context(), request)
	if err != nil || second.Volume.VolumeId != first.Volume.VolumeId {
		t.Errorf("after a restart: %v, %v, want %v", second, err, first)
	}
	if _, err := controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: first.Volume.VolumeId}); err != nil {
		t.Error(err)
	}
	again.end(t)
}
