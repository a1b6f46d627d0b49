package dsmsim

import "slices"

const (
	codeNoSnapshot = 18990532
	codeMissing    = 18990508
)

func (r *request) snapshotTake() answer {
	s := r.sim
	l, code := r.idle("src_lun_uuid")
	if code != 0 {
		return answer{code: code}
	}
	name, count := r.text("snapshot_name"), 0
	for _, n := range s.state.Snapshots {
		if n.LUN == l.UUID {
			count++
			if n.Name == name {
				return answer{code: 18990513}
			}
		}
	}
	switch {
	case name == "":
		return answer{code: codeMissing}
	case l.Attrs["can_snapshot"] != 1:
		return answer{code: codeBadParam} // assumed: the code is not known
	case count >= s.cfg.Model.SnapshotsPerLUN:
		return answer{code: 18990543}
	}
	n := &snapshot{UUID: newUUID(), Name: name, LUN: l.UUID, Description: s.kept(r.text("description")), TakenBy: r.text("taken_by"),
		ID: count + 1, Size: l.Size, Locked: r.truth("is_locked", false), Taken: s.cfg.Now()}
	if err := s.plane.CopyImage(Image{ID: n.UUID, Volume: l.Location, Size: l.Size, Thin: true}, l.UUID); err != nil {
		return broken(err)
	}
	s.state.Snapshots = append(s.state.Snapshots, n)
	return answer{data: map[string]any{"snapshot_uuid": n.UUID}}
}

func (s *Sim) describeSnapshot(n *snapshot) map[string]any {
	d := map[string]any{"uuid": n.UUID, "name": n.Name, "parent_uuid": n.LUN, "snapshot_id": n.ID, "status": "Healthy", "description": n.Description,
		"taken_by": n.TakenBy, "create_time": n.Taken.Unix(), "snapshot_time": n.Taken.Unix(), "total_size": n.Size, "mapped_size": 0, "type": 2,
		"version": "uuid", "is_app_consistent": false, "is_user_locked": n.Locked, "is_worm_locked": false, "locked_app_keys": []any{}, "worm_lock_day": "0"}
	if l := s.state.lun(n.LUN); l != nil {
		d["parent_lun_id"], d["root_path"] = l.ID, l.Location
	}
	return d
}

// snapshotsIn are a LUN's snapshots as a list of LUNs has them: there the status is an object.
func (s *Sim) snapshotsIn(l *lun) []any {
	list := []any{}
	for _, n := range s.state.Snapshots {
		if n.LUN == l.UUID {
			d := s.describeSnapshot(n)
			d["status"] = map[string]any{"type": "Healthy", "progress": map[string]any{"percent": -1, "step": "waiting"}}
			list = append(list, d)
		}
	}
	return list
}

func (r *request) snapshotList() answer {
	l, code := r.one("src_lun_uuid")
	if code != 0 {
		return answer{code: code}
	}
	list := []any{}
	for _, n := range r.sim.state.Snapshots {
		if n.LUN == l.UUID {
			list = append(list, r.sim.describeSnapshot(n))
		}
	}
	return answer{data: map[string]any{"count": len(list), "snapshots": list}}
}

func (r *request) snapshotGet() answer {
	n := r.sim.state.snapshot(r.text("snapshot_uuid"))
	if n == nil {
		return answer{code: codeNoSnapshot}
	}
	return answer{data: map[string]any{"snapshot": r.sim.describeSnapshot(n)}}
}

func (r *request) snapshotDelete() answer {
	for _, id := range r.list("snapshot_uuid") {
		n := r.sim.state.snapshot(id)
		if n == nil {
			return answer{code: codeNoSnapshot}
		}
		if err := r.sim.dropSnapshot(n); err != nil {
			return broken(err)
		}
	}
	return answer{}
}

func (s *Sim) dropSnapshot(n *snapshot) error {
	if err := s.plane.DeleteImage(n.UUID); err != nil {
		return err
	}
	s.state.Snapshots = remove(s.state.Snapshots, n)
	return nil
}

func (r *request) snapshotClone() answer {
	from, code := r.idle("src_lun_uuid")
	if code != 0 {
		return answer{code: code}
	}
	n := r.sim.state.snapshot(r.text("snapshot_uuid"))
	if n == nil || n.LUN != from.UUID {
		return answer{code: codeNoSnapshot}
	}
	to := *from
	to.Type, to.Size, to.Description = "BLUN", n.Size, r.sim.kept(r.text("description"))
	return r.copyLUN(&to, "cloned_lun_name", n.UUID, "cloned_lun_uuid")
}

// lowestFree is the index that the next LUN of a target gets: from 1, and one that was freed again.
func lowestFree(mapped map[string]int) int {
	var used []int
	for _, i := range mapped {
		used = append(used, i)
	}
	for i := 1; ; i++ {
		if !slices.Contains(used, i) {
			return i
		}
	}
}
