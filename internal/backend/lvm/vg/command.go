package vg

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// commandTimeout is the deadline of a command of LVM: it waits for others, and wipes what it makes.
const commandTimeout = 2 * time.Minute

// Run runs a command of LVM that changes something, such as lvcreate. It goes on when ctx ends, since a
// command that is killed may leave devices suspended; its deadline is two minutes. The group's turn is
// needed; see Change.
func (g *Group) Run(ctx context.Context, op, command string, args ...string) error {
	return g.run(ctx, op, command, g.config(), args...)
}

func (g *Group) run(ctx context.Context, op, command, config string, args ...string) error {
	if err := ctx.Err(); err != nil {
		return errs.E(errs.Aborted, "volume group %s: %w", g.name, err)
	}
	_, err := g.host.Run(context.WithoutCancel(ctx), host.Cmd{
		Op: op, Name: "lvm", Args: append([]string{command, "--config", config}, args...), Timeout: commandTimeout,
	})
	return g.classify(err)
}

// config is what has to be so, whatever the host's lvm.conf says.
func (g *Group) config() string {
	// Nobody reads an archive of a thousand small changes, which would be a thousand files of all metadata.
	// dmeventd belongs to the host and cannot be started from a container.
	c := "backup/archive=0 activation/monitoring=0"
	// Where udev runs it makes the device nodes and LVM waits for it; elsewhere that would be for ever.
	if _, err := os.Stat("/run/udev/control"); err != nil {
		c += ` activation/udev_sync=0 activation/udev_rules=0 activation/verify_udev_operations=1` +
			` devices/obtain_device_list_from_udev=0 devices/external_device_info_source="none"`
	}
	return c
}

// classify gives a failed command its kind, by what LVM says. All failures have exit status 5.
func (g *Group) classify(err error) error {
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	for _, known := range []struct {
		words string
		kind  errs.Kind
		more  string
	}{
		{"exceeds maximum metadata size", errs.NoSpace, "the metadata area of the volume group is full: delete volumes, or make a group with a larger one (vgcreate --metadatasize 64m)"},
		{"insufficient free space", errs.NoSpace, ""},
		{"Insufficient free space", errs.NoSpace, ""},
		{"Insufficient suitable", errs.NoSpace, "the layout needs more physical volumes with free space"},
		{"nsufficient free extents", errs.NoSpace, ""},
		{"reached threshold", errs.NoSpace, "the thin pool is nearly full"},
		{"is above threshold", errs.NoSpace, "the thin pool is nearly full"},
		{"already exists in volume group", errs.Exists, ""},
		{"resized only while inactive", errs.InUse, "it has a classic snapshot: remove that, or deactivate the volume first"},
		{"in use", errs.InUse, ""},
		{"is used by another device", errs.InUse, ""},
		{"Can't get lock", errs.Busy, ""},
		{"PVs are missing", errs.Unavailable, "a device of the volume group is gone; bring it back, or run: vgreduce --removemissing " + g.name},
		{"missing PV", errs.Unavailable, "a device of the volume group is gone; bring it back, or run: vgreduce --removemissing " + g.name},
		{"duplicate PV devices", errs.Unavailable, "LVM sees a physical volume on two devices; filter one of them (see lvm.conf, global_filter)"},
		{"not detected in your kernel", errs.Unavailable, "a module of the device mapper is missing; load it on the node, such as: modprobe dm-snapshot (or dm-thin-pool, dm-raid, dm-integrity)"},
		{"Snapshots of raid with integrity are not supported", errs.Unsupported, "LVM takes no snapshots of raid with integrity, and volumes in use are copied by way of one"},
		{"Failed to find logical volume", errs.NotFound, ""},
		{"Cannot process volume group", errs.Unavailable, "there is no such volume group on this node, or LVM does not see its devices"},
	} {
		if strings.Contains(exit.Stderr, known.words) {
			if known.more != "" {
				return errs.E(known.kind, "volume group %s: %s: %w", g.name, known.more, err)
			}
			return errs.E(known.kind, "volume group %s: %w", g.name, err)
		}
	}
	return errs.E(errs.Internal, "volume group %s: %w", g.name, err)
}

// locate asks LVM which devices the group's physical volumes are, and reads their labels.
func (g *Group) locate(ctx context.Context) error {
	g.asked = time.Now()
	out, err := g.host.Run(ctx, host.Cmd{
		Op: "vg.pvs", Reads: true, Name: "lvm", Timeout: commandTimeout,
		Args: []string{"pvs", "--config", g.config(), "--readonly", "--reportformat", "json", "-o", "pv_name,pv_uuid,vg_name"},
	})
	if err != nil && len(out.Stdout) == 0 {
		return g.classify(err)
	}
	all, err := parseReport(out.Stdout)
	if err != nil {
		return errs.E(errs.Unavailable, "volume group %s: lvm pvs: %w", g.name, err)
	}
	var found []pv
	for _, p := range all {
		if p.Group == g.name {
			found = append(found, pv{device: p.Device, uuid: p.UUID})
		}
	}
	if len(found) == 0 {
		return errs.E(errs.Unavailable, "volumeGroup: %w %s on this node; make it with: vgcreate --metadatasize 64m %s DEVICE", ErrNone, g.name, g.name)
	}
	var readable int
	for i := range found {
		b, err := g.host.ReadDevice(ctx, "vg.label", found[i].device, 0, metadata.LabelSize)
		if err != nil {
			continue // its header will not be read either, and says so each time
		}
		l, err := metadata.ParseLabel(b)
		if err != nil || l.UUID != found[i].uuid || len(l.Areas) == 0 {
			continue
		}
		found[i].area = l.Areas[0]
		readable++
	}
	if readable == 0 {
		return errs.E(errs.Unavailable, "volumeGroup: no device of %s has metadata that can be read", g.name)
	}
	g.pvs, g.known = found, nil
	return nil
}

// PV is a physical volume as LVM reports it.
type PV struct {
	Device string `json:"pv_name"`
	UUID   string `json:"pv_uuid"`
	Group  string `json:"vg_name"`   // "": none that can be found
	Used   string `json:"pv_in_use"` // "used": it is in a group, whether or not that can be found
}

// parseReport takes the physical volumes out of what lvm pvs says.
func parseReport(data []byte) (all []PV, err error) {
	var report struct {
		Report []struct {
			PV []PV `json:"pv"`
		} `json:"report"`
	}
	if err := json.Unmarshal(data, &report); err != nil {
		return nil, err
	}
	for _, r := range report.Report {
		all = append(all, r.PV...)
	}
	return all, nil
}

// removal is a request to remove LVs, waiting for its turn.
type removal struct {
	names   []string
	discard bool
	done    chan error // takes one answer
}

// Remove removes LVs; those that are not there are no error. What is asked for while others change the
// group goes with one command. With discard the disks are told to forget what was in them.
func (g *Group) Remove(ctx context.Context, op string, discard bool, names ...string) error {
	r := &removal{names: names, discard: discard, done: make(chan error, 1)}
	g.mu.Lock()
	g.removals = append(g.removals, r)
	g.mu.Unlock()
	select {
	case err := <-r.done: // somebody else's turn did it
		return err
	case g.turn <- struct{}{}:
		g.removeAll(ctx, op)
		<-g.turn
		return <-r.done
	case <-ctx.Done():
		if !g.withdraw(r) { // it is being removed: nobody may be told otherwise
			return <-r.done
		}
		return errs.E(errs.Aborted, "volume group %s: others are changing it; call again: %w", g.name, ctx.Err())
	}
}

// withdraw takes back a removal that nobody has begun; false if somebody has.
func (g *Group) withdraw(r *removal) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.removals)
	g.removals = slices.DeleteFunc(g.removals, func(other *removal) bool { return other == r })
	return len(g.removals) < n
}

// removeAll does what is waiting, for who has the turn.
func (g *Group) removeAll(ctx context.Context, op string) {
	g.mu.Lock()
	waiting := g.removals
	g.removals = nil
	g.mu.Unlock()
	ctx = context.WithoutCancel(ctx) // it is others' work too
	for _, discard := range []bool{false, true} {
		var batch []*removal
		for _, r := range waiting {
			if r.discard == discard {
				batch = append(batch, r)
			}
		}
		if len(batch) > 0 {
			g.removeBatch(ctx, op, batch)
		}
	}
}

// removeBatch answers each removal. LVM removes all or nothing, and one LV may be in use, so after a
// failure each is tried alone.
func (g *Group) removeBatch(ctx context.Context, op string, batch []*removal) {
	var all []string
	for _, r := range batch {
		all = append(all, r.names...)
	}
	try := func(names []string) error {
		return g.changing(ctx, func(s *State) error { return g.remove(ctx, op, s, batch[0].discard, names) })
	}
	err := try(all)
	for _, r := range batch {
		if err != nil && len(batch) > 1 {
			r.done <- try(r.names)
		} else {
			r.done <- err
		}
	}
}

func (g *Group) remove(ctx context.Context, op string, s *State, discard bool, names []string) error {
	var args []string
	for _, n := range names {
		if s.LVs[n] != nil {
			args = append(args, g.name+"/"+n)
		}
	}
	if len(args) == 0 {
		return nil
	}
	config := g.config()
	if discard {
		config += " devices/issue_discards=1"
	}
	return g.run(ctx, op, "lvremove", config, append([]string{"--yes", "--force"}, args...)...)
}
