package dsm

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Types of LUNs. Those on btrfs can have snapshots and clones, thin or not; of those on ext4 FILE is
// thick and THIN is not. ADV, an older kind of thin, is not used: mapping one was seen to fail.
const (
	TypeThin      = "BLUN"
	TypeThick     = "BLUN_THICK"
	TypeThinExt4  = "THIN"
	TypeThickExt4 = "FILE"
)

// Attributes of LUNs, which all are off unless a create asks for them.
const (
	AttrSnapshot = "can_snapshot"
	AttrUnmap    = "emulate_tpu" // discard
	AttrFUA      = "emulate_fua_write"
	AttrSync     = "emulate_sync_cache"
)

// maxLUNName is well below the 255 characters at which DSM creates the LUN and says that it did not.
const maxLUNName = 200

var lunName = regexp.MustCompile(`^[A-Za-z0-9.:-]+$`)

// LUN is a block device of the NAS.
type LUN struct {
	UUID           string
	Name           string
	Type           string `json:"type_str"`
	Location       string // "/volume1"
	Size           Number // bytes
	Allocated      Number `json:"allocated_size"` // bytes, those shared with clones in each
	BlockSize      Number `json:"block_size"`
	Status         Status
	Description    string
	IsActionLocked Flag  `json:"is_action_locked"` // still being made: nothing else can be done with it
	IsMapped       *Flag `json:"is_mapped"`        // see Mapped
	DevAttribs     []struct {
		Name   string `json:"dev_attrib"`
		Enable Flag
	} `json:"dev_attribs"`
	Snapshots []Snapshot // only of LUNsWithSnapshots
}

// HasAttr reports whether an attribute is on.
func (l LUN) HasAttr(name string) bool {
	for _, a := range l.DevAttribs {
		if a.Name == name {
			return bool(a.Enable)
		}
	}
	return false
}

// Mapped reports whether the LUN is in a target. Where the NAS does not say, it may be: known is false.
func (l LUN) Mapped() (mapped, known bool) {
	if l.IsMapped == nil {
		return false, false
	}
	return bool(*l.IsMapped), true
}

// WWID returns what Linux calls the disk that a LUN is: "3", the NAA of LIO, and of the UUID the
// first 25 characters with d for each hyphen. Measured on a DS918+ and a DS925+.
func WWID(uuid string) string {
	digits := strings.ReplaceAll(uuid, "-", "d")
	return "36001405" + digits[:min(25, len(digits))]
}

// NewLUN says what LUN to create.
type NewLUN struct {
	Name        string
	Location    string // "/volume1"
	Type        string
	Size        int64 // bytes; DSM does not round
	Description string
	Attrs       []string // that are on
}

type devAttrib struct {
	Name   string `json:"dev_attrib"`
	Enable int    `json:"enable"`
}

// CreateLUN creates a LUN, which may be action-locked for some seconds, and returns its UUID. errs.Exists if there is one of
// that name, errs.NoSpace if there is no room or the model allows no more. After any error look the name up.
func (c *Client) CreateLUN(ctx context.Context, n NewLUN) (string, error) {
	if err := CheckLUNName(n.Name); err != nil {
		return "", err
	}
	attrs := []devAttrib{}
	for _, a := range n.Attrs {
		attrs = append(attrs, devAttrib{a, 1})
	}
	var data struct{ UUID string }
	what := call{lunAPI, 1, "create"}
	err := c.write(ctx, what, params{"name": n.Name, "size": n.Size, "type": n.Type, "location": n.Location,
		"description": n.Description, "dev_attribs": attrs}, &data)
	return created(what, data.UUID, err)
}

// CheckLUNName refuses a name that DSM would refuse, or half.
func CheckLUNName(name string) error {
	if len(name) > maxLUNName || !lunName.MatchString(name) {
		return errs.E(errs.Invalid, "name: %q is none of a LUN: letters, digits, '.', ':' and '-' only, 1 to %d", name, maxLUNName)
	}
	return nil
}

// created returns the identity in a create's answer, which has to be there.
func created(what call, id string, err error) (string, error) {
	switch {
	case err != nil:
		return "", err
	case id == "":
		return "", errs.E(errs.Internal, "%s.%s: success, but what was made has no identity in the answer", what.api, what.method)
	}
	return id, nil
}

// lunDetails are fields that DSM leaves out unless they are asked for.
var lunDetails = []string{"allocated_size", "status", "is_action_locked", "is_mapped"}

// LUN looks a LUN up by its UUID or its name. errs.NotFound if there is none.
func (c *Client) LUN(ctx context.Context, uuidOrName string) (LUN, error) {
	is := func(l LUN) bool { return l.UUID == uuidOrName || l.Name == uuidOrName }
	what := call{lunAPI, 1, "get"}
	var data struct{ LUN LUN }
	err := c.read(ctx, what, params{"uuid": uuidOrName, "additional": lunDetails}, &data)
	switch code := CodeOf(err); {
	case code == codeBadUUID || code == codeBadParam:
		return c.findLUN(ctx, uuidOrName, is)
	case err != nil:
		return LUN{}, err
	case !is(data.LUN):
		return LUN{}, errs.E(errs.Internal, "%s.get: asked for LUN %q, the answer has %q", lunAPI, uuidOrName, data.LUN.Name)
	}
	return data.LUN, nil
}

// findLUN is for the codes that DSM gives for absent and for malformed alike.
func (c *Client) findLUN(ctx context.Context, key string, is func(LUN) bool) (LUN, error) {
	all, err := c.LUNs(ctx)
	if err != nil {
		return LUN{}, err
	}
	return pick(all, is, "there is no LUN %q", key)
}

// LUNs lists all LUNs, those of virtual machines too, which a filter by type would hide.
func (c *Client) LUNs(ctx context.Context) ([]LUN, error) {
	var data struct{ LUNs *[]LUN }
	what := call{lunAPI, 1, "list"}
	err := c.read(ctx, what, params{"additional": lunDetails}, &data)
	return listed(what, data.LUNs, err)
}

// LUNsWithSnapshots lists all LUNs, each with those of its snapshots that keep wants, in one call. DSM gives no list of many LUNs in
// parts: it passes over offset and limit.
func (c *Client) LUNsWithSnapshots(ctx context.Context, keep func(Snapshot) bool) ([]LUN, error) {
	what := call{lunAPI, 1, "list"}
	l := lunList{keep: keep}
	reader := *c
	reader.parse = l.parse
	_, err := reader.patiently(ctx, what, params{"additional": append(slices.Clone(lunDetails), "snapshot_info")})
	switch {
	case errors.As(err, new(*tooMuch)):
		return nil, errs.E(errs.Unavailable, "the list of LUNs with their snapshots is too long: delete some, and have DSM's own schedules keep fewer (SAN Manager or Snapshot Replication): %w", err)
	case err == nil && l.odd != nil:
		return nil, errs.E(errs.Internal, "%s.%s: the answer's data: %w", what.api, what.method, l.odd)
	}
	return listed(what, l.luns, err)
}

// ResizeLUN sets the size of a LUN in bytes. To what it is already is no error.
func (c *Client) ResizeLUN(ctx context.Context, uuid string, size int64) error {
	return c.write(ctx, call{lunAPI, 1, "set"}, params{"uuid": uuid, "new_size": size}, nil)
}

// DescribeLUN sets the description of a LUN.
func (c *Client) DescribeLUN(ctx context.Context, uuid, description string) error {
	return c.write(ctx, call{lunAPI, 1, "set"}, params{"uuid": uuid, "description": description}, nil)
}

// RenameLUN sets the name of a LUN; its UUID, and with it the disk's WWID, stays. errs.Exists if there is one of that name.
func (c *Client) RenameLUN(ctx context.Context, uuid, name string) error {
	if err := CheckLUNName(name); err != nil {
		return err
	}
	return c.write(ctx, call{lunAPI, 1, "set"}, params{"uuid": uuid, "new_name": name}, nil)
}

// DeleteLUN begins to delete a LUN, also one that is mapped or has snapshots: DSM never refuses. It is
// gone when LUN says errs.NotFound.
func (c *Client) DeleteLUN(ctx context.Context, uuid string) error {
	return c.write(ctx, call{lunAPI, 1, "delete"}, params{"uuid": uuid}, nil)
}

// CloneLUN begins to copy a LUN into a new one, whose UUID it returns; the copy is action-locked until it
// is done. After any error look the name up.
func (c *Client) CloneLUN(ctx context.Context, uuid, name, location string) (string, error) {
	if err := CheckLUNName(name); err != nil {
		return "", err
	}
	var data struct {
		UUID string `json:"dst_lun_uuid"`
	}
	what := call{lunAPI, 1, "clone"}
	err := c.write(ctx, what, params{"src_lun_uuid": uuid, "dst_lun_name": name, "dst_location": location, "is_same_pool": true}, &data)
	return created(what, data.UUID, err)
}

// MapLUN gives a LUN an index in each of some targets; the targets that it is in already stay.
func (c *Client) MapLUN(ctx context.Context, uuid string, targets ...int64) error {
	return c.write(ctx, call{lunAPI, 1, "map_target"}, params{"uuid": uuid, "target_ids": quoted(targets)}, nil)
}

// UnmapLUN takes a LUN out of some targets. The next LUN that is mapped there may get its index.
func (c *Client) UnmapLUN(ctx context.Context, uuid string, targets ...int64) error {
	return c.write(ctx, call{lunAPI, 1, "unmap_target"}, params{"uuid": uuid, "target_ids": quoted(targets)}, nil)
}

// quoted makes strings of identities, which is how DSM takes them everywhere.
func quoted(ids []int64) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatInt(id, 10)
	}
	return texts
}
