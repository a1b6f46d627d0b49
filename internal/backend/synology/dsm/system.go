package dsm

import (
	"context"

	"github.com/dozo-dev/dozo/internal/errs"
)

// System says what a NAS is.
type System struct {
	Model    string
	Firmware string `json:"firmware_ver"`
	Serial   string
}

// System asks what the NAS is.
func (c *Client) System(ctx context.Context) (s System, err error) {
	err = c.read(ctx, call{systemAPI, 1, "info"}, nil, &s)
	return s, err
}

// Hostname asks for the NAS's name in the network, which its own IQNs have in them.
func (c *Client) Hostname(ctx context.Context) (string, error) {
	var data struct{ Hostname string }
	err := c.read(ctx, call{systemAPI, 1, "info"}, params{"type": "network"}, &data)
	return data.Hostname, err
}

// Limits are what a model allows, out of the more than 300 settings it is defined by. A limit that a
// model does not name is 0. LUNs are counted together with those of virtual machines.
type Limits struct {
	LUNs               Number `json:"max_iscsiluns"`
	Targets            Number `json:"max_iscsitrgs"`
	SnapshotsPerLUN    Number `json:"max_snapshot_per_lun"`
	SnapshotsPerLUNV2  Number `json:"max_snapshot_per_lun_v2"`
	SnapshotsPerShare  Number `json:"max_snapshots_per_share"`
	SupportISCSI       Flag   `json:"support_iscsi_target"`
	SupportSnapshots   Flag   `json:"supportsnapshot"`
	SupportVAAI        Flag   `json:"support_vaai"`
	TargetPlatformName string `json:"iscsi_target_type"`
}

// Limits asks for the ceilings of the model.
func (c *Client) Limits(ctx context.Context) (l Limits, err error) {
	err = c.read(ctx, call{systemAPI, 1, "info"}, params{"type": "define"}, &l)
	return l, err
}

// Interface is a network interface of the NAS.
type Interface struct {
	Name   string `json:"ifname"`
	IP     string
	Mask   string
	Speed  Number // Mbit/s
	Status string // "connected"
	Type   string
}

// Interfaces lists the network interfaces, among which the iSCSI portals are.
func (c *Client) Interfaces(ctx context.Context) (list []Interface, err error) {
	err = c.read(ctx, call{interfaceAPI, 1, "list"}, nil, &list)
	return list, err
}

// NodeUUIDs returns the identities of the NAS's iSCSI nodes, of which an ordinary NAS has one. They stay when
// it is renamed.
func (c *Client) NodeUUIDs(ctx context.Context) ([]string, error) {
	var data struct{ Nodes []struct{ UUID string } }
	err := c.read(ctx, call{nodeAPI, 1, "list"}, nil, &data)
	var ids []string
	for _, n := range data.Nodes {
		ids = append(ids, n.UUID)
	}
	if err == nil && len(ids) == 0 {
		return nil, errs.E(errs.Internal, "%s.list: a NAS without a node", nodeAPI)
	}
	return ids, err
}
