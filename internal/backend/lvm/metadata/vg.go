package metadata

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// VG is a volume group at one instant. It is not changed once parsed.
type VG struct {
	Name       string
	UUID       string
	Seqno      int64 // rises with every change
	ExtentSize int64 // bytes
	Status     []string
	System     string // the system ID it belongs to, if any
	Lock       string // how it is locked beyond this machine, if it is
	PVs        []PV
	LVs        map[string]*LV
	TextSize   int64 // bytes of all the metadata
}

// PV is a physical volume of a group.
type PV struct {
	Key         string // in the metadata: "pv0"
	UUID        string
	Device      string // where it was when LVM last wrote
	Allocatable bool
	Missing     bool  // LVM noticed that it was gone, and has not been told otherwise
	Extents     int64 // in all
	Free        int64 // extents that no LV has
}

// LV is a logical volume, hidden ones included.
type LV struct {
	Name     string
	UUID     string
	Tags     []string
	Visible  bool
	Writable bool
	Skipped  bool // it is not activated with others (flag ACTIVATION_SKIP)
	Created  time.Time
	Segments []Segment
	TextSize int64 // bytes of its metadata

	text string
}

// Segment is a range of an LV.
type Segment struct {
	Start   int64 // extents
	Extents int64
	Type    string   // "striped", which is linear too, "raid1", "thin", …
	Areas   []Range  // what it is laid on, PVs
	LVs     []string // what it is laid on, LVs
	Pool    string   // of type thin: the thin pool
	Origin  string   // of type thin and snapshot: what it was copied from
	COW     string   // of type snapshot: the LV that is the snapshot
	Legs    int64    // of type striped and raid: stripes or devices
}

// Range is a range of a physical volume.
type Range struct {
	PV      string // its Key
	Start   int64  // extents
	Extents int64
}

// Extents is the size of an LV.
func (l *LV) Extents() (n int64) {
	for _, s := range l.Segments {
		n = max(n, s.Start+s.Extents)
	}
	return n
}

// Type is that of the first segment.
func (l *LV) Type() string {
	if len(l.Segments) == 0 {
		return ""
	}
	return l.Segments[0].Type
}

// Tag returns what follows "key=" in the tags.
func (l *LV) Tag(key string) (value string, ok bool) {
	for _, t := range l.Tags {
		if v, ok := strings.CutPrefix(t, key+"="); ok {
			return v, true
		}
	}
	return "", false
}

// DeviceUUID is the UUID that the device mapper knows a visible LV by.
func (v *VG) DeviceUUID(l *LV) string {
	return "LVM-" + strings.ReplaceAll(v.UUID, "-", "") + strings.ReplaceAll(l.UUID, "-", "")
}

// Size is that of an LV in bytes.
func (v *VG) Size(l *LV) int64 { return l.Extents() * v.ExtentSize }

// On returns the keys of the physical volumes that an LV is on, sorted, through all that lies between.
func (v *VG) On(l *LV) []string {
	found, seen := map[string]bool{}, map[string]bool{}
	v.walk(l, found, seen)
	var keys []string
	for k := range found {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (v *VG) walk(l *LV, found, seen map[string]bool) {
	if l == nil || seen[l.Name] {
		return
	}
	seen[l.Name] = true
	for _, s := range l.Segments {
		for _, a := range s.Areas {
			found[a.PV] = true
		}
		for _, name := range append([]string{s.Pool}, s.LVs...) {
			v.walk(v.LVs[name], found, seen)
		}
	}
}

// Snapshots returns the classic snapshots of an LV, by name.
func (v *VG) Snapshots(origin string) (names []string) {
	for _, l := range v.LVs {
		if l.Type() == "snapshot" && l.Segments[0].Origin == origin {
			names = append(names, l.Segments[0].COW)
		}
	}
	slices.Sort(names)
	return names
}

// IsSnapshot reports whether an LV is a classic snapshot.
func (v *VG) IsSnapshot(name string) bool {
	for _, l := range v.LVs {
		if l.Type() == "snapshot" && l.Segments[0].COW == name {
			return true
		}
	}
	return false
}

// Parse reads the metadata of a volume group, as it is on physical volumes and in the files of vgcfgbackup.
func Parse(text string) (*VG, error) { return ParseAfter(nil, text) }

// ParseAfter is Parse of what became of an earlier group, from which it takes the LVs that are as they were: that is
// most of the work when one LV of many has changed.
func ParseAfter(earlier *VG, text string) (*VG, error) {
	var known map[string]*LV
	if earlier != nil {
		known = earlier.LVs
	}
	root, err := parse(text, known)
	if err != nil {
		return nil, err
	}
	if v, _ := root.values["version"].(int64); v != 1 {
		return nil, fmt.Errorf("version: %v, 1 is known", root.values["version"])
	}
	if len(root.names) != 1 {
		return nil, fmt.Errorf("%d volume groups", len(root.names))
	}
	r := &reader{s: root.sections[root.names[0]]}
	vg := &VG{
		Name: root.names[0], UUID: r.uuid(), Seqno: r.number("seqno"), ExtentSize: r.number("extent_size") * sector,
		Status: r.texts("status"), System: r.optional("system_id"), Lock: r.optional("lock_type"), LVs: map[string]*LV{}, TextSize: int64(len(text)),
	}
	if vg.ExtentSize <= 0 {
		r.fail("extent_size", "is not positive")
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := vg.readPVs(r.s.sections["physical_volumes"]); err != nil {
		return nil, err
	}
	if err := vg.readLVs(r.s.sections["logical_volumes"]); err != nil {
		return nil, err
	}
	return vg, vg.count()
}

func (v *VG) readPVs(s *section) error {
	if s == nil {
		return fmt.Errorf("physical_volumes are missing")
	}
	for _, key := range s.names {
		r := &reader{s: s.sections[key]}
		v.PVs = append(v.PVs, PV{
			Key: key, UUID: r.uuid(), Device: r.optional("device"), Extents: r.number("pe_count"),
			Allocatable: slices.Contains(r.texts("status"), "ALLOCATABLE"), Missing: slices.Contains(r.texts("flags"), "MISSING"),
		})
		if r.err != nil {
			return fmt.Errorf("%s: %w", key, r.err)
		}
	}
	return nil
}

func (v *VG) readLVs(s *section) error {
	if s == nil {
		return nil // there are none
	}
	for _, name := range s.names {
		if l := s.kept[name]; l != nil {
			v.LVs[name] = l
			continue
		}
		r := &reader{s: s.sections[name]}
		text := strings.Clone(r.s.text) // an LV that stays as it is must not keep all of this text in memory
		l := &LV{
			Name: text[:len(name)], UUID: r.uuid(), Visible: slices.Contains(r.texts("status"), "VISIBLE"), Writable: slices.Contains(r.texts("status"), "WRITE"),
			Skipped: slices.Contains(r.texts("flags"), "ACTIVATION_SKIP"), TextSize: int64(len(text)), text: text,
		}
		if r.s.values["tags"] != nil {
			l.Tags = r.texts("tags")
		}
		if r.s.values["creation_time"] != nil {
			l.Created = time.Unix(r.number("creation_time"), 0).UTC()
		}
		for n := range r.number("segment_count") {
			seg, ok := r.s.sections[fmt.Sprintf("segment%d", n+1)]
			if !ok {
				r.fail("segment_count", "says more than there are")
				break
			}
			l.Segments = append(l.Segments, readSegment(r, seg))
		}
		if r.err != nil {
			return fmt.Errorf("%s: %w", name, r.err)
		}
		v.LVs[l.Name] = l
	}
	return nil
}

// readSegment reads a segment; its reader gets the error of r.
func readSegment(lv *reader, s *section) Segment {
	r := &reader{s: s, err: lv.err}
	g := Segment{Start: r.number("start_extent"), Extents: r.number("extent_count"), Type: r.text("type")}
	if g.Start < 0 || g.Extents < 0 || g.Start > maxExtents || g.Extents > maxExtents {
		r.fail("extent_count", "is out of range")
	}
	g.Pool, g.COW = r.optional("thin_pool"), r.optional("cow_store")
	g.Legs = max(1, r.optionalNumber("stripe_count"), r.optionalNumber("device_count"), r.optionalNumber("mirror_count"))
	if origin := r.optional("origin"); g.Type == "thin" || g.Type == "snapshot" {
		g.Origin = origin
	} else if origin != "" {
		g.LVs = append(g.LVs, origin)
	}
	length := g.Extents
	if g.Type == "striped" {
		length /= g.Legs
	}
	g.readAreas(r, length)
	lv.err = r.err
	return g
}

const maxExtents = 1 << 48

// readAreas collects what a segment is laid on: lists of physical volumes with extents and of LVs, or LVs
// by one of the keys with which the sorts of segment name them.
func (g *Segment) readAreas(r *reader, length int64) {
	for _, key := range []string{"stripes", "mirrors", "raids", "raid0_lvs"} {
		list, _ := r.s.values[key].([]any)
		for n, item := range list {
			name, ok := item.(string)
			if !ok {
				continue
			}
			start, onPV := int64(0), false
			if n+1 < len(list) {
				start, onPV = list[n+1].(int64)
			}
			if onPV && strings.HasPrefix(name, "pv") {
				g.Areas = append(g.Areas, Range{PV: name, Start: start, Extents: length})
			} else {
				g.LVs = append(g.LVs, name)
			}
		}
	}
	for _, key := range []string{"metadata", "pool", "meta_dev", "data", "cache_pool", "writecache", "vdo_pool", "mirror_log"} {
		if name := r.optional(key); name != "" {
			g.LVs = append(g.LVs, name)
		}
	}
}

// count works out what is free on each physical volume.
func (v *VG) count() error {
	index := map[string]int{}
	for i, p := range v.PVs {
		index[p.Key] = i
		v.PVs[i].Free = p.Extents
	}
	for _, l := range v.LVs {
		for _, s := range l.Segments {
			for _, a := range s.Areas {
				i, ok := index[a.PV]
				if !ok {
					// An LV may have a name like that of a PV's key, and lie under a mirror of old.
					if v.LVs[a.PV] == nil {
						return fmt.Errorf("%s: is on %s, which there is not", l.Name, a.PV)
					}
					continue
				}
				v.PVs[i].Free -= a.Extents
				if v.PVs[i].Free < 0 {
					return fmt.Errorf("%s: more extents are taken than there are", a.PV)
				}
			}
		}
	}
	return nil
}

// reader takes values out of a section, and keeps the first error.
type reader struct {
	s   *section
	err error
}

func (r *reader) fail(key, why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %s", key, why)
	}
}

func (r *reader) number(key string) int64 {
	n, ok := r.s.values[key].(int64)
	if !ok {
		r.fail(key, "is not a number")
	}
	return n
}

func (r *reader) optionalNumber(key string) int64 {
	n, _ := r.s.values[key].(int64)
	return n
}

func (r *reader) text(key string) string {
	s, ok := r.s.values[key].(string)
	if !ok {
		r.fail(key, "is not a text")
	}
	return s
}

func (r *reader) optional(key string) string {
	s, _ := r.s.values[key].(string)
	return s
}

func (r *reader) uuid() string {
	s := r.text("id")
	if len(s) != 38 {
		r.fail("id", "is not a UUID")
	}
	return s
}

// texts reads a list of texts; one text alone is a list too.
func (r *reader) texts(key string) (all []string) {
	list, ok := r.s.values[key].([]any)
	if one, single := r.s.values[key].(string); single {
		return []string{one}
	}
	if !ok {
		r.fail(key, "is not a list")
	}
	for _, item := range list {
		s, ok := item.(string)
		if !ok {
			r.fail(key, "has something that is not a text")
		}
		all = append(all, s)
	}
	return all
}
