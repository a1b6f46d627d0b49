package lio

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// configfs is a directory of that file system, in which making a directory makes the thing.
type configfs string

func (c configfs) path(name string) string { return filepath.Join(string(c), name) }

func (c configfs) exists(name string) bool {
	_, err := os.Lstat(c.path(name))
	return err == nil
}

func (c configfs) mkdir(name string) error { return os.MkdirAll(c.path(name), 0o755) }

// list returns the directories in a directory: the rest are attributes.
func (c configfs) list(name string) ([]string, error) {
	entries, err := os.ReadDir(c.path(name))
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, e.Name())
		}
	}
	return dirs, err
}

func (c configfs) read(name string) (string, error) {
	text, err := os.ReadFile(c.path(name))
	return string(text), err
}

// write sets an attribute, with one call of write.
func (c configfs) write(name, value string) error {
	f, err := os.OpenFile(c.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// set is write unless it is so already: some attributes refuse what they have.
func (c configfs) set(name, value string) error {
	now, err := c.read(name)
	if err != nil || strings.TrimSpace(now) == value {
		return err
	}
	return c.write(name, value)
}

func (c configfs) link(to, name string) error {
	return os.Symlink(c.path(to), c.path(name))
}

// remove removes a directory or a link. What is absent is fine.
func (c configfs) remove(name string) error {
	path := c.path(name)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = unix.Rmdir(path)
	} else {
		err = unix.Unlink(path)
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}
