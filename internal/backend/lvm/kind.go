package lvm

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/devices"
	"github.com/dozo-dev/dozo/internal/backend/lvm/layout"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// KindName is the kind's name.
const KindName = "lvm"

const mib = 1 << 20

// Kind describes the backend on a host. Thick and thin pools are of one kind, since one CSI driver
// serves both; which of them a pool is says its option "type", and what it can do its Go type. Pools of
// one Kind share what is known of their volume groups.
func Kind(h *host.Host) backend.Kind {
	groups := vg.New(h)
	return backend.Kind{
		Name:        KindName,
		Options:     declared(),
		Granularity: 4 * mib, // LVM's usual extent
		MinSize:     4 * mib,
		MaxSize:     1 << 60,
		NodeBound:   true,
		Mask: func(options map[string]string) backend.Mask { // thick or thin
			m := backend.FullMask()
			m.GroupSnapshotter, m.Attacher = false, false
			if options["integrity"] == "true" {
				m.Cloner, m.Snapshotter = false, false
			}
			return m
		},
		Open: func(ctx context.Context, c backend.Config) (backend.Backend, error) {
			return open(ctx, h, groups, c)
		},
	}
}

func declared() []backend.Parameter {
	whole := func(least, most int64) func(string) error {
		return func(v string) error {
			if n, err := strconv.ParseInt(v, 10, 64); err != nil || n < least || n > most {
				return fmt.Errorf("%.40q is not a whole number from %d to %d", v, least, most)
			}
			return nil
		}
	}
	yesNo := backend.OneOf("true", "false")
	return []backend.Parameter{
		{Name: "volumeGroup", Required: true, Check: isGroups,
			Help: "LVM's volume group, such as vg0; several with commas between them are used as one pool, each volume being in one of them"},
		{Name: "devices", Default: "", Check: isDevices,
			Help: "what a volume group that is not there is made of, and later extended by: all disks and partitions that match one of these patterns of paths, " +
				"such as /dev/disk/by-id/nvme-Samsung*, and are empty beyond doubt (default: Dozo makes no volume group)"},
		{Name: "minDeviceSize", Default: "1Gi", Check: isDeviceSize, Help: "devices with less are left alone, 128Mi or more"},
		{Name: "maxDeviceSize", Default: "", Check: isDeviceSize, Help: "devices with more are left alone (default: any size)"},
		{Name: "deviceModel", Default: "", Check: isPattern, Help: "pattern of the disk's model as in /sys/block/*/device/model, such as Samsung*; others are left alone (default: any)"},
		{Name: "rotational", Default: "", Check: yesNo, Help: "true for hard disks only, false for all but those (default: both)"},
		{Name: "type", Default: "thick", Check: backend.OneOf("thick", "thin"),
			Help: "thick volumes have their room from the start; thin ones take it from a thin pool as they are written to, and their copies share blocks"},
		{Name: "layout", Default: "linear", Check: backend.OneOf("linear", "striped", "raid1", "raid5", "raid10"),
			Help: "how volumes lie on the disks: linear, striped, raid1, raid5 or raid10; linear or striped for a thin pool that Dozo makes"},
		{Name: "stripes", Default: "2", Check: whole(2, 64), Help: "disks that the data is striped over, of the layouts striped, raid5 (which needs one more) and raid10"},
		{Name: "stripeSize", Default: "64Ki", Check: isStripe, Help: "what is written to one disk before the next, a power of two from 4Ki to 4Mi"},
		{Name: "copies", Default: "2", Check: whole(2, 10), Help: "how often the data is there, of the layouts raid1 and raid10; each copy is on disks of its own"},
		{Name: "integrity", Default: "false", Check: yesNo,
			Help: "true keeps checksums, so that raid layouts notice which copy is wrong; costs room and speed, and there are no snapshots or clones, since LVM has none of such volumes (kernel module dm-integrity)"},
		{Name: "spare", Default: "0", Check: isSize, Help: "room in each volume group that is never given to volumes, such as 10Gi"},
		{Name: "wipe", Default: "zero", Check: backend.OneOf("none", "discard", "zero"),
			Help: "what happens to the data of a deleted thick volume: zero overwrites it, discard tells the disk to forget it (which may or may not), " +
				"none leaves it to be read by the next raw block volume; thin pools never show old data"},
		{Name: "copySpace", Default: "20", Check: whole(1, 100),
			Help: "how much of a thick volume may be overwritten while it is copied, in percent: room that a copy needs for as long as it takes, spare included"},
		{Name: "thinPool", Default: "", Check: isName, Help: "name of the thin pool in the volume group; one that is there is used, otherwise it is made (default: dozo.POOL)"},
		{Name: "thinPoolSize", Default: "90%", Check: isPoolSize, Help: "size of a thin pool that Dozo makes: a part of the free room as in 90%, or a size such as 500Gi"},
		{Name: "overprovision", Default: "1.0", Check: isRatio, Help: "how often a thin pool's room is promised to volumes and snapshots together, 1.0 or more; 1.0 never runs out"},
		{Name: "dataThreshold", Default: "80", Check: whole(10, 100), Help: "how full the data of a thin pool may become, in percent, before it is extended"},
		{Name: "metadataThreshold", Default: "80", Check: whole(10, 100), Help: "the same for its metadata"},
		{Name: "autoExtend", Default: "20", Check: whole(0, 100), Help: "by how much a thin pool is extended, in percent of its size, if the volume group has room; 0 never extends it"},
	}
}

// options are a pool's, read.
type options struct {
	thin         bool
	layout       layout.Layout
	spare        int64 // bytes
	wipe         string
	copySpace    int64 // percent
	thinPool     string
	thinPoolSize string
	over         float64
	thresholds   thresholds
	devices      devices.Wanted
}

// thresholds are in percent.
type thresholds struct{ data, metadata, extend int64 }

// read takes options that their declarations have checked.
func read(c backend.Config) (o options, err error) {
	number := func(name string) int64 { n, _ := strconv.ParseInt(c.Options[name], 10, 64); return n }
	size := func(name string) int64 { n, _ := backend.ParseSize(c.Options[name]); return n }
	o = options{
		thin: c.Options["type"] == "thin", spare: size("spare"), wipe: c.Options["wipe"], copySpace: number("copySpace"),
		thinPool: c.Options["thinPool"], thinPoolSize: c.Options["thinPoolSize"],
		thresholds: thresholds{number("dataThreshold"), number("metadataThreshold"), number("autoExtend")},
		layout:     layout.New(c.Options["layout"], number("stripes"), number("copies"), size("stripeSize"), c.Options["integrity"] == "true"),
	}
	o.over, _ = strconv.ParseFloat(c.Options["overprovision"], 64)
	if o.thinPool == "" {
		o.thinPool = "dozo." + c.Pool
	}
	o.devices = devices.Wanted{Min: size("minDeviceSize"), Max: size("maxDeviceSize"), Model: c.Options["deviceModel"], Rotational: c.Options["rotational"]}
	if c.Options["devices"] != "" {
		o.devices.Patterns = strings.Split(c.Options["devices"], ",")
	}
	switch {
	case len(o.devices.Patterns) > 0 && strings.Contains(c.Options["volumeGroup"], ","):
		return o, errs.E(errs.Invalid, "options[\"devices\"]: which of several volume groups would get them? Name one in volumeGroup, or make them by hand")
	case o.layout.Integrity && !o.layout.Raid:
		return o, errs.E(errs.Invalid, "options[\"integrity\"]: only the layouts raid1, raid5 and raid10 can have it, not %s", o.layout.Name)
	case o.thin && o.layout.Raid:
		return o, errs.E(errs.Invalid, "options[\"layout\"]: Dozo makes thin pools that are linear or striped; make one on %s by hand and name it in thinPool", o.layout.Name)
	}
	return o, nil
}

func open(ctx context.Context, h *host.Host, groups *vg.Groups, c backend.Config) (backend.Backend, error) {
	o, err := read(c)
	if err != nil {
		return nil, err
	}
	p := &pool{host: h, name: c.Pool, node: c.Node, opts: o, log: cmp.Or(c.Log, slog.New(slog.DiscardHandler))}
	for name := range strings.SplitSeq(c.Options["volumeGroup"], ",") {
		g := groups.Get(name)
		if err := p.provide(ctx, g); err != nil {
			return nil, err
		}
		s, err := g.Load(ctx)
		if err != nil {
			return nil, err
		}
		if err := p.resume(ctx, g, s); err != nil {
			return nil, err
		}
		p.groups = append(p.groups, g)
	}
	if p.locks, err = p.groups[0].Locks(); err != nil {
		return nil, err
	}
	p.start()
	if o.thin {
		t := &Thin{pool: p}
		p.while(func(ctx context.Context) { p.sweep(ctx, t.destroy, nil) })
		p.while(t.extendWhenFull)
		return t, nil
	}
	t := &Thick{pool: p}
	p.while(func(ctx context.Context) { p.sweep(ctx, t.destroy, t.dissolve) })
	if o.layout.Integrity {
		return withoutCopies(t), nil
	}
	return t, nil
}

var groupForm = regexp.MustCompile(`^[A-Za-z0-9_+.][A-Za-z0-9_+.-]*$`)

func isGroups(v string) error {
	names := strings.Split(v, ",")
	for i, n := range names {
		switch {
		case !groupForm.MatchString(n) || n == "." || n == "..":
			return fmt.Errorf("%.80q is not a volume group's name", n)
		case mapperLength(n) > maxGroupName:
			return fmt.Errorf("%.80q is too long: %d characters at most, hyphens counting twice", n, maxGroupName)
		case slices.Contains(names[:i], n):
			return fmt.Errorf("%s is there twice", n)
		}
	}
	return nil
}

func isName(v string) error {
	if !groupForm.MatchString(v) || mapperLength(v) > 40 {
		return fmt.Errorf("%.80q is not the name of a logical volume, of 40 characters at most", v)
	}
	return nil
}

// leastDevice holds LVM's metadata of 64 MiB and something besides, in bytes.
const leastDevice = 128 * mib

func isDeviceSize(v string) error {
	if n, err := backend.ParseSize(v); err != nil || n < leastDevice {
		return fmt.Errorf("%.40q is not a size of %s or more", v, backend.FormatSize(leastDevice))
	}
	return nil
}

func isDevices(v string) error {
	for p := range strings.SplitSeq(v, ",") {
		if !strings.HasPrefix(p, "/dev/") || filepath.Clean(p) != p {
			return fmt.Errorf("%.200q is not a clean path that begins with /dev/", p)
		}
		if err := isPattern(p); err != nil {
			return err
		}
	}
	return nil
}

func isPattern(v string) error {
	if _, err := filepath.Match(v, ""); err != nil {
		return fmt.Errorf("%.200q is not a pattern: %w", v, err)
	}
	return nil
}

func isSize(v string) error { _, err := backend.ParseSize(v); return err }

func isStripe(v string) error {
	n, err := backend.ParseSize(v)
	if err != nil || n < 4<<10 || n > 4<<20 || n&(n-1) != 0 {
		return fmt.Errorf("%.40q is not a power of two from 4Ki to 4Mi", v)
	}
	return nil
}

func isPoolSize(v string) error {
	if percent, ok := strings.CutSuffix(v, "%"); ok {
		if n, err := strconv.Atoi(percent); err != nil || n < 1 || n > 100 {
			return fmt.Errorf("%.40q is not a percentage from 1%% to 100%%", v)
		}
		return nil
	}
	return isSize(v)
}

func isRatio(v string) error {
	if r, err := strconv.ParseFloat(v, 64); err != nil || !(r >= 1 && r <= 1000) {
		return fmt.Errorf("%.40q is not a number from 1.0 to 1000", v)
	}
	return nil
}
