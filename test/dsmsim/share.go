package dsmsim

import (
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"
)

const (
	codeNoShare   = 402
	codeBadShare  = 403
	codeNotMade   = 3300
	maxShareName  = 32
	shareTimeForm = "GMT-07-2006.01.02-15.04.05"
)

// folder is a share as the plane has to serve it.
func (s *Sim) folder(f *share) Folder {
	d := Folder{ID: f.Name, Volume: f.Volume, QuotaMB: f.QuotaMB, Users: s.users(f), Hidden: f.Hidden}
	for _, rule := range f.Rules {
		d.Rules = append(d.Rules, FolderRule{Client: fmt.Sprint(rule["client"]), ReadOnly: rule["privilege"] == "ro",
			RootSquash: fmt.Sprint(rule["root_squash"]), Async: rule["async"] == true, Insecure: rule["insecure"] == true})
	}
	return d
}

// shareInfo is the parameter of that name; what is absent in a set stays.
type shareInfo struct {
	Name       string  `json:"name"`
	NameOrg    string  `json:"name_org"`
	VolPath    string  `json:"vol_path"`
	Desc       *string `json:"desc"`
	COW        bool    `json:"enable_share_cow"`
	RecycleBin bool    `json:"enable_recycle_bin"`
	Quota      *int64  `json:"share_quota"`
	Hidden     *bool   `json:"hidden"`
}

// newShare reads what create and clone have in common; the code says why it cannot be made.
func (r *request) newShare() (*share, shareInfo, int) {
	var info shareInfo
	name, ok := r.key("name")
	if !ok || !r.decode("shareinfo", &info) {
		return nil, info, 101
	}
	f := &share{Name: name, UUID: newUUID(), Volume: info.VolPath, Checksums: info.COW, RecycleBin: info.RecycleBin,
		Hidden: info.Hidden != nil && *info.Hidden}
	if info.Desc != nil {
		f.Description = r.sim.kept(*info.Desc)
	}
	v, known := r.sim.volumeAt(f.Volume)
	switch {
	case utf8.RuneCountInString(name) > maxShareName || info.Name != name || !known:
		return nil, info, codeBadShare
	case r.sim.state.share(name) != nil:
		return nil, info, 3301
	case len(r.sim.state.Shares) >= r.sim.cfg.Model.Shares:
		return nil, info, 3309
	}
	if info.Quota != nil && v.FileSystem == "btrfs" { // assumed: on ext4 the quota is passed over
		f.QuotaMB = *info.Quota
	}
	return f, info, 0
}

func (r *request) shareCreate() answer {
	f, _, code := r.newShare()
	if code != 0 {
		return answer{code: code}
	}
	if err := r.sim.plane.SetFolder(r.sim.folder(f)); err != nil {
		return broken(err)
	}
	r.sim.state.Shares = append(r.sim.state.Shares, f)
	return answer{data: map[string]any{"name": f.Name}}
}

func (r *request) shareClone() answer {
	f, info, code := r.newShare()
	if code != 0 {
		return answer{code: code}
	}
	from := r.sim.state.share(info.NameOrg)
	if from == nil || from.Volume != f.Volume {
		return answer{code: codeNotMade}
	}
	source := from.Name
	if r.has("snapshot") {
		if !slices.ContainsFunc(from.Snapshots, func(n shareSnapshot) bool { return n.Time == r.text("snapshot") }) {
			return answer{code: codeNotMade}
		}
		source += "@" + r.text("snapshot")
	}
	if v, _ := r.sim.volumeAt(f.Volume); v.FileSystem != "btrfs" {
		return answer{code: codeNotMade}
	}
	if r.sim.cfg.ForgetQuota {
		f.QuotaMB = 0
	}
	r.sim.state.Permissions[f.Name] = maps.Clone(r.sim.state.Permissions[from.Name]) // assumed
	if err := r.sim.plane.CopyFolder(r.sim.folder(f), source); err != nil {
		return broken(err)
	}
	r.sim.state.Shares = append(r.sim.state.Shares, f)
	return answer{data: map[string]any{"name": f.Name}}
}

// describe has quota and the like only if they were asked for.
func (f *share) describe(r *request) map[string]any {
	v, _ := r.sim.volumeAt(f.Volume)
	d := map[string]any{"name": f.Name, "uuid": f.UUID, "vol_path": f.Volume, "desc": f.Description, "is_usb_share": false}
	for _, what := range r.list("additional") {
		switch what {
		case "encryption":
			d["encryption"] = 0
		case "enable_share_cow":
			d["enable_share_cow"] = f.Checksums
		case "recyclebin":
			d["enable_recycle_bin"], d["recycle_bin_admin_only"] = f.RecycleBin, true
		case "support_snapshot":
			d["support_snapshot"] = v.FileSystem == "btrfs"
		case "share_quota":
			d["quota_value"] = f.QuotaMB
		}
	}
	return d
}

// share finds the one that a call is about.
func (r *request) share(param string) *share {
	name, _ := r.key(param)
	return r.sim.state.share(name)
}

func (r *request) shareGet() answer {
	f := r.share("name")
	if f == nil {
		return answer{code: codeNoShare}
	}
	return answer{data: f.describe(r)}
}

func (r *request) shareList() answer {
	list := []any{}
	for _, f := range r.sim.state.Shares {
		list = append(list, f.describe(r))
	}
	return answer{data: map[string]any{"shares": list, "total": len(list)}}
}

func (r *request) shareSet() answer {
	f := r.share("name")
	var info shareInfo
	switch {
	case f == nil:
		return answer{code: codeNoShare}
	case !r.decode("shareinfo", &info) || info.VolPath != f.Volume || utf8.RuneCountInString(info.Name) > maxShareName:
		return answer{code: codeBadShare}
	}
	if code := r.renameShare(f, info); code != 0 {
		return answer{code: code}
	}
	if info.Desc != nil {
		f.Description = r.sim.kept(*info.Desc)
	}
	if v, _ := r.sim.volumeAt(f.Volume); info.Quota != nil && v.FileSystem == "btrfs" {
		f.QuotaMB = *info.Quota
	}
	if info.Hidden != nil {
		f.Hidden = *info.Hidden
	}
	if err := r.sim.plane.SetFolder(r.sim.folder(f)); err != nil {
		return broken(err)
	}
	return answer{data: map[string]any{"name": f.Name}}
}

// renameShare is for a name other than name_org (assumed: nobody measured it). A share with snapshots keeps its name here.
func (r *request) renameShare(f *share, info shareInfo) int {
	switch {
	case info.Name == f.Name:
		return 0
	case info.NameOrg != f.Name || info.Name == "" || len(f.Snapshots) > 0:
		return codeBadShare
	case r.sim.state.share(info.Name) != nil:
		return 3301
	}
	renamed := *f
	renamed.Name = info.Name
	r.sim.state.Permissions[renamed.Name] = r.sim.state.Permissions[f.Name]
	if r.sim.plane.CopyFolder(r.sim.folder(&renamed), f.Name) != nil || r.sim.plane.RemoveFolder(f.Name) != nil {
		return 100
	}
	delete(r.sim.state.Permissions, f.Name)
	f.Name = renamed.Name
	return 0
}

func (r *request) shareDelete() answer {
	for _, name := range r.list("name") {
		f := r.sim.state.share(name)
		if f == nil {
			return answer{code: codeNoShare}
		}
		for _, n := range f.Snapshots {
			if err := r.sim.plane.RemoveFolder(f.Name + "@" + n.Time); err != nil {
				return broken(err)
			}
		}
		if err := r.sim.plane.RemoveFolder(f.Name); err != nil {
			return broken(err)
		}
		r.sim.state.Shares = remove(r.sim.state.Shares, f)
		delete(r.sim.state.Permissions, name)
	}
	return answer{}
}

// shareSnapshotCreate answers a bare string: the time, which is the snapshot's name.
func (r *request) shareSnapshotCreate() answer {
	f := r.share("name")
	if f == nil {
		return answer{code: codeNoShare}
	}
	info := struct {
		Desc string `json:"desc"`
		Lock *bool  `json:"lock"`
	}{}
	v, _ := r.sim.volumeAt(f.Volume)
	switch {
	case !r.decode("snapinfo", &info):
		return answer{code: 101}
	case v.FileSystem != "btrfs":
		return answer{code: codeNotMade} // assumed: the code is not known
	case len(f.Snapshots) >= r.sim.cfg.Model.SnapshotsPerShare:
		return answer{code: codeNotMade} // assumed
	}
	taken := r.sim.cfg.Now()
	for slices.ContainsFunc(f.Snapshots, func(n shareSnapshot) bool { return n.Time == taken.Format(shareTimeForm) }) {
		taken = taken.Add(time.Second)
	}
	n := shareSnapshot{Time: taken.Format(shareTimeForm), Description: r.sim.kept(info.Desc), RUUID: newUUID(), Locked: info.Lock == nil || *info.Lock, QuotaMB: f.QuotaMB}
	if err := r.sim.plane.CopyFolder(Folder{ID: f.Name + "@" + n.Time, Volume: f.Volume}, f.Name); err != nil {
		return broken(err)
	}
	f.Snapshots = append(f.Snapshots, n)
	return answer{data: n.Time}
}

func (r *request) shareSnapshotList() answer {
	f := r.share("name")
	if f == nil {
		return answer{code: codeNoShare}
	}
	list := []any{}
	for _, n := range f.Snapshots {
		list = append(list, map[string]any{"time": n.Time, "desc": n.Description, "lock": n.Locked, "ruuid": n.RUUID, "snap_size": "0", "schedule_snapshot": false})
	}
	return answer{data: map[string]any{"snapshots": list, "total": len(list)}}
}

// shareSnapshotDelete answers success with an array of what failed.
func (r *request) shareSnapshotDelete() answer {
	f := r.share("name")
	if f == nil {
		return answer{code: codeNoShare}
	}
	failed := []any{}
	for _, at := range r.list("snapshots") {
		i := slices.IndexFunc(f.Snapshots, func(n shareSnapshot) bool { return n.Time == at })
		if i < 0 || r.sim.plane.RemoveFolder(f.Name+"@"+at) != nil {
			failed = append(failed, map[string]any{"snapshot": at}) // assumed: what is in the array is not known
			continue
		}
		f.Snapshots = slices.Delete(f.Snapshots, i, i+1)
	}
	return answer{data: failed}
}
