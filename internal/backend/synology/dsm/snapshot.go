package dsm

import (
	"context"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Snapshot is a snapshot of a LUN.
type Snapshot struct {
	UUID        string
	Name        string
	Parent      string `json:"parent_uuid"` // the LUN
	Description string
	TakenBy     string `json:"taken_by"`
	Status      Status // "Healthy"
	Size        Number `json:"total_size"`  // bytes
	Created     Number `json:"create_time"` // seconds since 1970
	Locked      Flag   `json:"is_user_locked"`
}

// NewSnapshot says what snapshot to take.
type NewSnapshot struct {
	LUN         string // UUID
	Name        string
	Description string
	TakenBy     string
	Locked      bool // DSM's own retention leaves it alone
}

// TakeSnapshot takes a crash-consistent snapshot of a LUN and returns its UUID. errs.Exists if the LUN has
// one of that name, errs.NoSpace if it can have no more. After any error look the name up.
func (c *Client) TakeSnapshot(ctx context.Context, n NewSnapshot) (string, error) {
	var data struct {
		UUID string `json:"snapshot_uuid"`
	}
	what := call{lunAPI, 1, "take_snapshot"}
	err := c.write(ctx, what, params{"src_lun_uuid": n.LUN, "snapshot_name": n.Name, "description": n.Description,
		"taken_by": n.TakenBy, "is_locked": n.Locked, "is_app_consistent": false}, &data)
	return created(what, data.UUID, err)
}

// Snapshots lists the snapshots of a LUN. errs.NotFound if there is no such LUN.
func (c *Client) Snapshots(ctx context.Context, lun string) ([]Snapshot, error) {
	var data struct{ Snapshots *[]Snapshot }
	what := call{lunAPI, 1, "list_snapshot"}
	err := c.read(ctx, what, params{"src_lun_uuid": lun}, &data)
	return listed(what, data.Snapshots, err)
}

// Snapshot looks a snapshot up. errs.NotFound if there is none.
func (c *Client) Snapshot(ctx context.Context, uuid string) (Snapshot, error) {
	var data struct{ Snapshot Snapshot }
	err := c.read(ctx, call{lunAPI, 1, "get_snapshot"}, params{"snapshot_uuid": uuid}, &data)
	if err == nil && data.Snapshot.UUID != uuid {
		err = errs.E(errs.Internal, "%s.get_snapshot: asked for %q, the answer has %q", lunAPI, uuid, data.Snapshot.UUID)
	}
	return data.Snapshot, err
}

// DeleteSnapshot deletes a snapshot; clones of it stay.
func (c *Client) DeleteSnapshot(ctx context.Context, uuid, deletedBy string) error {
	return c.write(ctx, call{lunAPI, 1, "delete_snapshot"}, params{"snapshot_uuid": uuid, "deleted_by": deletedBy}, nil)
}

// CloneSnapshot begins to make a LUN of a snapshot and returns its UUID; the new LUN has the size of the
// snapshot, and is action-locked until it is done. After any error look the name up.
func (c *Client) CloneSnapshot(ctx context.Context, lun, snapshot, name, description string) (string, error) {
	if err := CheckLUNName(name); err != nil {
		return "", err
	}
	var data struct {
		UUID string `json:"cloned_lun_uuid"`
	}
	what := call{lunAPI, 1, "clone_snapshot"}
	err := c.write(ctx, what, params{"src_lun_uuid": lun, "snapshot_uuid": snapshot, "cloned_lun_name": name, "description": description}, &data)
	return created(what, data.UUID, err)
}
