package dsmsim

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// lunTypes says on which file system a type can be.
var lunTypes = map[string]string{"BLUN": "btrfs", "BLUN_THICK": "btrfs", "VDISK_BLUN": "btrfs", "THIN": "ext4", "ADV": "ext4", "FILE": "ext4"}

var lunTypeNumbers = map[string]int{"BLUN": 263, "BLUN_THICK": 259, "VDISK_BLUN": 295, "THIN": 15, "ADV": 11, "FILE": 3}

// lunAttrs are in DSM's order; what is not asked for is off, above all can_snapshot and emulate_tpu.
var lunAttrs = []string{"emulate_3pc", "emulate_tpws", "emulate_caw", "emulate_tpu", "emulate_fua_write", "emulate_sync_cache", "can_snapshot"}

var lunName = regexp.MustCompile(`^[A-Za-z0-9.:\\-]+$`)

const (
	refusedName  = 255 // refused, and created
	maxLUNName   = 256 // refused from here on
	codeLocked   = 117 // assumed: what DSM says of a LUN that is action-locked is not known
	codeNoLUN    = 18990531
	codeBadUUID  = 18990505
	codeLUNName  = 18990503
	codeSize     = 18990502
	codeBadParam = 18990004
)

func (l *lun) thin() bool { return l.Type != "BLUN_THICK" && l.Type != "FILE" }

func (l *lun) image() Image {
	return Image{ID: l.UUID, Volume: l.Location, Size: l.Size, Thin: l.thin()}
}

func (r *request) lunCreate() answer {
	s := r.sim
	name, ok := r.key("name")
	l := &lun{UUID: newUUID(), Name: name, Size: r.number("size", 0), Type: r.text("type"), Location: r.text("location"),
		Description: s.kept(r.text("description")), Attrs: map[string]int{"emulate_3pc": 1, "emulate_tpws": 1, "emulate_caw": 1}}
	var attrs []struct {
		Name   string `json:"dev_attrib"`
		Enable int    `json:"enable"`
	}
	if r.has("dev_attribs") && !r.decode("dev_attribs", &attrs) {
		return answer{code: 18990622}
	}
	for _, a := range attrs {
		if !slices.Contains(lunAttrs, a.Name) {
			return answer{code: 18990622}
		}
		l.Attrs[a.Name] = a.Enable
	}
	if !ok {
		return answer{code: codeLUNName}
	}
	if code := s.refuseLUN(l); code != 0 {
		return answer{code: code}
	}
	if err := s.plane.CreateImage(l.image()); err != nil {
		return broken(err)
	}
	s.add(l, s.cfg.CreateLock)
	if len(name) == refusedName {
		return answer{code: 18990068}
	}
	return answer{data: map[string]any{"lun_id": l.ID, "uuid": l.UUID}}
}

// refuseLUN returns why a LUN cannot be made.
func (s *Sim) refuseLUN(l *lun) int {
	v, ok := s.volumeAt(l.Location)
	switch {
	case !lunName.MatchString(l.Name) || len(l.Name) >= maxLUNName:
		return codeLUNName
	case !ok:
		return 18990501
	case lunTypes[l.Type] == "":
		return 18990500
	case lunTypes[l.Type] != v.FileSystem:
		return 18990318
	case l.Size <= 0:
		return codeSize
	case s.state.lun(l.Name) != nil:
		return 18990538
	case len(s.state.LUNs) >= s.cfg.Model.LUNs:
		return 18990541
	case !l.thin() && l.Size > s.free(v):
		return 18990002
	}
	return 0
}

func (s *Sim) add(l *lun, lock time.Duration) {
	l.ID = s.state.NextLUN
	s.state.NextLUN++
	l.LockedUntil = s.cfg.Now().Add(lock)
	s.state.LUNs = append(s.state.LUNs, l)
}

// reap takes away LUNs whose deletion is done.
func (s *Sim) reap() error {
	for _, l := range slices.Clone(s.state.LUNs) {
		if l.GoneAt.IsZero() || s.cfg.Now().Before(l.GoneAt) {
			continue
		}
		for _, n := range slices.Clone(s.state.Snapshots) {
			if n.LUN == l.UUID {
				if err := s.dropSnapshot(n); err != nil {
					return err
				}
			}
		}
		if err := s.plane.DeleteImage(l.UUID); err != nil {
			return err
		}
		s.state.LUNs = remove(s.state.LUNs, l)
	}
	return nil
}

// one finds the LUN that a call is about, and why it cannot be had.
func (r *request) one(name string) (*lun, int) {
	key, ok := r.key(name)
	if !ok {
		return nil, codeBadUUID
	}
	if l := r.sim.state.lun(key); l != nil {
		return l, 0
	}
	return nil, codeNoLUN
}

// idle is one that may be changed now.
func (r *request) idle(name string) (*lun, int) {
	l, code := r.one(name)
	if code == 0 && (r.sim.locked(l) || !l.GoneAt.IsZero()) {
		code = codeLocked
	}
	return l, code
}

// locked is about a LUN that is worked on. A clock that was set back (in guests it may be) does not prolong that.
func (s *Sim) locked(l *lun) bool {
	left := l.LockedUntil.Sub(s.cfg.Now())
	return left > 0 && left <= max(s.cfg.CreateLock, s.cfg.CloneLock) || !l.GoneAt.IsZero()
}

func (r *request) lunGet() answer {
	l, code := r.one("uuid")
	if code != 0 {
		return answer{code: code}
	}
	return answer{data: map[string]any{"lun": r.sim.describe(l, r.list("additional")), "sync_done": 0, "whitelist": []string{"0.0.0.0", "0.0.0.0"}}}
}

func (r *request) lunList() answer {
	types, list := r.list("types"), []any{}
	for _, l := range r.sim.state.LUNs {
		if len(types) == 0 || slices.Contains(types, l.Type) {
			list = append(list, r.sim.describe(l, r.list("additional")))
		}
	}
	return answer{data: map[string]any{"luns": list}}
}

// describe has the fields of every answer, and those that were asked for.
func (s *Sim) describe(l *lun, additional []string) map[string]any {
	attrs := []any{}
	for _, name := range lunAttrs {
		attrs = append(attrs, map[string]any{"dev_attrib": name, "enable": l.Attrs[name]})
	}
	d := map[string]any{"uuid": l.UUID, "name": l.Name, "lun_id": l.ID, "type": lunTypeNumbers[l.Type], "type_str": l.Type, "location": l.Location,
		"size": l.Size, "block_size": 512, "description": l.Description, "dev_attribs": attrs, "create_from": "", "dev_config": "",
		"direct_io_pattern": 0, "max_snapshot_count": s.cfg.Model.SnapshotsPerLUN, "restored_time": 0, "vpd_unit_sn": l.UUID}
	allocated, status := int64(0), "normal"
	if !l.thin() {
		allocated = l.Size
	}
	if !l.GoneAt.IsZero() {
		status = "deleting" // assumed
	}
	mapped := slices.ContainsFunc(s.state.Targets, func(t *target) bool { return t.Mapped[l.UUID] > 0 })
	for name, value := range map[string]any{"allocated_size": allocated, "status": status, "is_action_locked": s.locked(l), "is_mapped": mapped,
		"extent_size": 0, "flashcache_status": "no_cache", "acls": []any{},
		"family_config": map[string]any{"parent_lun_uuid": l.Parent, "parent_lun_name": "", "parent_snapshot_uuid": "", "parent_snapshot_time": 0}} {
		if slices.Contains(additional, name) {
			d[name] = value
		}
	}
	if slices.Contains(additional, "snapshot_info") {
		d["snapshots"] = s.snapshotsIn(l)
	}
	return d
}

func (r *request) lunSet() answer {
	l, code := r.idle("uuid")
	if code != 0 {
		return answer{code: code}
	}
	if r.has("new_size") {
		if code := r.resize(l, r.number("new_size", 0)); code != 0 {
			return answer{code: code}
		}
	}
	if r.has("new_name") {
		name, ok := r.key("new_name")
		other := r.sim.state.lun(name)
		switch {
		case !ok || !lunName.MatchString(name) || len(name) >= refusedName:
			return answer{code: codeLUNName}
		case other != nil && other != l:
			return answer{code: 18990538}
		}
		l.Name = name
	}
	if r.has("description") {
		l.Description = r.sim.kept(r.text("description"))
	}
	return answer{}
}

// kept is how much of a description there is room for.
func (s *Sim) kept(description string) string {
	if most := s.cfg.ShortText; most > 0 {
		return description[:min(len(description), most)]
	}
	return description
}

func (r *request) resize(l *lun, size int64) int {
	v, _ := r.sim.volumeAt(l.Location)
	switch {
	case size < l.Size || size <= 0: // assumed: LUNs do not shrink
		return codeSize
	case !l.thin() && size-l.Size > r.sim.free(v):
		return 18990002
	case r.sim.plane.ResizeImage(l.UUID, size) != nil:
		return 100
	}
	l.Size = size
	return 0
}

// lunDelete never refuses what is mapped or has snapshots; it answers before the LUN is gone.
func (r *request) lunDelete() answer {
	ids := r.list("uuids")
	if key, ok := r.key("uuid"); ok {
		ids = append(ids, key)
	}
	if len(ids) == 0 {
		return answer{code: codeBadUUID}
	}
	for _, id := range ids {
		l := r.sim.state.lun(id)
		if l == nil {
			return answer{code: codeNoLUN}
		}
		if l.GoneAt.IsZero() {
			l.GoneAt = r.sim.cfg.Now().Add(r.sim.cfg.DeleteLag)
		}
		for _, t := range r.sim.state.Targets {
			delete(t.Mapped, l.UUID)
			if err := r.sim.export(t); err != nil {
				return broken(err)
			}
		}
	}
	if err := r.sim.reap(); err != nil {
		return broken(err)
	}
	return answer{}
}

func (r *request) lunClone() answer {
	from, code := r.idle("src_lun_uuid")
	if code != 0 {
		return answer{code: code}
	}
	to := *from
	to.Location = r.text("dst_location")
	return r.copyLUN(&to, "dst_lun_name", from.UUID, "dst_lun_uuid")
}

// copyLUN makes a LUN of the image of another or of a snapshot. Only btrfs can.
func (r *request) copyLUN(to *lun, nameParam, image, answerAs string) answer {
	name, ok := r.key(nameParam)
	if !ok {
		return answer{code: codeLUNName}
	}
	to.UUID, to.Name, to.GoneAt, to.Parent = newUUID(), name, time.Time{}, image
	to.Attrs = cloneMap(to.Attrs)
	if code := r.sim.refuseLUN(to); code != 0 {
		return answer{code: code}
	}
	if !strings.Contains(to.Type, "BLUN") {
		return answer{code: 18990318}
	}
	if err := r.sim.plane.CopyImage(to.image(), image); err != nil {
		return broken(err)
	}
	r.sim.add(to, r.sim.cfg.CloneLock)
	return answer{data: map[string]any{answerAs: to.UUID}}
}

func cloneMap(m map[string]int) map[string]int {
	c := map[string]int{}
	for k, v := range m {
		c[k] = v
	}
	return c
}
