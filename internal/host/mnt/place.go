// Package mnt mounts. A [Place] is a path held so that nobody can lead a mount elsewhere by putting
// a symlink in its way, and everything happens through it: looking, making, mounting, unmounting.
//
// Mounts are made with the mount calls of Linux 5.12: a mount is put together where nobody sees it
// and then appears whole, with all its options, read-only from the first moment if it is to be. A
// process that is killed half way leaves nothing.
package mnt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// Place is a path at which something can be mounted: a name in a directory that is held open.
// It must be closed.
type Place struct {
	host   *host.Host
	field  string
	parent *os.File // O_PATH
	name   string
	path   string
}

// Open holds the place at path, which need not exist but its directory must (errs.NotFound). The
// path's last element is never a symlink, and if path is below root ("" is none) no element of it
// is, from root on. errs.Invalid names the field and what is wrong.
func Open(h *host.Host, field, root, path string) (*Place, error) {
	if err := CheckPath(field, path); err != nil {
		return nil, err
	}
	p := &Place{host: h, field: field, name: filepath.Base(path), path: path}
	err := h.Ask("path.open", func() (err error) {
		p.parent, err = openParent(root, filepath.Dir(path))
		return err
	})
	if err != nil {
		return nil, p.explain(err)
	}
	if symlink, err := p.isSymlink(); err == nil && symlink {
		p.Close()
		return nil, errs.E(errs.Invalid, "%s: %s is a symlink, which is never followed", field, path)
	}
	return p, nil
}

// CheckPath returns errs.Invalid unless path is absolute, clean and not the root itself.
func CheckPath(field, path string) error {
	switch {
	case path == "":
		return errs.E(errs.Invalid, "%s: missing", field)
	case !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/":
		return errs.E(errs.Invalid, "%s: %.200q is not an absolute path without \"..\", \".\" and doubled or final slashes", field, path)
	case strings.ContainsFunc(path, func(r rune) bool { return r < ' ' }):
		return errs.E(errs.Invalid, "%s: %.200q has a control character", field, path)
	}
	return nil
}

func openParent(root, dir string) (*os.File, error) {
	rel, below := strings.CutPrefix(dir+"/", strings.TrimSuffix(root, "/")+"/")
	if root == "" || !below {
		return os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	top, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(int(top.Fd()), "./"+rel, &how)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) { // EAGAIN: something was renamed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), dir), nil
	}
}

func (p *Place) explain(err error) error {
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return errs.E(errs.Invalid, "%s: %s passes through a symlink, which is never followed there", p.field, p.path)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
		return errs.E(errs.Invalid, "%s: %s: %w", p.field, p.path, err)
	case errors.Is(err, unix.ENOENT):
		return errs.E(errs.NotFound, "%s: %s: the directory it should be in does not exist", p.field, p.path)
	case errors.Is(err, unix.ENOSYS):
		return errs.E(errs.Unsupported, "%s: this kernel has no openat2; Dozo needs Linux 5.12 or later", p.field)
	default:
		return errs.E(errs.Unavailable, "%s: %s: %w", p.field, p.path, err)
	}
}

// Close lets go of the place.
func (p *Place) Close() { p.parent.Close() }

// String is the path.
func (p *Place) String() string { return p.path }

// open returns the place itself, or what is mounted there. That of a server which is away may never be opened.
func (p *Place) open() (*os.File, error) {
	fd, err := unix.Openat(int(p.parent.Fd()), p.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), p.path), nil
}

// below opens the place itself and never what is mounted there: then unix.EXDEV. So the file system, which
// may have failed or be on a server that is away, is not asked anything.
func (p *Place) below() (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV}
	for {
		fd, err := unix.Openat2(int(p.parent.Fd()), p.name, &how)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), p.path), nil
	}
}

func (p *Place) isSymlink() (bool, error) {
	f, err := p.below()
	if err != nil {
		return false, err
	}
	defer f.Close()
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	return st.Mode&unix.S_IFMT == unix.S_IFLNK, err
}

// Mounted returns the mount at the place, the topmost if there are several, or nil. It goes by numbers: path
// names in the mount table differ where a symlink leads to the directory, and the table may have the same
// path twice.
func (p *Place) Mounted() (*host.MountInfo, error) {
	if there, err := p.IsMountPoint(); err != nil || !there {
		return nil, err
	}
	under, err := mountID(p.host, p.parent)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "%s: %s: what is mounted there: %w", p.field, p.path, err)
	}
	dir, err := os.Readlink(p.host.Proc("self", "fd", strconv.Itoa(int(p.parent.Fd()))))
	if err != nil {
		return nil, errs.E(errs.Unavailable, "%s: %s: %w", p.field, p.path, err)
	}
	table, err := p.host.Mounts()
	if err != nil {
		return nil, errs.E(errs.Unavailable, "mount table: %w", err)
	}
	if m := topmost(table, under, filepath.Join(dir, p.name)); m != nil {
		return m, nil
	}
	return nil, errs.E(errs.Aborted, "%s: %s: its mount changed just now; call again", p.field, p.path)
}

// topmost returns the mount at a path of the mount under, or the one on top of that, and so on.
func topmost(table []host.MountInfo, under int, path string) (top *host.MountInfo) {
	for {
		i := slices.IndexFunc(table, func(m host.MountInfo) bool { return m.ParentID == under && m.MountPoint == path && m.ID != under })
		if i < 0 {
			return top
		}
		top = &table[i]
		under = top.ID
	}
}

// IsMountPoint reports whether anything is mounted at the place. Unlike Mounted it does not read the
// mount table, which takes tens of milliseconds on a node with a thousand volumes.
func (p *Place) IsMountPoint() (there bool, err error) {
	err = p.host.Ask("path.mounted", func() error {
		f, err := p.below()
		if err == nil {
			f.Close()
		}
		return err
	})
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return false, nil
	case errors.Is(err, unix.EXDEV):
		return true, nil
	}
	return false, errs.E(errs.Unavailable, "%s: %s: what is mounted there: %w", p.field, p.path, err)
}

func mountID(h *host.Host, f *os.File) (int, error) {
	return mountIDIn(h.Proc("self", "fdinfo", strconv.Itoa(int(f.Fd()))))
}

// mountIDIn reads what a descriptor is of from its file in fdinfo.
func mountIDIn(path string) (int, error) {
	info, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(info) {
		if id, ok := bytes.CutPrefix(line, []byte("mnt_id:")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(id)))
		}
	}
	return 0, fmt.Errorf("%s has no mnt_id", path)
}

// Shape is what is at a place.
type Shape uint8

// The shapes.
const (
	Absent  Shape = iota
	Dir           // an empty directory
	FullDir       // a directory with something in it
	File          // an empty regular file
	Other         // anything else
)

// Look says what is at the place. It is meant for one where nothing is mounted.
func (p *Place) Look() (Shape, error) {
	shape := Other
	err := p.host.Ask("path.look", func() error {
		var st unix.Stat_t
		if err := unix.Fstatat(int(p.parent.Fd()), p.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			if st.Size == 0 {
				shape = File
			}
		case unix.S_IFDIR:
			empty, err := p.empty()
			if shape = FullDir; empty {
				shape = Dir
			}
			return err
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return Absent, nil
	}
	if err != nil {
		return Other, errs.E(errs.Unavailable, "%s: %s: %w", p.field, p.path, err)
	}
	return shape, nil
}

func (p *Place) empty() (bool, error) {
	fd, err := unix.Openat(int(p.parent.Fd()), p.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	d := os.NewFile(uintptr(fd), p.path)
	defer d.Close()
	_, err = d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

// Make makes an empty directory, or an empty file to mount a device on.
func (p *Place) Make(op string, file bool) error {
	err := p.host.Do(op, func() error {
		if !file {
			return unix.Mkdirat(int(p.parent.Fd()), p.name, 0o750)
		}
		fd, err := unix.Openat(int(p.parent.Fd()), p.name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o640)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return errs.E(errs.Unavailable, "%s: make %s: %w", p.field, p.path, err)
	}
	return nil
}

// Remove removes the empty directory or the empty file at the place; nothing there is no error.
// errs.InUse if it is anything else: nothing that could be data is removed.
func (p *Place) Remove(op string) error {
	shape, err := p.Look()
	if err != nil {
		return err
	}
	flags := 0
	switch shape {
	case Absent:
		return nil
	case Dir:
		flags = unix.AT_REMOVEDIR
	case FullDir:
		return errs.E(errs.InUse, "%s: %s is not empty though nothing is mounted there; look at what is in it and empty it by hand", p.field, p.path)
	case File:
	default:
		return errs.E(errs.InUse, "%s: %s is neither an empty directory nor an empty file; look at what it is and remove it by hand", p.field, p.path)
	}
	err = p.host.Do(op, func() error { return unix.Unlinkat(int(p.parent.Fd()), p.name, flags) })
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EBUSY):
		return errs.E(errs.InUse, "%s: remove %s: %w", p.field, p.path, err)
	default:
		return errs.E(errs.Unavailable, "%s: remove %s: %w", p.field, p.path, err)
	}
}

// fdPath is the place as a path that cannot be led elsewhere.
func (p *Place) fdPath() string {
	return p.host.Proc("self", "fd", fmt.Sprint(p.parent.Fd()), p.name)
}
