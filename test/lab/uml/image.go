package uml

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed guest-packages.txt
var guestPackages string

//go:embed init.sh
var initScript string

//go:embed lvmlocal.conf
var lvmConfig string

const (
	// ModulesDir is where the host has the kernel's modules.
	ModulesDir = "/usr/lib/uml/modules"
	// imageVersion changes when makeTree or makeImage changes.
	imageVersion = "2"
	// imageSize is the root's size in bytes; the file is sparse.
	imageSize = 4 << 30
)

// CacheDir is where images and the directories of running tests live.
func CacheDir() (string, error) {
	dir := os.Getenv("DOZO_LAB_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			base = os.TempDir()
		}
		dir = filepath.Join(base, "dozo-lab")
	}
	if !filepath.IsAbs(dir) || strings.ContainsAny(dir, " \t\n,'\"") {
		return "", fmt.Errorf("the lab's cache directory %q cannot be handed to a kernel: set DOZO_LAB_CACHE to an absolute path without blanks, commas and quotes", dir)
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// Image builds the machines' root file system or finds it in the cache, and
// returns the path of the file. It has the packages of guest-packages.txt and
// the extra ones. Of several processes one builds and the others wait.
func Image(ctx context.Context, cache string, extra []string) (string, error) {
	suite, err := HostSuite()
	if err != nil {
		return "", err
	}
	packages := packageList(extra)
	path := filepath.Join(cache, "root-"+imageKey(suite, packages)+".ext4")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unlock, err := lockFile(ctx, filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, buildImage(ctx, cache, path, suite, packages)
}

// packageList is the sorted list of the base and the extra packages.
func packageList(extra []string) []string {
	list := slices.Clone(extra)
	for line := range strings.Lines(guestPackages) {
		line, _, _ = strings.Cut(line, "#")
		list = append(list, strings.Fields(line)...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// imageKey identifies all that goes into an image, but not the day's package versions.
func imageKey(suite string, packages []string) string {
	h := sha256.New()
	for _, part := range append([]string{imageVersion, suite, initScript, lvmConfig}, packages...) {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return fmt.Sprintf("%x", h.Sum(nil))[:16]
}

// HostSuite is the host's Debian release: the test binary may be linked to its
// C library, and its package sources are the ones that are set up.
func HostSuite() (string, error) {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(name, `"`), nil
		}
	}
	return "", errors.New("/etc/os-release names no release: the lab needs a Debian host")
}

// buildImage builds beside the final path and renames, so that a cut leaves nothing half done.
func buildImage(ctx context.Context, cache, path, suite string, packages []string) error {
	leftovers, err := filepath.Glob(filepath.Join(cache, "build-*"))
	if err != nil {
		return err
	}
	for _, dir := range leftovers { // the lock is held: nobody builds there
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	start := time.Now()
	Progress("building the guests' root file system of %d packages from Debian %s; this takes minutes, once", len(packages), suite)
	if err := makeTree(ctx, dir, suite, packages); err != nil {
		return err
	}
	Progress("packages installed after %v, writing %s", time.Since(start).Round(time.Second), path)
	temp := filepath.Join(dir, "image")
	if err := makeImage(ctx, dir, temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	Progress("root file system ready after %v", time.Since(start).Round(time.Second))
	return nil
}

// makeTree installs the packages below dir/root.
func makeTree(ctx context.Context, dir, suite string, packages []string) error {
	root := filepath.Join(dir, "root")
	if err := Debian(ctx, suite, packages, root); err != nil {
		return err
	}
	return finishTree(root)
}

// Debian installs packages and what they need from the host's own package sources: into a directory, or
// into an archive if the name ends with ".tar". Manuals and what packages only recommend are left out.
func Debian(ctx context.Context, suite string, packages []string, into string, options ...string) error {
	sources, err := HostOutput(ctx, nil, "apt-get", "indextargets",
		"--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages", "Origin: Debian")
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(sources)) == 0 {
		return errors.New("apt knows no Debian package source: run apt-get update")
	}
	args := []string{"--variant=minbase", "--mode=root", "--skip=check/empty", "--quiet",
		"--aptopt=APT::Install-Recommends \"false\"",
		"--aptopt=Acquire::Languages \"none\"",
		"--dpkgopt=force-unsafe-io",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--include=" + strings.Join(packages, ",")}
	args = append(append(args, options...), suite, into, "-")
	if _, err := HostOutput(ctx, bytes.NewReader(sources), "mmdebstrap", args...); err != nil {
		return fmt.Errorf("%w; if a package was not found, run apt-get update and look it up with apt-cache policy", err)
	}
	return nil
}

// finishTree adds the lab's own files.
func finishTree(root string) error {
	files := []struct {
		path, text string
		mode       fs.FileMode
	}{
		{"usr/sbin/lab-init", initScript, 0o755},
		{"etc/lvm/lvmlocal.conf", lvmConfig, 0o644},
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(root, f.path), []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	for _, dir := range []string{"host", "etc/target"} { // the iSCSI target's module looks for the latter
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	return os.Symlink("/host"+ModulesDir, filepath.Join(root, "usr/lib/modules"))
}

// makeImage writes the tree into a sparse ext4 file, with nothing mounted. It
// has a journal, so that a guest boots again after a power cut.
func makeImage(ctx context.Context, dir, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	err = file.Truncate(imageSize)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	_, err = HostOutput(ctx, nil, "mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=16",
		"-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", "-d", filepath.Join(dir, "root"), path)
	return err
}

// lockFile takes an exclusive lock that ends with the process.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for told := false; ; told = true {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !told {
			Progress("another process builds the root file system; waiting")
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("wait for another build of the root file system: %w; raise go test's -timeout", ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Progress tells what takes long, also when go test shows no test's log.
func Progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "lab: "+format+"\n", args...)
}
