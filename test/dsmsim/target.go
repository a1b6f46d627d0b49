package dsmsim

import (
	"cmp"
	"slices"
)

const codeNoTarget = 18990710

// export tells the plane what a target has to be.
func (s *Sim) export(t *target) error {
	e := Export{IQN: t.IQN, Enabled: !t.Disabled, MaxSessions: t.MaxSessions}
	if t.AuthType >= 1 {
		e.User, e.Password = t.User, t.Password
	}
	if t.AuthType == 2 {
		e.MutualUser, e.MutualPassword = t.MutualUser, t.MutualPassword
	}
	for uuid, index := range t.Mapped {
		if l := s.state.lun(uuid); l != nil {
			e.LUNs = append(e.LUNs, ExportedLUN{Image: uuid, Index: index, Serial: serial(uuid), Discard: l.Attrs["emulate_tpu"] == 1})
		}
	}
	slices.SortFunc(e.LUNs, func(a, b ExportedLUN) int { return cmp.Compare(a.Index, b.Index) })
	return s.plane.SetTarget(e)
}

func (r *request) targetCreate() answer {
	s := r.sim
	name, ok := r.key("name")
	t := &target{Name: name, IQN: r.text("iqn"), MaxSessions: 1, Mapped: map[string]int{}}
	switch {
	case !ok || t.IQN == "":
		return answer{code: 18990700}
	case find(s.state.Targets, func(o *target) bool { return o.Name == name }) != nil:
		return answer{code: 18990744}
	case find(s.state.Targets, func(o *target) bool { return o.IQN == t.IQN }) != nil:
		return answer{code: 18990745}
	case len(s.state.Targets) >= s.cfg.Model.Targets:
		return answer{code: 18990542}
	}
	if code := r.configure(t); code != 0 {
		return answer{code: code}
	}
	t.ID = s.state.NextTarget
	s.state.NextTarget++
	if err := s.export(t); err != nil {
		return broken(err)
	}
	s.state.Targets = append(s.state.Targets, t)
	return answer{data: map[string]any{"target_id": t.ID}}
}

// configure takes what create and set have in common.
func (r *request) configure(t *target) int {
	if name, ok := r.key("name"); ok && name != t.Name {
		if find(r.sim.state.Targets, func(o *target) bool { return o.Name == name }) != nil {
			return 18990744
		}
		t.Name = name
	}
	t.MaxSessions = int(r.number("max_sessions", int64(t.MaxSessions)))
	if !r.has("auth_type") {
		return 0
	}
	auth := int(r.number("auth_type", -1))
	user, password := r.text("user"), r.text("password")
	mutualUser, mutualPassword := r.text("mutual_user"), r.text("mutual_password")
	switch {
	case auth < 0 || auth > 2:
		return 18990702
	case auth >= 1 && (user == "" || password == ""), auth == 2 && (mutualUser == "" || mutualPassword == ""):
		return 18990708
	}
	t.AuthType, t.User, t.Password, t.MutualUser, t.MutualPassword = auth, user, password, mutualUser, mutualPassword
	return 0
}

// target finds the target that a call is about. A bare number is not taken for an identity.
func (r *request) target() *target {
	key, ok := r.key("target_id")
	if !ok {
		return nil
	}
	return r.sim.state.target(key)
}

func (r *request) describeTarget(t *target) map[string]any {
	status := "online"
	if t.Disabled {
		status = "offline"
	}
	d := map[string]any{"target_id": t.ID, "name": t.Name, "iqn": t.IQN, "is_enabled": !t.Disabled, "is_default_target": false,
		"auth_type": t.AuthType, "user": t.User, "password": t.Password, "mutual_user": t.MutualUser, "mutual_password": t.MutualPassword,
		"max_sessions": t.MaxSessions, "mapping_index": -1, "has_data_checksum": false, "has_header_checksum": false,
		"network_portals": []any{map[string]any{"interface_name": "all", "ip": "", "port": 3260, "controller_id": 0}}}
	for _, what := range r.list("additional") {
		switch what {
		case "mapped_lun":
			d["mapped_luns"] = mappings(t)
		case "connected_sessions":
			sessions := []any{}
			known, _ := r.sim.plane.Sessions(t.IQN)
			for _, s := range known {
				sessions = append(sessions, map[string]any{"iqn": s.IQN, "ip": s.IP})
			}
			d["connected_sessions"] = sessions
		case "acls":
			d["acls"] = []any{map[string]any{"iqn": "iqn.2000-01.com.synology:default.acl", "permission": "rw"}}
		case "status":
			d["status"] = status
		}
	}
	return d
}

func mappings(t *target) []map[string]any {
	list := []map[string]any{}
	for uuid, index := range t.Mapped {
		list = append(list, map[string]any{"lun_uuid": uuid, "mapping_index": index})
	}
	slices.SortFunc(list, func(a, b map[string]any) int {
		return cmp.Compare(a["mapping_index"].(int), b["mapping_index"].(int))
	})
	return list
}

func (r *request) targetGet() answer {
	t := r.target()
	if t == nil {
		return answer{code: codeNoTarget}
	}
	return answer{data: map[string]any{"target": r.describeTarget(t)}}
}

func (r *request) targetList() answer {
	list := []any{}
	for _, t := range r.sim.state.Targets {
		if _, maps := t.Mapped[r.text("lun_uuid")]; maps || !r.has("lun_uuid") {
			list = append(list, r.describeTarget(t))
		}
	}
	return answer{data: map[string]any{"targets": list}}
}

// change does something to the target of a call.
func (r *request) change(do func(*target) int) answer {
	t := r.target()
	if t == nil {
		return answer{code: codeNoTarget}
	}
	if code := do(t); code != 0 {
		return answer{code: code}
	}
	if err := r.sim.export(t); err != nil {
		return broken(err)
	}
	return answer{}
}

func (r *request) targetSet() answer { return r.change(r.configure) }

func (r *request) targetEnable() answer {
	return r.change(func(t *target) int { t.Disabled = false; return 0 })
}

func (r *request) targetDisable() answer {
	return r.change(func(t *target) int { t.Disabled = true; return 0 })
}

func (r *request) targetDelete() answer {
	t := r.target()
	if t == nil {
		return answer{code: codeNoTarget}
	}
	if err := r.sim.plane.RemoveTarget(t.IQN); err != nil {
		return broken(err)
	}
	r.sim.state.Targets = remove(r.sim.state.Targets, t)
	return answer{}
}

func (r *request) targetMap() answer {
	return r.change(func(t *target) int { return r.mapLUNs(t, true) })
}
func (r *request) targetUnmap() answer {
	return r.change(func(t *target) int { return r.mapLUNs(t, false) })
}

func (r *request) mapLUNs(t *target, in bool) int {
	for _, uuid := range r.list("lun_uuids") {
		l := r.sim.state.lun(uuid)
		if l == nil {
			return codeNoLUN
		}
		t.setMapped(l, in)
	}
	return 0
}

func (t *target) setMapped(l *lun, in bool) {
	if !in {
		delete(t.Mapped, l.UUID)
	} else if t.Mapped[l.UUID] == 0 {
		t.Mapped[l.UUID] = lowestFree(t.Mapped)
	}
}

func (r *request) lunMap() answer   { return r.mapInto(true) }
func (r *request) lunUnmap() answer { return r.mapInto(false) }

// mapInto adds a LUN to the targets that are named, or removes it from those only. It takes
// identities as strings and as numbers.
func (r *request) mapInto(in bool) answer {
	l, code := r.idle("uuid")
	if code != 0 {
		return answer{code: code}
	}
	var targets []*target
	for _, id := range r.list("target_ids") {
		t := r.sim.state.target(id)
		if t == nil {
			return answer{code: codeNoTarget}
		}
		targets = append(targets, t)
	}
	for _, t := range targets {
		t.setMapped(l, in)
		if err := r.sim.export(t); err != nil {
			return broken(err)
		}
	}
	return answer{}
}
