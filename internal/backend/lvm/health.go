package lvm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/dm"
)

// Check is [backend.Checker]: what the disks and the device mapper say, without a command of LVM.
func (p *pool) Check(ctx context.Context, id backend.ID) ([]backend.Problem, error) {
	i, err := p.get(ctx, p.volumeKey(id))
	if err != nil {
		return nil, err
	}
	found := lost(i)
	targets, err := dm.Status(p.host, i.state.DeviceUUID(i.lv))
	if errs.Is(err, errs.NotFound) {
		return found, nil // not active, so not in use
	}
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		found = append(found, judge(i, t)...)
	}
	if i.lv.Type() == "thin" {
		found = append(found, p.poolProblems(i)...)
	}
	return found, nil
}

// lost names the disks of a volume that are gone.
func lost(i item) (found []backend.Problem) {
	on := i.state.On(i.lv)
	for _, pv := range i.state.PVs {
		if !slices.Contains(on, pv.Key) || !i.state.Gone(pv) {
			continue
		}
		why := "LVM has it as missing"
		if err := i.state.Lost[pv.UUID]; err != nil {
			why = err.Error()
		}
		// What of the data is on it is gone with it, unless there is a copy or parity.
		severity, copies := backend.Inaccessible, ""
		if strings.HasPrefix(i.lv.Type(), "raid") {
			severity, copies = backend.Degraded, "; the volume goes on with its other disks"
		}
		found = append(found, backend.Problem{Severity: severity, Reason: "PhysicalVolumeLost",
			Message: fmt.Sprintf("%s (%s) of volume group %s does not answer: %s%s", pv.Device, pv.UUID, i.group.Name(), why, copies)})
	}
	return found
}

// judge reads what a target of the device says of itself.
func judge(i item, t dm.Target) []backend.Problem {
	part := strings.Fields(t.Params)
	switch t.Type {
	case "raid":
		if legsFailed(t) {
			return []backend.Problem{{Severity: backend.Degraded, Reason: "RaidDegraded",
				Message: fmt.Sprintf("of the %s disks of %s some have failed (%s); if they are back, run: lvchange --refresh %s (or stop its pods: the next one has them again); otherwise replace them, then run: lvconvert --repair %s", part[1], i.path(), part[2], i.path(), i.path())}}
		}
	case "error":
		return []backend.Problem{{Severity: backend.Inaccessible, Reason: "DeviceError",
			Message: fmt.Sprintf("a part of %s leads nowhere: its disk was gone when it was activated", i.path())}}
	case "thin":
		if len(part) > 0 && part[0] == "Fail" {
			return []backend.Problem{{Severity: backend.Inaccessible, Reason: "ThinPoolFailed",
				Message: fmt.Sprintf("the thin pool of %s has failed; see: lvs -a, and lvconvert --repair", i.path())}}
		}
	}
	return nil
}

// legsFailed reports whether a raid lacks some of its disks. It says "raid1 2 AA 32768/32768 idle 0 0 -":
// type, disks, one letter for each, and more.
func legsFailed(t dm.Target) bool {
	part := strings.Fields(t.Params)
	return t.Type == "raid" && len(part) > 2 && strings.Contains(part[2], "D")
}
