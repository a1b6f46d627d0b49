package dsmsim

import (
	"slices"
	"strings"
)

// permission is what one user or group may do.
type permission struct {
	Name     string `json:"name"`
	ReadOnly bool   `json:"is_readonly"`
	Writable bool   `json:"is_writable"`
	Deny     bool   `json:"is_deny"`
	Custom   bool   `json:"is_custom"`
}

const localUsers = "local_user"

// permissionList has all users, with what they may do by themselves; of groups those that were set.
func (r *request) permissionList() answer {
	f := r.share("name")
	if f == nil {
		return answer{code: codeNoShare}
	}
	list := []any{}
	add := func(p permission, admin bool) {
		inherit := "-"
		if admin {
			inherit = "rw"
		}
		list = append(list, map[string]any{"name": p.Name, "is_readonly": p.ReadOnly, "is_writable": p.Writable, "is_deny": p.Deny,
			"is_custom": p.Custom, "is_admin": admin, "inherit": inherit})
	}
	set := r.sim.state.Permissions[f.Name]
	if r.text("user_group_type") == localUsers {
		for _, a := range r.sim.cfg.Accounts {
			p := set[localUsers+"/"+a.Name]
			p.Name = a.Name
			add(p, !a.Guest)
		}
		return answer{data: map[string]any{"items": list, "total": len(list)}}
	}
	for key, p := range set {
		if key == r.text("user_group_type")+"/"+p.Name {
			add(p, false)
		}
	}
	return answer{data: map[string]any{"items": list, "total": len(list)}}
}

// permissionSet passes over users that there are not (assumed).
func (r *request) permissionSet() answer {
	f, kind := r.share("name"), r.text("user_group_type")
	var changed []permission
	switch {
	case f == nil:
		return answer{code: codeNoShare}
	case !r.decode("permissions", &changed):
		return answer{code: 101}
	}
	if r.sim.state.Permissions[f.Name] == nil {
		r.sim.state.Permissions[f.Name] = map[string]permission{}
	}
	for _, p := range changed {
		i := slices.IndexFunc(r.sim.cfg.Accounts, func(a Account) bool { return strings.EqualFold(a.Name, p.Name) })
		switch {
		case kind == localUsers && i < 0:
			continue
		case kind == localUsers:
			p.Name = r.sim.cfg.Accounts[i].Name
		}
		r.sim.state.Permissions[f.Name][kind+"/"+p.Name] = p
	}
	if err := r.sim.plane.SetFolder(r.sim.folder(f)); err != nil {
		return broken(err)
	}
	return answer{}
}

// users are those to whom a share is served by SMB: who was given permission themselves. What the groups of a user may do is
// not simulated.
func (s *Sim) users(f *share) (all []FolderUser) {
	if s.state.NoSMB {
		return nil
	}
	for _, a := range s.cfg.Accounts {
		p := s.state.Permissions[f.Name][localUsers+"/"+a.Name]
		if !p.Deny && !a.Disabled && (p.Writable || p.ReadOnly) {
			all = append(all, FolderUser{Name: a.Name, Password: a.Password, ReadOnly: !p.Writable})
		}
	}
	return all
}

func (r *request) smbGet() answer {
	return answer{data: map[string]any{"enable_samba": !r.sim.state.NoSMB, "workgroup": "WORKGROUP", "smb_min_protocol": 1, "smb_max_protocol": 3}}
}

// SetSMB switches the service on or off, as an administrator does.
func (s *Sim) SetSMB(on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.NoSMB = !on
	for _, f := range s.state.Shares {
		if err := s.plane.SetFolder(s.folder(f)); err != nil {
			return err
		}
	}
	return s.state.save(s.cfg.Dir)
}
