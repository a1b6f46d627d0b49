package dsmsim

import (
	"fmt"
	"regexp"
)

func (r *request) systemInfo() answer {
	c := r.sim.cfg
	switch r.text("type") {
	case "network":
		return answer{data: map[string]any{"hostname": c.Hostname, "dns": "192.168.1.1", "enabled_domain": false}}
	case "define":
		return answer{data: map[string]any{"max_iscsiluns": c.Model.LUNs, "max_iscsitrgs": c.Model.Targets,
			"max_snapshot_per_lun": c.Model.SnapshotsPerLUN, "max_snapshot_per_lun_v2": c.Model.SnapshotsPerLUN / 2,
			"max_snapshots_per_share": c.Model.SnapshotsPerShare, "max_snapshots_per_share_v2": c.Model.SnapshotsPerShare / 2,
			"support_iscsi_target": "yes", "support_vaai": "yes", "supportsnapshot": "yes", "iscsi_target_type": "lio4x"}}
	}
	return answer{data: map[string]any{"model": c.Model.Name, "firmware_ver": c.Model.Firmware, "serial": c.Model.Serial}}
}

// interfaces answers a bare array.
func (r *request) interfaces() answer {
	return answer{data: []any{map[string]any{"ifname": "ovs_eth0", "ip": r.sim.cfg.Address, "mask": "255.255.255.0", "speed": 1000,
		"status": "connected", "type": "ovseth", "use_dhcp": false}}}
}

func (r *request) securityGet() answer {
	return answer{data: map[string]any{"timeout": int(r.sim.cfg.IdleTimeout.Minutes()), "skip_ip_checking": r.sim.cfg.AnyAddress}}
}

func (r *request) nodes() answer {
	return answer{data: map[string]any{"nodes": []any{map[string]any{"uuid": r.sim.state.NodeUUID}}}}
}

// free is what a volume has left: thin LUNs and copies take nothing (assumed: nothing is ever written).
func (s *Sim) free(v Volume) int64 {
	free := v.Total
	for _, l := range s.state.LUNs {
		if l.Location == v.Path && !l.thin() {
			free -= l.Size
		}
	}
	return free
}

// volume describes one; sizes are strings.
func (s *Sim) volume(i int) map[string]any {
	v := s.cfg.Volumes[i]
	status, container := "normal", "internal"
	if v.Status != "" {
		status = v.Status
	}
	if v.External {
		container = "external"
	}
	return map[string]any{"volume_id": i + 1, "volume_path": v.Path, "display_name": fmt.Sprintf("Volume %d", i+1), "fs_type": v.FileSystem,
		"status": status, "container": container, "location": container, "pool_path": fmt.Sprintf("reuse_%d", i+1), "raid_type": "shr_1",
		"readonly": v.Status == "read_only", "crashed": v.Status == "crashed",
		"size_free_byte": fmt.Sprint(s.free(v)), "size_total_byte": fmt.Sprint(v.Total)}
}

func (r *request) volumeList() answer {
	list := []any{}
	for i, v := range r.sim.cfg.Volumes {
		if r.text("location") != "internal" || !v.External {
			list = append(list, r.sim.volume(i))
		}
	}
	return answer{data: map[string]any{"volumes": list}}
}

var volumePath = regexp.MustCompile(`^/volume[A-Z]*[0-9]+$`)

// volumeGet answers 117 for a volume that is not, and success without one for what cannot be one.
func (r *request) volumeGet() answer {
	path := r.text("volume_path")
	for i, v := range r.sim.cfg.Volumes {
		if v.Path == path {
			volume := r.sim.volume(i)
			volume["eppool_used_byte"] = fmt.Sprint(v.Total - r.sim.free(v))
			return answer{data: map[string]any{"volume": volume}}
		}
	}
	if volumePath.MatchString(path) {
		return answer{code: 117}
	}
	return answer{data: map[string]any{}}
}

// volumeAt finds a volume by its path.
func (s *Sim) volumeAt(path string) (Volume, bool) {
	for _, v := range s.cfg.Volumes {
		if v.Path == path {
			return v, true
		}
	}
	return Volume{}, false
}
