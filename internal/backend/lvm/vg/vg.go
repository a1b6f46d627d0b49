// Package vg holds LVM's volume groups in memory, as pools need them.
//
// What a group is made of is read from its physical volumes (package metadata) and kept; before each use
// the headers there are read again, which takes no command of LVM and some ten microseconds, and only if
// one of them is another than before, the text is. So changes by anybody, us included, are seen at once
// and nothing has to be told or polled. LVM itself says, once, which devices the physical volumes are:
// its filters, multipath and the like are its own business.
//
// Changes are made by LVM's commands, one at a time for a group.
package vg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// Groups are the volume groups of a machine, each once, so that all pools on it share what is known of it
// and take turns. It is safe for concurrent use.
type Groups struct {
	host   *host.Host
	mu     sync.Mutex
	byName map[string]*Group
}

// New returns the groups of a machine. Nothing is read yet.
func New(h *host.Host) *Groups { return &Groups{host: h, byName: map[string]*Group{}} }

// Get returns a group, whether or not there is one of that name.
func (g *Groups) Get(name string) *Group {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byName[name] == nil {
		g.byName[name] = &Group{host: g.host, name: name, turn: make(chan struct{}, 1)}
	}
	return g.byName[name]
}

// Group is a volume group.
type Group struct {
	host *host.Host
	name string
	turn chan struct{} // has an element while somebody changes the group

	reading sync.Mutex // held while the devices are read
	pvs     []pv
	asked   time.Time // when LVM was last asked for the devices
	known   *State

	mu       sync.Mutex
	removals []*removal
}

// State is a group as it was at some instant. It is never changed.
type State struct {
	*metadata.VG
	ByTag map[string]*metadata.LV // by the value of the tag "dozo"
	Lost  map[string]error        // physical volumes that do not answer, by UUID
	Most  int64                   // the largest metadata text that fits, in bytes

	headers []metadata.Header
}

// Tag is the key of the tag by which [State.ByTag] finds LVs.
const Tag = "dozo"

// Name is the group's name.
func (g *Group) Name() string { return g.name }

// readTimeout is the deadline of a look at a device. One that takes longer is as good as gone.
const readTimeout = 5 * time.Second

// askPause is the least time between two questions to LVM which devices there are: while one is missing,
// each call would ask.
const askPause = 15 * time.Second

// tries is how often a group that is being changed is read again.
const tries = 10

// Load returns the group as it is now. errs.Unavailable if it is not there or cannot be read.
func (g *Group) Load(ctx context.Context) (*State, error) {
	g.reading.Lock()
	defer g.reading.Unlock()
	if len(g.pvs) == 0 {
		if err := g.locate(ctx); err != nil {
			return nil, err
		}
	}
	var last error
	for n := range tries {
		s, err := g.read(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, errs.E(errs.Aborted, "volume group %s: %w", g.name, ctx.Err())
		case (err != nil || len(s.Lost) > 0 || !g.knows(s)) && time.Since(g.asked) > askPause:
			// A device may be new, or have another name by now. If LVM finds none, what was known is kept.
			_ = g.locate(ctx)
		case err == nil:
			return s, nil
		default:
			time.Sleep(time.Duration(n) * time.Millisecond) // somebody writes
		}
		last = err
	}
	return nil, last
}

// knows reports whether it is known where each of a group's physical volumes is.
func (g *Group) knows(s *State) bool {
	for _, p := range s.PVs {
		if !slices.ContainsFunc(g.pvs, func(known pv) bool { return known.uuid == p.UUID }) {
			return false
		}
	}
	return true
}

// read reads the headers, and the text if they are not those that are known.
func (g *Group) read(ctx context.Context) (*State, error) {
	headers, lost := g.headers(ctx)
	if g.known != nil && slices.Equal(g.known.headers, headers) && sameKeys(g.known.Lost, lost) {
		return g.known, nil
	}
	best := &State{headers: headers, Lost: lost}
	if g.known != nil && slices.Equal(g.known.headers, headers) {
		best.VG, best.ByTag, best.Most = g.known.VG, g.known.ByTag, g.known.Most
		g.known = best
		return best, nil
	}
	var failed error
	seen := map[metadata.Header]bool{}
	for i, h := range headers {
		// Headers that differ in their offset only lead to the same text, in areas of different history.
		text := metadata.Header{Size: h.Size, Checksum: h.Checksum}
		if h.Size == 0 || seen[text] {
			continue
		}
		vg, err := g.readText(ctx, g.pvs[i], h)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		seen[text] = true
		if best.VG == nil || vg.Seqno > best.Seqno { // a change that is just being written is on some of them
			best.VG, best.Most = vg, g.pvs[i].area.Most()
		}
	}
	if best.VG == nil {
		return nil, errs.E(errs.Unavailable, "volume group %s: none of its %d devices has readable metadata: %w", g.name, len(g.pvs), errors.Join(failed, joined(lost)))
	}
	best.index()
	g.known = best
	return best, nil
}

func (s *State) index() {
	s.ByTag = map[string]*metadata.LV{}
	for _, l := range s.LVs {
		if v, ok := l.Tag(Tag); ok {
			if other := s.ByTag[v]; other == nil || l.Name < other.Name {
				s.ByTag[v] = l
			}
		}
	}
}

func sameKeys(a, b map[string]error) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if b[k] == nil {
			return false
		}
	}
	return true
}

func joined(lost map[string]error) error {
	var all []error
	for _, err := range lost {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// pv is where a physical volume was found.
type pv struct {
	device string
	uuid   string
	area   metadata.Area // zero if it has none
}

// headers reads the headers of all devices at once, and notes those that do not answer.
func (g *Group) headers(ctx context.Context) ([]metadata.Header, map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	headers, failures := make([]metadata.Header, len(g.pvs)), make([]error, len(g.pvs))
	var wg sync.WaitGroup
	for i, p := range g.pvs {
		wg.Go(func() { headers[i], failures[i] = g.header(ctx, p) })
	}
	wg.Wait()
	lost := map[string]error{}
	for i, err := range failures {
		if err != nil {
			lost[g.pvs[i].uuid] = err
		}
	}
	return headers, lost
}

func (g *Group) header(ctx context.Context, p pv) (h metadata.Header, err error) {
	b, err := g.readRange(ctx, "vg.header", p.device, p.area.Offset, metadata.HeaderSize)
	if err != nil || p.area.Size == 0 {
		return h, err
	}
	h, _, err = metadata.ParseHeader(b, p.area)
	if err != nil {
		return h, errs.E(errs.Unavailable, "device %s: %w", p.device, err)
	}
	return h, nil
}

// readRange reads a range that need not be aligned.
func (g *Group) readRange(ctx context.Context, op, device string, off int64, n int) ([]byte, error) {
	const align = 4096
	skip := int(off % align)
	b, err := g.host.ReadDevice(ctx, op, device, off-int64(skip), (skip+n+align-1)/align*align)
	if err != nil {
		return nil, err
	}
	if len(b) < skip+n {
		return nil, errs.E(errs.Unavailable, "device %s: it ends before byte %d", device, off+int64(n))
	}
	return b[skip : skip+n], nil
}

func (g *Group) readText(ctx context.Context, p pv, h metadata.Header) (*metadata.VG, error) {
	var earlier *metadata.VG
	if g.known != nil {
		earlier = g.known.VG
	}
	vg, err := g.readAny(ctx, p, h, earlier)
	switch {
	case err != nil:
		return nil, err
	case vg.Name != g.name:
		return nil, errs.E(errs.Unavailable, "volume group %s on %s: the device is in volume group %s now", g.name, p.device, vg.Name)
	}
	return vg, g.usable(vg)
}

// readAny reads the text that a header leads to, of whatever group it is; earlier, if it is not nil, is what was known
// of it.
func (g *Group) readAny(ctx context.Context, p pv, h metadata.Header, earlier *metadata.VG) (*metadata.VG, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	fail := func(err error) (*metadata.VG, error) {
		return nil, errs.E(errs.Unavailable, "volume group %s on %s: %w", g.name, p.device, err)
	}
	// The area is a ring: of one that wraps its begin is read too, of any other just the text.
	first := min(h.Size, p.area.Size-h.Offset)
	text, err := g.readRange(ctx, "vg.text", p.device, p.area.Offset+h.Offset, int(first))
	if err != nil {
		return fail(err)
	}
	if rest := h.Size - first; rest > 0 {
		more, err := g.readRange(ctx, "vg.text", p.device, p.area.Offset+metadata.HeaderSize, int(rest))
		if err != nil {
			return fail(err)
		}
		text = append(slices.Clone(text), more...)
	}
	plain, err := metadata.Text(text, h.Checksum)
	if err != nil {
		return fail(err)
	}
	vg, err := metadata.ParseAfter(earlier, plain)
	if err != nil {
		return fail(err)
	}
	return vg, nil
}

// usable refuses groups that are not this machine's alone.
func (g *Group) usable(vg *metadata.VG) error {
	switch {
	case slices.Contains(vg.Status, "EXPORTED"):
		return errs.E(errs.Unavailable, "volumeGroup: %s is exported; run: vgimport %s", g.name, g.name)
	case vg.Lock != "" && vg.Lock != "none":
		return errs.E(errs.Unsupported, "volumeGroup: %s is shared between machines (lock type %s), and Dozo keeps local ones only", g.name, vg.Lock)
	}
	return nil
}

// Locks returns the locks of what is in the group: one for each key, held against every other holder on
// this machine. They are where LVM's own are, which all who run LVM on a machine have to share.
func (g *Group) Locks() (*host.LockFile, error) {
	locks, err := host.OpenLockFile(filepath.Join(lockDir, "dozo"))
	if errors.Is(err, fs.ErrNotExist) {
		if err := g.host.Mkdir("vg.lockdir", lockDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errs.E(errs.Unavailable, "LVM's lock directory: %w; mount the host's /run/lock/lvm there", err)
		}
		locks, err = host.OpenLockFile(filepath.Join(lockDir, "dozo"))
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "LVM's lock directory: %w", err)
	}
	return locks, nil
}

const lockDir = "/run/lock/lvm"

// Change calls f with the group as it is, while nobody else changes it.
func (g *Group) Change(ctx context.Context, f func(s *State) error) error {
	done, err := g.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	return g.changing(ctx, f)
}

func (g *Group) takeTurn(ctx context.Context) (done func(), err error) {
	select {
	case g.turn <- struct{}{}:
		return func() { <-g.turn }, nil
	case <-ctx.Done():
		return nil, errs.E(errs.Aborted, "volume group %s: others are changing it; call again: %w", g.name, ctx.Err())
	}
}

// changing is Change for who has the turn.
func (g *Group) changing(ctx context.Context, f func(s *State) error) error {
	unlock, err := g.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := g.Load(ctx)
	if err != nil {
		return err
	}
	return f(s)
}

// lock keeps other processes from changing the group.
func (g *Group) lock(ctx context.Context) (unlock func(), err error) {
	locks, err := g.Locks()
	if err != nil {
		return nil, err
	}
	return locks.Lock(ctx, "group "+g.name)
}

// Gone reports whether a physical volume is lost.
func (s *State) Gone(p metadata.PV) bool { return p.Missing || s.Lost[p.UUID] != nil }

// Missing says which physical volumes are lost, for people; "" if none is.
func (s *State) Missing() string {
	var all []string
	for _, p := range s.PVs {
		if s.Gone(p) {
			all = append(all, fmt.Sprintf("%s (%s)", p.Device, p.UUID))
		}
	}
	return strings.Join(all, ", ")
}

// VolumesLeft is how many more volumes the metadata area has room for, going by those that are there.
func (s *State) VolumesLeft() int64 {
	const usual = 600 // bytes of a volume with our tags
	each, text, visible := int64(usual), int64(0), int64(0)
	for _, l := range s.LVs {
		text += l.TextSize
		if l.Visible {
			visible++
		}
	}
	if visible > 0 {
		each = max(each, text/visible)
	}
	return max(0, (s.Most-s.TextSize)/each)
}
