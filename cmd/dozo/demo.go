package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/demo"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/pool"
)

type demoFlags struct {
	kind, fs, size, dir string
	why                 string // the file system, when it was not chosen
	keep                bool
}

func demoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See Dozo work on this machine, in seconds, leaving nothing behind",
		Long: `Start the driver in this process with a pool in a fresh directory, and drive it over CSI as a kubelet and
the Kubernetes sidecars do: create, stage, publish, write, expand online, snapshot, restore to a larger
volume, verify checksums, clone, read statistics, tear all down and prove that nothing is left.

It needs root, to attach devices and to mount.`,
		Example: `  sudo dozo demo
  sudo dozo demo --fs xfs --size 512Mi
  sudo dozo demo --fs block
  sudo dozo demo --keep`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd, f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.kind, "kind", "loopfile", "kind of storage to show: loopfile")
	fl.StringVar(&f.fs, "fs", "", "file system on the volumes: ext4, xfs, btrfs, or block for raw devices (default: ext4, or xfs where\nthis process may not grow a mounted ext4, for want of CAP_SYS_RESOURCE)")
	fl.StringVar(&f.size, "size", "512Mi", "size of the first volume, at least 64Mi (xfs: 300Mi, btrfs: 128Mi)")
	fl.StringVar(&f.dir, "dir", "", "make the fresh `directory` in this one (default: the system's for temporary files)")
	fl.BoolVar(&f.keep, "keep", false, "leave the volumes mounted at the end, to look around")
	return cmd
}

// smallest is the least size in bytes at which mkfs makes each file system, and the demo's data fits.
func smallest(fs string) (int64, error) {
	sizes := map[string]int64{"ext4": 64 << 20, "xfs": 300 << 20, "btrfs": 128 << 20, demo.BlockFS: 64 << 20}
	least, ok := sizes[fs]
	if !ok {
		return 0, fmt.Errorf("--fs: %q is none of ext4, xfs, btrfs, block", fs)
	}
	return least, nil
}

func (f *demoFlags) check() (size int64, err error) {
	if f.fs == "" {
		f.fs = "ext4"
		if !host.New().HasCapability(unix.CAP_SYS_RESOURCE) {
			f.fs, f.why = "xfs", " (this process lacks CAP_SYS_RESOURCE, without which a mounted ext4 cannot grow)"
		}
	}
	if f.kind != "loopfile" {
		return 0, fmt.Errorf("--kind: %q is unknown; known is loopfile", f.kind)
	}
	least, err := smallest(f.fs)
	if err != nil {
		return 0, err
	}
	size, err = backend.ParseSize(f.size)
	if err != nil {
		return 0, fmt.Errorf("--size: %w", err)
	}
	if size < least {
		return 0, fmt.Errorf("--size: %s is too little for %s, which needs %s", f.size, f.fs, backend.FormatSize(least))
	}
	return size, nil
}

func runDemo(cmd *cobra.Command, f demoFlags) error {
	size, err := f.check()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the demo attaches devices and mounts them, which needs root; run: sudo %s", strings.Join(os.Args, " "))
	}
	dir, err := os.MkdirTemp(f.dir, "dozo-demo-")
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Driver %s.dozo.dev in %s, volumes of %s with %s%s\n\n", f.kind, dir, backend.FormatSize(size), f.fs, f.why)
	err = demoIn(cmd.Context(), dir, f, demo.Options{
		Pool: "demo", FS: f.fs, Size: size, Dir: dir, Keep: f.keep, Out: out,
	})
	if f.keep && err == nil {
		return nil
	}
	left := removeDemo(dir)
	if err == nil {
		return left
	}
	fmt.Fprintf(out, "\nThe demo failed: %v\n", err)
	if left != nil {
		fmt.Fprintf(out, "Something is left in %s: %v\n", dir, left)
	}
	return errTold
}

func demoIn(ctx context.Context, dir string, f demoFlags, o demo.Options) error {
	images := filepath.Join(dir, "images")
	if err := os.Mkdir(images, 0o700); err != nil {
		return err
	}
	endpoint := "unix://" + filepath.Join(dir, "csi.sock")
	served := newDriverOptions(role{controller: true, node: true},
		serveFlags{endpoint: endpoint, nodeName: "demo", stateDir: filepath.Join(dir, "state"), kubeletDir: dir}, slog.New(slog.DiscardHandler))
	if err := served.open(ctx, []pool.Spec{{Name: o.Pool, Kind: f.kind, Options: map[string]string{"path": images, "spare": "0"}}}); err != nil {
		return err
	}
	d, err := startDriver(ctx, served)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a driver that ended answers nothing: no call need wait for it
		<-d.done
		cancel()
	}()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, MaxDelay: time.Second, Multiplier: 2}}))
	if err != nil {
		return errors.Join(err, d.stop())
	}
	o.Conn, o.Host = conn, d.host
	return errors.Join(demo.Run(ctx, o), conn.Close(), d.stop())
}

// removeDemo removes what an empty pool and a driver have in their directories. It never removes
// recursively: were anything else there, it would be somebody's data.
func removeDemo(dir string) error {
	for _, name := range []string{
		"images/dozo-pool.json", "images/lock", "images/volumes", "images/snapshots", "images/groups", "images",
		"state/lock", "state", "csi.sock", ".",
	} {
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the demo's directory: %w", err)
		}
	}
	return nil
}
