package dsm

import (
	"context"
	"encoding/json"

	"github.com/dozo-dev/dozo/internal/errs"
)

// maxShareName is DSM's limit, in characters.
const maxShareName = 32

// Share is a shared folder. Over NFS it is VolumePath/Name, over SMB Name.
type Share struct {
	Name        string
	UUID        string
	VolumePath  string `json:"vol_path"`
	Description string `json:"desc"`
	QuotaMB     Number `json:"quota_value"` // 0: none
	Checksums   Flag   `json:"enable_share_cow"`
	RecycleBin  Flag   `json:"enable_recycle_bin"`
	Encryption  Number
	Snapshots   Flag `json:"support_snapshot"`
	Hidden      bool `json:"-"` // not read: see NewShare
}

// NewShare says what share to create. Checksums can only be chosen now.
type NewShare struct {
	Name        string
	VolumePath  string
	Description string
	QuotaMB     int64 // 0: none; ext4 has none
	Checksums   bool
	RecycleBin  bool
	Hidden      bool // from who lists the shares of SMB, above all if they have no permission
}

// shareInfo is the parameter of that name. NameOrg is the name before: of what is renamed or copied.
type shareInfo struct {
	Name        string `json:"name"`
	NameOrg     string `json:"name_org"`
	VolumePath  string `json:"vol_path"`
	Description string `json:"desc"`
	Checksums   bool   `json:"enable_share_cow"`
	RecycleBin  bool   `json:"enable_recycle_bin"`
	RecycleOnly bool   `json:"recycle_bin_admin_only"`
	Encryption  int    `json:"encryption"`
	QuotaMB     int64  `json:"share_quota"`
	Hidden      bool   `json:"hidden,omitempty"`
	Unreadable  bool   `json:"hide_unreadable,omitempty"` // hidden from those who may not read it
}

func (n NewShare) info(from string) shareInfo {
	return shareInfo{Name: n.Name, NameOrg: from, VolumePath: n.VolumePath, Description: n.Description, Checksums: n.Checksums,
		RecycleBin: n.RecycleBin, RecycleOnly: true, QuotaMB: n.QuotaMB, Hidden: n.Hidden, Unreadable: n.Hidden}
}

// shareDetails are fields that DSM leaves out unless they are asked for.
var shareDetails = []string{"encryption", "enable_share_cow", "recyclebin", "support_snapshot", "share_quota"}

// CreateShare creates a share. errs.Exists if there is one of that name, errs.NoSpace if the model allows
// no more. After any error look the name up.
func (c *Client) CreateShare(ctx context.Context, n NewShare) error {
	if err := CheckShareName(n.Name); err != nil {
		return err
	}
	return c.write(ctx, call{shareAPI, 1, "create"}, params{"name": n.Name, "shareinfo": n.info("")}, nil)
}

// CloneShare makes a share of another, or of its snapshot taken at a time unless that is empty. DSM was
// seen to forget the quota: look, and set it again. After any error look the name up.
func (c *Client) CloneShare(ctx context.Context, source, snapshot string, n NewShare) error {
	if err := CheckShareName(n.Name); err != nil {
		return err
	}
	p := params{"name": n.Name, "shareinfo": n.info(source)}
	if snapshot != "" {
		p["snapshot"] = snapshot
	}
	return c.write(ctx, call{shareAPI, 1, "clone"}, p, nil)
}

// CheckShareName refuses a name that is too long.
func CheckShareName(name string) error {
	if n := len([]rune(name)); n == 0 || n > maxShareName {
		return errs.E(errs.Invalid, "name: %q is none of a share: 1 to %d characters", name, maxShareName)
	}
	return nil
}

// Share looks a share up by its name. errs.NotFound if there is none.
func (c *Client) Share(ctx context.Context, name string) (s Share, err error) {
	err = c.read(ctx, call{shareAPI, 1, "get"}, params{"name": name, "additional": shareDetails}, &s)
	if err == nil && s.Name != name {
		err = errs.E(errs.Internal, "%s.get: asked for share %q, the answer has %q", shareAPI, name, s.Name)
	}
	return s, err
}

// Shares lists all shares.
func (c *Client) Shares(ctx context.Context) ([]Share, error) {
	var data struct{ Shares *[]Share }
	what := call{shareAPI, 1, "list"}
	err := c.read(ctx, what, params{"shareType": "all", "additional": shareDetails}, &data)
	return listed(what, data.Shares, err)
}

// SetShare sets name, description and quota of the share that is called name now. All three are sent always: it is not
// known whether DSM keeps what is left out. Its volume has to be named and cannot be changed; what else s has is not used.
func (c *Client) SetShare(ctx context.Context, name string, s Share) error {
	if err := CheckShareName(s.Name); err != nil {
		return err
	}
	info := map[string]any{"name": s.Name, "name_org": name, "vol_path": s.VolumePath, "desc": s.Description, "share_quota": int64(s.QuotaMB)}
	if s.Hidden {
		info["hidden"], info["hide_unreadable"] = true, true
	}
	return c.write(ctx, call{shareAPI, 1, "set"}, params{"name": name, "shareinfo": info}, nil)
}

// DeleteShare deletes a share with what is in it.
func (c *Client) DeleteShare(ctx context.Context, name string) error {
	return c.write(ctx, call{shareAPI, 1, "delete"}, params{"name": []string{name}}, nil)
}

// ShareSnapshot is a snapshot of a share. Time is what it is known by: "GMT+08-2022.01.14-19.18.29".
type ShareSnapshot struct {
	Time        string
	Description string `json:"desc"`
	Locked      Flag   `json:"lock"`
	RUUID       string
}

// TakeShareSnapshot takes a snapshot of a share and returns its time. After any error look for the description.
func (c *Client) TakeShareSnapshot(ctx context.Context, share, description string, locked bool) (string, error) {
	var time string
	what := call{shareSnapshotAPI, 1, "create"}
	info := struct {
		Description string `json:"desc"`
		Locked      bool   `json:"lock"`
	}{description, locked}
	err := c.write(ctx, what, params{"name": share, "snapinfo": info}, &time)
	return created(what, time, err)
}

// ShareSnapshots lists the snapshots of a share.
func (c *Client) ShareSnapshots(ctx context.Context, share string) ([]ShareSnapshot, error) {
	var data struct{ Snapshots *[]ShareSnapshot }
	what := call{shareSnapshotAPI, 2, "list"}
	err := c.read(ctx, what, params{"name": share, "additional": []string{"desc", "lock", "ruuid"}}, &data)
	return listed(what, data.Snapshots, err)
}

// DeleteShareSnapshot deletes a snapshot of a share. DSM answers success with a list of what failed; what it says
// there is not known, so a failure is errs.Unavailable: look whether it is still there.
func (c *Client) DeleteShareSnapshot(ctx context.Context, share, time string) error {
	what := call{shareSnapshotAPI, 1, "delete"}
	a, err := c.once(ctx, what, params{"name": share, "snapshots": []string{time}})
	if err != nil {
		return err
	}
	var failed []json.RawMessage
	if !a.empty() && (json.Unmarshal(a.data, &failed) != nil || len(failed) > 0) {
		return errs.E(errs.Unavailable, "%s.delete: DSM did not delete snapshot %s of share %s", shareSnapshotAPI, time, share)
	}
	return nil
}

// Permission is what a user or a group may do with a share.
type Permission struct {
	Name     string `json:"name"`
	ReadOnly Flag   `json:"is_readonly"`
	Writable Flag   `json:"is_writable"`
	Deny     Flag   `json:"is_deny"`
	Custom   Flag   `json:"is_custom"`
}

// Kinds of names in permissions.
const (
	LocalUsers  = "local_user"
	LocalGroups = "local_group"
)

// Listed is a permission as it is listed, with what else decides what a user may do.
type Listed struct {
	Permission
	Admin   Flag   `json:"is_admin"` // of the group administrators
	Inherit string `json:"inherit"`  // what groups of theirs may do: "rw", "ro", "cu" (custom), "na" (no access) or "-"
}

// Permissions lists what all users, or groups, may do with a share.
func (c *Client) Permissions(ctx context.Context, share, kind string) ([]Listed, error) {
	var data struct{ Items *[]Listed }
	what := call{sharePermissionAPI, 1, "list"}
	err := c.read(ctx, what, params{"name": share, "user_group_type": kind, "offset": 0, "limit": -1}, &data)
	return listed(what, data.Items, err)
}

// SetPermissions sets what the named users, or groups, may do with a share; the others' rights stay.
func (c *Client) SetPermissions(ctx context.Context, share, kind string, permissions []Permission) error {
	return c.write(ctx, call{sharePermissionAPI, 1, "set"}, params{"name": share, "user_group_type": kind, "permissions": permissions}, nil)
}
