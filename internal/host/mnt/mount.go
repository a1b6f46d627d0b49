package mnt

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// FileSystem is a file system to mount.
type FileSystem struct {
	Type, Device string
	Options      Options
	ReadOnly     bool     // as well as by the options
	Extra        []string // options of ours for the file system, each in force unless Options has its key
}

// Mount mounts a file system at the place, where nothing may be mounted yet, and verifies it in the
// mount table. errs.Invalid for options that the kernel refuses, in its own words.
func Mount(h *host.Host, op string, p *Place, fs FileSystem) (*host.MountInfo, error) {
	ro := fs.ReadOnly || fs.Options.ReadOnly
	var m *host.MountInfo
	err := h.Do(op, func() error {
		tree, err := newMount(fs, ro)
		if err != nil {
			return err
		}
		defer tree.Close()
		m, err = p.attach(tree)
		return err
	})
	if err != nil {
		return nil, p.mountError(err, fs)
	}
	if m == nil {
		return nil, p.notInTable()
	}
	if m.FsType != fs.Type {
		return nil, errs.E(errs.Internal, "%s: %s was mounted as %s and is %s", p.field, p.path, fs.Type, m.FsType)
	}
	return m, fs.Options.verify(p, m, ro)
}

// verify compares the mount table with what was asked.
func (o Options) verify(p *Place, m *host.MountInfo, ro bool) error {
	if IsReadOnly(m) != ro {
		return errs.E(errs.Internal, "%s: %s should be mounted read-only=%v and is %v", p.field, p.path, ro, m.MountOptions)
	}
	for _, word := range o.shown {
		if !slices.Contains(m.MountOptions, word) {
			return errs.E(errs.Internal, "%s: %s should be mounted %s and is %v", p.field, p.path, word, m.MountOptions)
		}
	}
	return nil
}

// IsReadOnly reports whether nothing can be written through m, be it for the mount's own sake or the
// file system's.
func IsReadOnly(m *host.MountInfo) bool {
	return slices.Contains(m.MountOptions, "ro") || Failed(m) != ""
}

// Failed returns how the mount table shows that the file system itself takes no writes, or "". From
// Linux 6.15 on ext4 has words of its own for what an error made of it.
func Failed(m *host.MountInfo) string {
	for _, word := range []string{"shutdown", "emergency_ro", "ro"} {
		if slices.Contains(m.SuperOptions, word) {
			return word
		}
	}
	return ""
}

// optionError is an option that the kernel refused, or all of them.
type optionError struct {
	option string
	err    error
}

func (e *optionError) Error() string { return fmt.Sprintf("%s: %v", e.option, e.err) }
func (e *optionError) Unwrap() error { return e.err }

// newMount makes a mount that is nowhere yet.
func newMount(fs FileSystem, ro bool) (*os.File, error) {
	tree, err := tryMount(fs, fs.Options.data, ro)
	var known *optionError
	if !errors.Is(err, unix.EINVAL) || errors.As(err, &known) || len(fs.Options.data) == 0 {
		return tree, err
	}
	// Older kernels judge all options at the end and do not say what was wrong. If it works without
	// them, it was they.
	bare, bareErr := tryMount(fs, nil, ro)
	if bareErr != nil {
		return nil, err
	}
	bare.Close()
	var all []string
	for _, d := range fs.Options.data {
		all = append(all, d.key)
	}
	return nil, &optionError{strings.Join(all, ","), err}
}

func tryMount(fs FileSystem, data []param, ro bool) (*os.File, error) {
	fd, err := unix.Fsopen(fs.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := configure(fd, fs, data, ro); err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, said(fd, err)
	}
	attrs := fs.Options.set
	if ro {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	tree, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, int(attrs))
	if err != nil {
		return nil, said(fd, err)
	}
	return os.NewFile(uintptr(tree), fs.Device), nil
}

func configure(fd int, fs FileSystem, data []param, ro bool) error {
	if err := unix.FsconfigSetString(fd, "source", fs.Device); err != nil {
		return said(fd, err)
	}
	if ro {
		if err := unix.FsconfigSetFlag(fd, "ro"); err != nil {
			return said(fd, err)
		}
	}
	for _, word := range fs.Extra {
		extra := newParam(word)
		if !slices.ContainsFunc(data, func(d param) bool { return d.key == extra.key }) {
			data = append(slices.Clip(data), extra)
		}
	}
	for _, d := range data {
		var err error
		if d.flag {
			err = unix.FsconfigSetFlag(fd, d.key)
		} else {
			err = unix.FsconfigSetString(fd, d.key, d.value)
		}
		if err != nil {
			return &optionError{d.key, said(fd, err)}
		}
	}
	return nil
}

// said adds to err what the kernel has to say about a mount that it refused.
func said(fd int, err error) error {
	var all []string
	b := make([]byte, 4096)
	for len(all) < 16 {
		n, readErr := unix.Read(fd, b)
		if readErr != nil || n <= 0 {
			break
		}
		// Each is a letter for its severity, a space, and the text.
		all = append(all, strings.TrimSpace(string(b[min(n, 2):n])))
	}
	if len(all) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(all, "; "))
}

func (p *Place) mountError(err error, fs FileSystem) error {
	var option *optionError
	var classified *errs.Error
	what := fmt.Sprintf("mount %s %s at %s", fs.Type, fs.Device, p.path)
	kind, hint := errs.Internal, "; the kernel's log (dmesg) on the node may say more"
	switch {
	case errors.Is(err, errStacked):
		return errs.E(errs.Aborted, "%s: %w", what, err)
	case errors.As(err, &classified):
		kind, hint = classified.Kind, ""
	case errors.As(err, &option):
		return errs.E(errs.Invalid, "mount_options: %q: %s refuses it: %w", option.option, fs.Type, option.err)
	case errors.Is(err, unix.ENOSYS):
		kind, hint = errs.Unsupported, "; Dozo needs Linux 5.12 or later"
	case errors.Is(err, unix.ENODEV):
		kind, hint = errs.Unsupported, "; the node's kernel has no such file system: load its module"
	case errors.Is(err, unix.EBUSY):
		kind, hint = errs.InUse, "; something on the node has the device open"
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOMEM):
		kind = errs.Unavailable
	}
	return errs.E(kind, "%s: %w%s", what, err, hint)
}

// Bind makes what is mounted at from, of which nothing but the options differs, appear at the place
// too, where nothing may be mounted yet. Of the options only those of a mount itself count: those
// for the file system were given when it was mounted.
func Bind(h *host.Host, op string, from, p *Place, o Options, ro bool) (*host.MountInfo, error) {
	return p.bind(h, op, o, ro, func() (*os.File, error) {
		return cloneTree(int(from.parent.Fd()), from.name, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// BindDevice makes a device node appear at the place, on an empty file. Read-only there is a sign
// for others and not a barrier: the node's own permission bits cannot be changed through it, but the
// kernel lets a device be written through a read-only mount.
func BindDevice(h *host.Host, op, device string, p *Place, ro bool) (*host.MountInfo, error) {
	return p.bind(h, op, Options{}, ro, func() (*os.File, error) {
		tree, err := cloneTree(unix.AT_FDCWD, device, 0)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(tree.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			tree.Close()
			return nil, fmt.Errorf("%s is no block device: %w", device, errors.Join(err, unix.ENOTBLK))
		}
		return tree, nil
	})
}

func (p *Place) bind(h *host.Host, op string, o Options, ro bool, clone func() (*os.File, error)) (*host.MountInfo, error) {
	ro = ro || o.ReadOnly
	var m *host.MountInfo
	err := h.Do(op, func() error {
		tree, err := clone()
		if err != nil {
			return err
		}
		defer tree.Close()
		if err := setAttributes(tree, o, ro); err != nil {
			return err
		}
		m, err = p.attach(tree)
		return err
	})
	switch {
	case errors.Is(err, errStacked):
		return nil, errs.E(errs.Aborted, "%s: %w", p.field, err)
	case errors.Is(err, unix.ENOSYS):
		return nil, errs.E(errs.Unsupported, "%s: bind at %s: this kernel lacks mount_setattr; Dozo needs Linux 5.12 or later", p.field, p.path)
	case err != nil:
		return nil, errs.E(errs.Unavailable, "%s: bind at %s: %w", p.field, p.path, err)
	}
	if m == nil {
		return nil, p.notInTable()
	}
	// What was staged read-only stays it.
	return m, o.verify(p, m, ro || IsReadOnly(m))
}

func cloneTree(dir int, name string, flags uint) (*os.File, error) {
	fd, err := unix.OpenTree(dir, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func setAttributes(tree *os.File, o Options, ro bool) error {
	a := unix.MountAttr{Attr_set: o.set}
	if ro {
		a.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if o.atime {
		a.Attr_clr = unix.MOUNT_ATTR__ATIME
	}
	if a == (unix.MountAttr{}) {
		return nil
	}
	return unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH, &a)
}

var errStacked = errors.New("something else was mounted there at the same moment; call again")

func (p *Place) notInTable() error {
	return errs.E(errs.Internal, "%s: %s was mounted, and is not in the mount table", p.field, p.path)
}

// attach puts a mount that is nowhere yet at the place, and returns what the mount table then says of it, nil
// if nothing. If somebody was faster, ours is on top of theirs, and is taken away again.
func (p *Place) attach(tree *os.File) (*host.MountInfo, error) {
	at, err := p.open()
	if err != nil {
		return nil, err
	}
	defer at.Close()
	here, err := mountID(p.host, at)
	if err != nil {
		return nil, err
	}
	if above, err := mountID(p.host, p.parent); err != nil || here != above {
		return nil, errors.Join(err, errStacked)
	}
	err = unix.MoveMount(int(tree.Fd()), "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return nil, err
	}
	m, err := p.Mounted()
	if err == nil && m != nil && m.ParentID != here {
		return nil, errors.Join(errStacked, unix.Unmount(p.fdPath(), unix.UMOUNT_NOFOLLOW))
	}
	return m, err
}
