package fake

import (
	"io"
	"maps"
	"sync"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

const blockSize = 4 << 10

// content is sparse bytes: blocks that were never written are zero. Blocks are not changed once
// stored, so a copy may share them.
type content struct {
	mu     sync.Mutex
	blocks map[int64][blockSize]byte
}

func newContent() *content { return &content{blocks: map[int64][blockSize]byte{}} }

func (c *content) copy() *content {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &content{blocks: maps.Clone(c.blocks)}
}

func (c *content) read(p []byte, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		block := c.blocks[at/blockSize]
		n := copy(p, block[at%blockSize:])
		p, at = p[n:], at+int64(n)
	}
}

func (c *content) write(p []byte, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		block := c.blocks[at/blockSize]
		n := copy(block[at%blockSize:], p)
		c.blocks[at/blockSize] = block
		p, at = p[n:], at+int64(n)
	}
}

// Device is the open content of a volume. While one is open the volume is in use: it can be neither
// deleted nor deactivated.
type Device struct {
	disk *disk
	v    *volume
	once sync.Once
}

// Open opens the content of a volume, which need not be active.
func (b *Backend) Open(id backend.ID) (*Device, error) {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	v := b.disk.volumes[id]
	if v == nil {
		return nil, errs.E(errs.NotFound, "volume %s", id)
	}
	v.opens++
	return &Device{disk: b.disk, v: v}, nil
}

// Size is that of the volume now, in bytes.
func (d *Device) Size() int64 {
	d.disk.mu.Lock()
	defer d.disk.mu.Unlock()
	return d.v.Size
}

// ReadAt is [io.ReaderAt].
func (d *Device) ReadAt(p []byte, at int64) (int, error) {
	n := min(int64(len(p)), d.Size()-at)
	if n < 0 {
		return 0, io.EOF
	}
	d.v.data.read(p[:n], at)
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// WriteAt is [io.WriterAt]; nothing is written beyond the end of the volume.
func (d *Device) WriteAt(p []byte, at int64) (int, error) {
	n := min(int64(len(p)), d.Size()-at)
	if n < 0 {
		return 0, io.ErrShortWrite
	}
	d.v.data.write(p[:n], at)
	if n < int64(len(p)) {
		return int(n), io.ErrShortWrite
	}
	return int(n), nil
}

// Sync does nothing: what was written is stored.
func (d *Device) Sync() error { return nil }

// Close ends this use of the volume.
func (d *Device) Close() error {
	d.once.Do(func() {
		d.disk.mu.Lock()
		defer d.disk.mu.Unlock()
		d.v.opens--
	})
	return nil
}
