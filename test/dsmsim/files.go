package dsmsim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Files is a Plane whose images are files and whose shares are directories. What is exported is only noted, as Memory does.
type Files struct {
	*Memory
	dir string
}

// NewFiles keeps its data in a directory.
func NewFiles(dir string) (*Files, error) {
	return &Files{NewMemory(), dir}, os.MkdirAll(filepath.Join(dir, "images"), 0o700)
}

func (f *Files) image(id string) string { return filepath.Join(f.dir, "images", id) }

func (f *Files) folder(id string) string { return filepath.Join(f.dir, "shares", id) }

// CreateImage makes a sparse file.
func (f *Files) CreateImage(i Image) error {
	file, err := os.OpenFile(f.image(i.ID), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Truncate(i.Size), file.Close())
}

// ResizeImage sets the size of the file.
func (f *Files) ResizeImage(id string, size int64) error { return os.Truncate(f.image(id), size) }

// CopyImage shares the blocks where the file system can, and copies what is not a hole elsewhere.
func (f *Files) CopyImage(i Image, from string) error {
	return copyTree(f.image(from), f.image(i.ID))
}

// DeleteImage removes the file.
func (f *Files) DeleteImage(id string) error { return absentIsFine(os.Remove(f.image(id))) }

// SetFolder makes the directory.
func (f *Files) SetFolder(d Folder) error {
	return errors.Join(f.Memory.SetFolder(d), os.MkdirAll(f.folder(d.ID), 0o700))
}

// CopyFolder copies the directory.
func (f *Files) CopyFolder(d Folder, from string) error {
	if err := os.RemoveAll(f.folder(d.ID)); err != nil {
		return err
	}
	if err := copyTree(f.folder(from), f.folder(d.ID)); err != nil {
		return err
	}
	return f.Memory.SetFolder(d)
}

// RemoveFolder removes the directory with what is in it.
func (f *Files) RemoveFolder(id string) error {
	return errors.Join(f.Memory.RemoveFolder(id), os.RemoveAll(f.folder(id)))
}

func copyTree(from, to string) error {
	out, err := exec.Command("cp", "-a", "--reflink=auto", "--sparse=always", "--", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	return nil
}

func absentIsFine(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
