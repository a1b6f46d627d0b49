package backendtest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/dozo-dev/dozo/internal/backend"
)

// patch is how much is written or compared in one place: enough to tell, and aligned to any device.
const patch = 4 << 10

// spots are the places in [from, to) where content is looked at: both ends and the middle.
func spots(from, to int64) []int64 {
	at := []int64{from, (from + (to-from)/2) / patch * patch, to - patch}
	return slices.Compact(at)
}

// pattern is what fill writes at one place of a volume.
func pattern(seed string, at int64) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s at %d", seed, at))
	return bytes.Repeat(sum[:], patch/len(sum))
}

// fill writes to a volume what holds looks for.
func (e *env) fill(id backend.ID, seed string, size int64) {
	e.Helper()
	c := e.content(id)
	e.fillOpen(c, seed, size)
	e.must(c.Close(), "close "+string(id))
}

func (e *env) fillOpen(c Content, seed string, size int64) {
	e.Helper()
	for _, at := range spots(0, size) {
		_, err := c.WriteAt(pattern(seed, at), at)
		e.must(err, "write")
	}
	e.must(c.Sync(), "sync")
}

// holds checks that a volume has what fill wrote when it had the size filled, and is blank beyond
// that up to size.
func (e *env) holds(id backend.ID, seed string, filled, size int64) {
	e.Helper()
	c := e.content(id)
	e.holdsOpen(c, id, seed, filled, size)
	e.must(c.Close(), "close "+string(id))
}

func (e *env) holdsOpen(c Content, id backend.ID, seed string, filled, size int64) {
	e.Helper()
	for _, at := range spots(0, filled) {
		e.compare(c, id, at, pattern(seed, at), "what was written")
	}
	if size > filled {
		e.blankOpen(c, id, filled, size)
	}
}

func (e *env) blankOpen(c Content, id backend.ID, from, to int64) {
	e.Helper()
	for _, at := range spots(from, to) {
		e.compare(c, id, at, make([]byte, patch), "zeros")
	}
}

func (e *env) compare(c Content, id backend.ID, at int64, want []byte, what string) {
	e.Helper()
	got := make([]byte, len(want))
	if n, err := c.ReadAt(got, at); n < len(got) {
		e.Fatalf("read %s at %d: %d of %d bytes, %v", id, at, n, len(got), err)
	}
	if !bytes.Equal(got, want) {
		e.Fatalf("%s at %d: %x…, want %s: %x…", id, at, got[:8], what, want[:8])
	}
}

// content opens a volume; the law's end closes what it leaves open.
func (e *env) content(id backend.ID) Content {
	e.Helper()
	var c Content
	var err error
	if e.h.Data != nil {
		c, err = e.h.Data(e.TB, e.b, id)
	} else {
		c, err = e.device(id)
	}
	e.must(err, "open "+string(id))
	t := &tracked{Content: c}
	e.open = append(e.open, t)
	return t
}

// tracked is closed once, however often Close is called.
type tracked struct {
	Content
	once sync.Once
	err  error
}

// Close closes the content.
func (t *tracked) Close() error {
	t.once.Do(func() { t.err = t.Content.Close() })
	return t.err
}

// device opens a volume as a node does.
func (e *env) device(id backend.ID) (Content, error) {
	a := e.caps.Activator
	path, err := a.Activate(e.ctx, id)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, a.Deactivate(e.ctx, id))
	}
	return &active{File: f, deactivate: func() error { return a.Deactivate(e.ctx, id) }}, nil
}

type active struct {
	*os.File
	deactivate func() error
}

// Close closes the device and deactivates the volume.
func (a *active) Close() error { return errors.Join(a.File.Close(), a.deactivate()) }
