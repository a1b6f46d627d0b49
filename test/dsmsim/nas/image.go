package nas

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/test/dsmsim"
)

func imageFile(volume, id string) string { return filepath.Join(volume, imageDir, id) }

// find returns what there is by that name in one of the volumes, as one of them has it; "" if none does.
func (p *Plane) find(in func(volume string) string) string {
	for _, v := range p.cfg.Volumes {
		if _, err := os.Lstat(in(v.Path)); err == nil {
			return in(v.Path)
		}
	}
	return ""
}

// image finds the file of an image.
func (p *Plane) image(id string) (string, error) {
	file := p.find(func(volume string) string { return imageFile(volume, id) })
	if file == "" {
		return "", fmt.Errorf("no image %s", id)
	}
	return file, nil
}

// CreateImage makes a file, with all its room if it is not thin.
func (p *Plane) CreateImage(i dsmsim.Image) error {
	file := imageFile(i.Volume, i.ID)
	if err := makeFile(file, i.Size); err != nil || i.Thin {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, i.Size), f.Close())
}

// ResizeImage makes the file larger and has its loop device notice. Initiators notice when they look again.
func (p *Plane) ResizeImage(id string, size int64) error {
	file, err := p.image(id)
	if err != nil {
		return err
	}
	if err := makeFile(file, size); err != nil {
		return err
	}
	device, err := p.attached(file)
	if err != nil || device == "" {
		return err
	}
	_, err = run("losetup", "--set-capacity", device)
	return err
}

// CopyImage shares all blocks, so that it is one moment of the source, however long it is. What was
// acknowledged may be in memory only: the clone takes that too.
func (p *Plane) CopyImage(i dsmsim.Image, from string) error {
	source, err := p.image(from)
	if err != nil {
		return err
	}
	src, err := os.Open(source)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(imageFile(i.Volume, i.ID), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(src.Sync(), unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())))
	if err == nil {
		err = dst.Truncate(i.Size)
	}
	return errors.Join(err, dst.Sync(), dst.Close())
}

// DeleteImage removes the file; an image that is in a target stays, with an error.
func (p *Plane) DeleteImage(id string) error {
	file, err := p.image(id)
	if err != nil {
		return nil // what is absent is deleted
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.release(); err != nil {
		return err
	}
	if device, err := p.attached(file); err != nil || device != "" {
		return errors.Join(err, fmt.Errorf("image %s is in use by %s", id, device))
	}
	err = os.Remove(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// release closes what no target has any more. The kernel knows, also what a process before this one had served.
func (p *Plane) release() error {
	devices, err := p.lio.Devices()
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, id := range devices {
		released, err := p.lio.Release(id)
		if err != nil {
			return err
		}
		used[id] = !released
	}
	loops, err := p.host.LoopDevices()
	if err != nil {
		return err
	}
	for _, d := range loops {
		ours := filepath.Base(filepath.Dir(d.File)) == imageDir
		if !ours || used[filepath.Base(d.File)] {
			continue
		}
		if _, err := run("losetup", "--detach", d.Path); err != nil {
			return err
		}
	}
	return nil
}
