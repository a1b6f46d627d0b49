package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// imageStoreFormat is part of the store's key: raise it when images change in
// a way that the files they are made of do not show.
const imageStoreFormat = "1"

// imageStore makes, once, the containerd state directory that nodes start
// from: importing the images on each node at each start takes longer than all
// the rest of it.
func (l *Lab) imageStore(ctx context.Context, tools toolchain) (string, error) {
	key, err := imageStoreKey(tools)
	if err != nil {
		return "", err
	}
	store := filepath.Join(l.Cache, "images", key)
	if _, err := os.Stat(store); err == nil {
		return store, use(store)
	}
	l.Progress.Step("assembling images …")
	images, err := l.images(ctx, tools)
	if err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(l.Cache, "images-*.partial")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := WriteArchive(filepath.Join(work, "images.tar"), images); err != nil {
		return "", err
	}
	l.Progress.Step("importing %d images into a store …", len(images))
	if err := importImages(ctx, work); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(store), 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(work, "containerd"), store); err != nil {
		return "", err
	}
	l.Progress.Step("image store ready")
	return store, nil
}

// imageStoreKey changes with the built binaries and with the host's programs
// that go into images.
func imageStoreKey(tools toolchain) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, imageStoreFormat, tools.dir)
	for _, name := range append(requiredPrograms(), "busybox") {
		file, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("%w; make lab-packages installs what the lab needs", err)
		}
		info, err := os.Stat(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, name, info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// importImages runs a containerd of its own, in namespaces of its own.
func importImages(ctx context.Context, work string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, string(StageSeedInit), work)
	cmd.SysProcAttr = namespaces()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("importing images: %w\n%s\n%s", err, out, tail(filepath.Join(work, "containerd.log"), 20))
	}
	return nil
}

// seedInit is process 1 of the importing namespaces: WORK-DIRECTORY.
func seedInit(args []string) error {
	if err := makePrivate(); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return err
	}
	return superviseAsInit(self, StageSeed, args...)
}

// seedManager imports; its end, and with it that of process 1, ends containerd.
func seedManager(args []string) error {
	work := args[0]
	config := filepath.Join(work, "containerd.toml")
	if err := os.WriteFile(config, []byte(storeToml(filepath.Join(work, "containerd"))), 0o644); err != nil {
		return err
	}
	sup := &supervisor{logs: work, events: os.Stderr}
	if err := sup.start("containerd", "containerd", "--config", config); err != nil {
		return err
	}
	ctx := context.Background()
	if err := poll(ctx, time.Minute, 100*time.Millisecond, containerdReady); err != nil {
		return err
	}
	load := command{args: ctrImportArgs(filepath.Join(work, "images.tar")), timeout: importTimeout}
	if _, err := load.run(ctx); err != nil {
		return err
	}
	unix.Sync()
	return nil
}

// cloneImageStore copies the databases, which containerd writes to, and links
// the rest: contents and unpacked layers, which nothing ever writes to.
func cloneImageStore(store, target string) error {
	return filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.Join(target, strings.TrimPrefix(path, store))
		switch {
		case d.IsDir():
			return cloneDir(name, d)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, name)
		case strings.HasSuffix(path, ".db"):
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(name, data, 0o600)
		case d.Type().IsRegular():
			return os.Link(path, name)
		}
		return nil
	})
}

// cloneDir keeps the exact mode: an image's /tmp is sticky and open to all.
func cloneDir(name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(name, info.Mode())
}
