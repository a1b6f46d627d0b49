package demo

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
)

// dataSize is how much is written and verified, in bytes: several extents, in little time.
const dataSize = 8 << 20

// file opens what a pod writes its data to: a file in a mounted volume, or the device itself.
func (d *demo) file(v *volume, flags int) (*os.File, error) {
	if d.FS == BlockFS {
		return os.OpenFile(d.target(v), flags&^(os.O_CREATE|os.O_TRUNC)|unix.O_NOFOLLOW, 0)
	}
	return os.OpenFile(filepath.Join(d.target(v), "data"), flags|unix.O_NOFOLLOW, 0o600)
}

func (d *demo) write(v *volume) (string, error) {
	sum := sha256.New()
	if err := d.fill(v, io.TeeReader(rand.Reader, sum)); err != nil {
		return "", err
	}
	d.sum = hex.EncodeToString(sum.Sum(nil))
	return fmt.Sprintf("%s, sha256 %.12s…", backend.FormatSize(dataSize), d.sum), nil
}

func (d *demo) overwrite(v *volume) (string, error) {
	return "the snapshot must not change with it", d.fill(v, rand.Reader)
}

func (d *demo) fill(v *volume, from io.Reader) error {
	f, err := d.file(v, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, from, dataSize); err != nil {
		return err
	}
	return f.Sync()
}

func (d *demo) verify(v *volume) (string, error) {
	f, err := d.file(v, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.CopyN(sum, f, dataSize); err != nil {
		return "", err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != d.sum {
		return "", fmt.Errorf("the data is not what was written: sha256 %s, want %s", got, d.sum)
	}
	return fmt.Sprintf("sha256 %.12s…", d.sum), nil
}
