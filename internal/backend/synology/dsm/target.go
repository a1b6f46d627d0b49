package dsm

import (
	"context"
	"strconv"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Target is an iSCSI target.
type Target struct {
	ID          Number `json:"target_id"`
	Name        string
	IQN         string
	Status      Status // "online"
	Enabled     Flag   `json:"is_enabled"`
	AuthType    Number `json:"auth_type"` // 0 none, 1 CHAP, 2 mutual CHAP
	User        string
	MaxSessions Number     `json:"max_sessions"` // 0: any number
	Mapped      []Mapping  `json:"mapped_luns"`
	Sessions    []struct { // who is logged in; nil: the NAS does not say
		IQN string
		IP  string
	} `json:"connected_sessions"`
	Portals []struct {
		Interface string `json:"interface_name"`
		IP        string
		Port      Number
	} `json:"network_portals"`
}

// Idle reports whether nobody is logged in. Where the NAS does not say, somebody may be.
func (t Target) Idle() bool { return t.Sessions != nil && len(t.Sessions) == 0 }

// complete refuses a target in an answer that does not say which LUNs it has: that is not one without.
func (t Target) complete(method string) error {
	if t.Mapped == nil {
		return errs.E(errs.Internal, "%s.%s: which LUNs target %q has is not in the answer", targetAPI, method, t.Name)
	}
	return nil
}

// Mapping is a LUN in a target. Its index is used again when it goes: disks are known by WWID.
type Mapping struct {
	LUN   string `json:"lun_uuid"`
	Index Number `json:"mapping_index"` // from 1
}

// CHAP are the secrets of a target; the zero value is none.
type CHAP struct {
	User           string
	Password       Secret
	MutualUser     string // empty: the target does not have to prove itself
	MutualPassword Secret
}

func (c CHAP) params(p params) params {
	kind := 0
	if c.User != "" {
		kind, p["user"], p["password"] = 1, c.User, c.Password
	}
	if c.MutualUser != "" {
		kind, p["mutual_user"], p["mutual_password"] = 2, c.MutualUser, c.MutualPassword
	}
	p["auth_type"] = kind
	return p
}

// NewTarget says what target to create.
type NewTarget struct {
	Name        string
	IQN         string
	CHAP        CHAP
	MaxSessions int // 0: any number. DSM's own default is 1, which keeps all nodes but one out
}

// CreateTarget creates a target and returns its identity. errs.Exists if there is one of that name or
// IQN, errs.NoSpace if the model allows no more. After any error look the name up.
func (c *Client) CreateTarget(ctx context.Context, n NewTarget) (int64, error) {
	var data struct {
		ID *Number `json:"target_id"`
	}
	what := call{targetAPI, 1, "create"}
	err := c.write(ctx, what, n.CHAP.params(params{"name": n.Name, "iqn": n.IQN, "max_sessions": n.MaxSessions}), &data)
	if err == nil && data.ID == nil {
		_, err = created(what, "", nil)
	}
	if err != nil {
		return 0, err
	}
	return int64(*data.ID), nil
}

// targetDetails are fields that DSM leaves out unless they are asked for.
var targetDetails = []string{"mapped_lun", "connected_sessions", "status"}

// Target looks a target up by its identity in decimals or its name. errs.NotFound if there is none.
func (c *Client) Target(ctx context.Context, idOrName string) (Target, error) {
	is := func(t Target) bool { return t.Name == idOrName || strconv.FormatInt(int64(t.ID), 10) == idOrName }
	var data struct{ Target Target }
	what := call{targetAPI, 1, "get"}
	err := c.read(ctx, what, params{"target_id": idOrName, "additional": targetDetails}, &data)
	switch code := CodeOf(err); {
	case code == codeBadTarget || code == codeBadParam:
		all, err := c.Targets(ctx)
		if err != nil {
			return Target{}, err
		}
		return pick(all, is, "there is no target %q", idOrName)
	case err != nil:
		return Target{}, err
	case !is(data.Target):
		return Target{}, errs.E(errs.Internal, "%s.get: asked for target %q, the answer has %q", targetAPI, idOrName, data.Target.Name)
	}
	return data.Target, data.Target.complete(what.method)
}

// Targets lists all targets.
func (c *Client) Targets(ctx context.Context) ([]Target, error) {
	var data struct{ Targets *[]Target }
	what := call{targetAPI, 1, "list"}
	err := c.read(ctx, what, params{"additional": targetDetails}, &data)
	all, err := listed(what, data.Targets, err)
	for _, t := range all {
		if err := t.complete(what.method); err != nil {
			return nil, err
		}
	}
	return all, err
}

// SetTarget sets how many sessions a target takes, and its CHAP.
func (c *Client) SetTarget(ctx context.Context, id int64, maxSessions int, chap CHAP) error {
	return c.onTarget(ctx, "set", id, chap.params(params{"max_sessions": maxSessions}))
}

// RenameTarget gives a target another name. Its IQN stays, and so do sessions.
func (c *Client) RenameTarget(ctx context.Context, id int64, name string) error {
	return c.onTarget(ctx, "set", id, params{"name": name})
}

// EnableTarget brings a target online.
func (c *Client) EnableTarget(ctx context.Context, id int64) error {
	return c.onTarget(ctx, "enable", id, params{})
}

// DeleteTarget deletes a target; LUNs in it stay, unmapped.
func (c *Client) DeleteTarget(ctx context.Context, id int64) error {
	return c.onTarget(ctx, "delete", id, params{})
}

func (c *Client) onTarget(ctx context.Context, method string, id int64, p params) error {
	p["target_id"] = strconv.FormatInt(id, 10)
	return c.write(ctx, call{targetAPI, 1, method}, p, nil)
}
