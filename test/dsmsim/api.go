package dsmsim

import (
	"log"
	"strings"
)

// api is one API: what SYNO.API.Info says of it, and its methods.
type api struct {
	min, max int
	json     bool // its parameters are JSON
	methods  map[string]func(*request) answer
	open     bool // needs no session
}

// apis are all that there are.
func apis() map[string]api {
	methods := func(m map[string]func(*request) answer) api { return api{min: 1, max: 1, json: true, methods: m} }
	all := map[string]api{
		"SYNO.API.Info":               {min: 1, max: 1, open: true, methods: map[string]func(*request) answer{"query": (*request).info}},
		"SYNO.API.Auth":               {min: 1, max: 7, open: true, methods: map[string]func(*request) answer{"login": (*request).login, "logout": (*request).logout}},
		"SYNO.Core.System":            methods(map[string]func(*request) answer{"info": (*request).systemInfo}),
		"SYNO.Core.Network.Interface": methods(map[string]func(*request) answer{"list": (*request).interfaces}),
		"SYNO.Core.Security.DSM":      methods(map[string]func(*request) answer{"get": (*request).securityGet}),
		"SYNO.Core.ISCSI.Node":        methods(map[string]func(*request) answer{"list": (*request).nodes}),
		"SYNO.Core.Storage.Volume":    methods(map[string]func(*request) answer{"list": (*request).volumeList, "get": (*request).volumeGet}),
		"SYNO.Core.ISCSI.LUN": methods(map[string]func(*request) answer{
			"create": (*request).lunCreate, "get": (*request).lunGet, "list": (*request).lunList, "set": (*request).lunSet,
			"delete": (*request).lunDelete, "clone": (*request).lunClone, "clone_snapshot": (*request).snapshotClone,
			"take_snapshot": (*request).snapshotTake, "list_snapshot": (*request).snapshotList, "get_snapshot": (*request).snapshotGet,
			"delete_snapshot": (*request).snapshotDelete, "map_target": (*request).lunMap, "unmap_target": (*request).lunUnmap,
		}),
		"SYNO.Core.ISCSI.Target": methods(map[string]func(*request) answer{
			"create": (*request).targetCreate, "get": (*request).targetGet, "list": (*request).targetList, "set": (*request).targetSet,
			"enable": (*request).targetEnable, "disable": (*request).targetDisable, "delete": (*request).targetDelete,
			"map_lun": (*request).targetMap, "unmap_lun": (*request).targetUnmap,
		}),
		"SYNO.Core.Share": methods(map[string]func(*request) answer{
			"create": (*request).shareCreate, "get": (*request).shareGet, "list": (*request).shareList, "set": (*request).shareSet,
			"clone": (*request).shareClone, "delete": (*request).shareDelete,
		}),
		"SYNO.Core.Share.Permission": methods(map[string]func(*request) answer{"list": (*request).permissionList, "set": (*request).permissionSet}),
		"SYNO.Core.FileServ.NFS.SharePrivilege": methods(map[string]func(*request) answer{
			"load": (*request).rulesLoad, "save": (*request).rulesSave}),
	}
	snapshots := methods(map[string]func(*request) answer{
		"create": (*request).shareSnapshotCreate, "list": (*request).shareSnapshotList, "delete": (*request).shareSnapshotDelete})
	snapshots.max = 2
	nfs := methods(map[string]func(*request) answer{"get": (*request).nfsGet, "set": (*request).nfsSet})
	nfs.max = 3
	smb := methods(map[string]func(*request) answer{"get": (*request).smbGet})
	smb.max = 3
	all["SYNO.Core.FileServ.SMB"] = smb
	all["SYNO.Core.Share.Snapshot"], all["SYNO.Core.FileServ.NFS"] = snapshots, nfs
	return all
}

// handle is a call without what goes wrong on its way. The caller has the lock.
func (s *Sim) handle(r *request) answer {
	a, ok := s.apis[r.api]
	if r.api == "SYNO.API.Auth" {
		a.min, a.max = s.cfg.LoginVersions[0], s.cfg.LoginVersions[1]
	}
	method, known := a.methods[r.method]
	switch {
	case r.api == "" || r.method == "" || r.version == 0:
		return answer{code: 101}
	case !ok:
		return answer{code: 102}
	case !known:
		return answer{code: 103}
	case r.version < a.min || r.version > a.max:
		return answer{code: 104}
	}
	if !a.open {
		if code := s.admit(r); code != 0 {
			return answer{code: code}
		}
	}
	if err := s.reap(); err != nil {
		return broken(err)
	}
	result := method(r)
	if err := s.state.save(s.cfg.Dir); err != nil {
		return broken(err)
	}
	return result
}

// broken is a failure of the plane, for which DSM has nothing better than "unknown".
func broken(err error) answer {
	log.Printf("dsmsim: %v", err) // which the client has no use for, and whoever reads a test's output has
	return answer{code: 100, errors: err.Error()}
}

func (r *request) info() answer {
	names := strings.Split(r.text("query"), ",")
	if len(names) == 1 && names[0] == "all" {
		names = nil
		for name := range r.sim.apis {
			names = append(names, name)
		}
	}
	data := map[string]any{}
	for _, name := range names {
		a, ok := r.sim.apis[name]
		if !ok {
			continue
		}
		if name == "SYNO.API.Auth" {
			a.min, a.max = r.sim.cfg.LoginVersions[0], r.sim.cfg.LoginVersions[1]
		}
		entry := map[string]any{"path": "entry.cgi", "minVersion": a.min, "maxVersion": a.max}
		if a.json {
			entry["requestFormat"] = "JSON"
		}
		data[name] = entry
	}
	return answer{data: data}
}
