package host

import (
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Mkdir makes one directory.
func (h *Host) Mkdir(op, path string, perm os.FileMode) error {
	return h.Do(op, func() error { return os.Mkdir(path, perm) })
}

// Create makes a file that must not exist yet, open for reading and writing.
func (h *Host) Create(op, path string, perm os.FileMode) (f *os.File, err error) {
	err = h.Do(op, func() error {
		f, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_NOFOLLOW, perm)
		return err
	})
	return f, err
}

// Remove removes one file or one empty directory. Nothing here removes recursively.
func (h *Host) Remove(op, path string) error {
	return h.Do(op, func() error { return os.Remove(path) })
}

// Rename moves a file or directory within a file system and makes that durable.
func (h *Host) Rename(op, from, to string) error {
	return h.Do(op, func() error {
		if err := os.Rename(from, to); err != nil {
			return err
		}
		if filepath.Dir(from) != filepath.Dir(to) {
			if err := syncDir(filepath.Dir(from)); err != nil {
				return err
			}
		}
		return syncDir(filepath.Dir(to))
	})
}

// WriteFile writes a file so that after a crash it has either its old or its new content, whole and
// durable. It goes through path+".tmp", which a crash may leave and the next call replaces.
func (h *Host) WriteFile(op, path string, data []byte, perm os.FileMode) error {
	tmp := path + ".tmp"
	err := h.Do(op+".write", func() error {
		f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, perm)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(data); err != nil {
			return err
		}
		return f.Sync()
	})
	if err != nil {
		return err
	}
	return h.Rename(op+".rename", tmp, path)
}

// ReadFile reads a file of at most limit bytes, without following a symlink as its last element.
func (h *Host) ReadFile(op, path string, limit int64) (data []byte, err error) {
	err = h.Ask(op, func() error {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		data, err = io.ReadAll(io.LimitReader(f, limit))
		return err
	})
	return data, err
}

// ReadDir lists a directory.
func (h *Host) ReadDir(op, path string) (entries []os.DirEntry, err error) {
	err = h.Ask(op, func() error {
		entries, err = os.ReadDir(path)
		return err
	})
	return entries, err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
