package crash

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/iscsi"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/lab"
	"github.com/dozo-dev/dozo/test/lab/lio"
)

// The target of all runs, and its disk under the number 1.
const (
	iscsiTarget = "iqn.2000-01.com.synology:nas.dozo.p.n1"
	iscsiPortal = "127.0.0.1:3260"
	iscsiSerial = "0513a3cd1edf296d4d4bdb712"
	iscsiSize   = 64 * mib
)

// networkUse is a volume behind an iSCSI target.
type networkUse struct{ use }

func (u networkUse) stage() Step {
	return Step{Name: "stage " + u.name, Do: func(ctx context.Context, d Driver) error {
		if err := os.Mkdir(u.staging(d), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return d.Node.Stage(ctx, node.StageRequest{
			Volume: u.handle(), Staging: u.staging(d), FSType: u.fs,
			Access:  backend.ISCSIAccess("36001405"+iscsiSerial, &backend.ISCSITarget{IQN: iscsiTarget, Portals: []string{iscsiPortal}, LUN: 1, CHAP: true}),
			Secrets: map[string]string{iscsi.SecretUser: "dozo", iscsi.SecretPassword: "a-password-of-chap"},
		})
	}}
}

// left fails if the node has anything of the initiator's.
func (u networkUse) left() Step {
	return Step{Name: "nothing left", Do: func(context.Context, Driver) error {
		if left := lab.InitiatorLeft(); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	}}
}

// openNode starts a node without pools.
func openNode(_ context.Context, h *host.Host, dir string) (Driver, error) {
	for _, d := range []string{filepath.Join(dir, "staging"), filepath.Join(dir, "pod")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return Driver{}, err
		}
	}
	set, err := pool.NewSet()
	if err != nil {
		return Driver{}, err
	}
	n, err := node.New(h, set, node.Options{Name: "n1", StateDir: filepath.Join(dir, "state"), TargetRoot: dir, Log: slog.New(slog.DiscardHandler)})
	return Driver{Host: h, Node: n, Dir: dir}, err
}

// TestISCSIVolume kills what is done on a node to a volume behind an iSCSI target: its first formatting, its use, and its
// second use.
func TestISCSIVolume(t *testing.T) {
	lab.Long(t, "10 to 20 minutes")
	if !lab.Run(t, lab.Guest{MemoryMiB: 1024, Modules: append(lio.Modules(), "iscsi_tcp", "sd_mod"), Programs: []string{"iscsid", "iscsiadm", "losetup", "blkdiscard"}}) {
		return
	}
	var disk *lio.Disk
	if os.Getenv(orderVariable) == "" {
		lab.StartInitiator(t)
		disk = lio.NewDisk(t, "v", iscsiSerial, iscsiSize)
		lio.NewTarget(t, iscsiTarget, "dozo", "a-password-of-chap", iscsiPortal).Map(disk, 1)
	}
	u := networkUse{use{"v", "ext4", iscsiSize}}
	steps := []Step{
		u.stage(), tried(u.publish())[0], tried(u.write())[0], tried(u.unpublish())[0], u.unstage(), tried(u.left())[0],
		tried(u.stage())[0], tried(u.publish())[0], tried(u.verify())[0], tried(u.unpublish())[0], tried(u.unstage())[0], tried(u.left())[0],
	}
	Try(t, Path{Open: openNode, Steps: steps, Close: func(dir string) {
		release(dir)
		if found, _ := filepath.Glob("/etc/iscsi/nodes/*"); len(found) > 0 { // after a failed run only
			_ = exec.Command("iscsiadm", "-m", "node", "-u").Run()
			_ = exec.Command("iscsiadm", "-m", "node", "-o", "delete").Run()
		}
		disk.Blank()
	}})
}

// TestISCSIHasEffects: labels that nobody has would not be killed at.
func TestISCSIHasEffects(t *testing.T) {
	var source strings.Builder
	for _, dir := range []string{"iscsi", "connect", "fs"} {
		files, err := filepath.Glob(filepath.Join("..", "..", "internal", "host", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(text)
		}
	}
	for _, op := range []string{"claim.write", "claim.settled", "claim.remove", "iscsi.record", "iscsi.record.new", "iscsi.record.delete", "iscsi.login",
		"iscsi.scan", "iscsi.disk.flush", "iscsi.logout", "stage.mark", "stage.mark.clear"} {
		if !strings.Contains(source.String(), `"`+op+`"`) {
			t.Errorf("%s: no effect of that label", op)
		}
	}
}
