package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/dozo-dev/dozo/internal/host/hosttest"
	testdriver "github.com/dozo-dev/dozo/test/driver"
)

// run runs the command in this process until stop is called, which fails the test for its error.
func run(t *testing.T, args ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	cmd := root()
	cmd.SetArgs(args)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("dozo %s: %v", args[0], err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// remotely is a pool that lvmd has, and the configuration of who uses it there.
func remotely(t *testing.T, dir string) (lvmd, config, socket string) {
	t.Helper()
	images, socket := filepath.Join(dir, "images"), filepath.Join(dir, "run", "lvmd.sock")
	if err := os.Mkdir(images, 0o700); err != nil {
		t.Fatal(err)
	}
	lvmd = writeFile(t, filepath.Join(dir, "lvmd.yaml"), fmt.Sprintf("pools:\n- name: images\n  kind: loopfile\n  options: {path: %s, spare: \"0\"}\n", images))
	config = writeFile(t, filepath.Join(dir, "node.yaml"), fmt.Sprintf("pools:\n- name: images\n  kind: loopfile\n  socket: %s\n", socket))
	return lvmd, config, socket
}

// TestServeOverLvmd: the driver in one process, its pool in another; a volume is staged and written
// to, lvmd is stopped, and comes back.
func TestServeOverLvmd(t *testing.T) {
	hosttest.NeedRoot(t)
	dir := t.TempDir()
	lvmd, config, socket := remotely(t, dir)
	daemon := []string{"lvmd", "--pool-config", lvmd, "--socket", socket, "--node-name", "n1"}
	stop := run(t, daemon...)
	endpoint := "unix://" + filepath.Join(dir, "csi.sock")
	run(t, "serve", "--pool-config", config, "--endpoint", endpoint, "--node-name", "n1", "--state-dir", filepath.Join(dir, "state"), "--kubelet-dir", dir)
	conn, err := grpc.NewClient(endpoint, testdriver.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	controller, node := csi.NewControllerClient(conn), csi.NewNodeClient(conn)
	capability := &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "ext4"}},
	}
	made, err := controller.CreateVolume(t.Context(), &csi.CreateVolumeRequest{
		Name: "v", CapacityRange: &csi.CapacityRange{RequiredBytes: 16 << 20}, VolumeCapabilities: []*csi.VolumeCapability{capability},
	})
	if err != nil {
		t.Fatal(err)
	}
	id, staging := made.Volume.VolumeId, filepath.Join(dir, "staging")
	stage := &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: staging, VolumeCapability: capability, VolumeContext: made.Volume.VolumeContext}
	if err := os.Mkdir(staging, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := node.NodeStageVolume(t.Context(), stage); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); err == nil || !strings.Contains(err.Error(), "does dozo lvmd run?") {
		t.Errorf("without lvmd: %v", err)
	}
	writeFile(t, filepath.Join(staging, "data"), "written without lvmd")
	run(t, daemon...)
	eventually(t, func() error {
		_, err := node.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging})
		return err
	})
	eventually(t, func() error {
		_, err := controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
		return err
	})
	hosttest.NothingLeft(t, filepath.Join(dir, "images"), "dozo-pool.json", "lock", "volumes", "snapshots", "groups")
}

func eventually(t *testing.T, call func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = call(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func TestPoolsThatCannotBeServed(t *testing.T) {
	dir := t.TempDir()
	lvmd, config, socket := remotely(t, dir)
	run(t, "lvmd", "--pool-config", lvmd, "--socket", socket, "--node-name", "n1")
	for _, c := range []struct{ name, role, text, says string }{
		{"no pools", "lvmd", "pools: []", "there are none"},
		{"a socket", "lvmd", "pools:\n- {name: images, kind: loopfile, socket: /s}", "it is this process that serves one"},
		{"unknown kind", "lvmd", "pools:\n- {name: images, kind: floppy}", "floppy"},
		{"no option", "lvmd", "pools:\n- {name: images, kind: loopfile}", `options["path"]: missing`},
		{"options and socket", "node", "pools:\n- {name: images, kind: loopfile, options: {path: /x}, socket: " + socket + "}", "remove them here"},
		{"another kind", "node", "pools:\n- {name: images, kind: floppy, socket: " + socket + "}", `kind "loopfile"`},
		{"another name", "node", "pools:\n- {name: pictures, kind: loopfile, socket: " + socket + "}", `"pictures" is not served here; add it to the pools in ` + lvmd + ` on node n1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeFile(t, filepath.Join(t.TempDir(), "pools.yaml"), c.text)
			args := []string{c.role, "--pool-config", file, "--node-name", "n1", "--socket", filepath.Join(dir, "unused", "s")}
			if c.role == "node" {
				args = args[:5]
			}
			if _, err := dozo(t, args...); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
	_, err := dozo(t, "node", "--pool-config", config, "--node-name", "n2")
	if err == nil || !strings.Contains(err.Error(), `this is node "n2"`) {
		t.Errorf("on another node: %v", err)
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	notify(slog.New(slog.DiscardHandler), "READY=1")
	said := make([]byte, 100)
	if n, err := l.Read(said); err != nil || string(said[:n]) != "READY=1" {
		t.Errorf("said %q, %v", said[:n], err)
	}
	var log strings.Builder
	t.Setenv("NOTIFY_SOCKET", path+"-absent")
	notify(slog.New(slog.NewTextHandler(&log, nil)), "READY=1")
	if !strings.Contains(log.String(), "READY=1") {
		t.Errorf("nobody was told, and the log says %q", log.String())
	}
}

// TestSystemdUnit lets systemd read the unit, with a program that is there, and complain.
func TestSystemdUnit(t *testing.T) {
	text, err := os.ReadFile("../../deploy/systemd/dozo-lvmd.service")
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "dozo-lvmd.service")
	for name, change := range map[string]string{"as it is": "", "with a mistake": "\nRestartSecs=1\n"} {
		changed := strings.ReplaceAll(string(text), "/usr/local/bin/dozo", here)
		writeFile(t, unit, strings.Replace(changed, "\nRestartSec=1\n", "\nRestartSec=1\n"+change, 1))
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		if clean := err == nil && len(out) == 0; clean != (change == "") {
			t.Errorf("%s: %v, %s", name, err, out)
		}
	}
	// What the unit says has to be what the command takes.
	for _, word := range []string{"lvmd", "--pool-config", "--socket"} {
		if !strings.Contains(string(text), " "+word+" ") {
			t.Errorf("ExecStart has no %s", word)
		}
	}
}
