package lvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend/lvm/devices"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/errs"
)

// provide makes a volume group of the devices that the pool's options ask for, or gives it those that it
// has not yet. A group that is there is used whatever becomes of new devices.
//
// Being killed leaves nothing that the next opening does not go on from: a device that was prepared and is
// in no group yet is told by its UUID, and the group itself is there or not.
func (p *pool) provide(ctx context.Context, g *vg.Group) error {
	if len(p.opts.devices.Patterns) == 0 {
		return nil
	}
	return g.Alone(ctx, func() error {
		s, err := g.Load(ctx)
		switch {
		case errors.Is(err, vg.ErrNone):
			return p.makeGroup(ctx, g)
		case err != nil:
			return err
		case s.Missing() != "": // LVM changes nothing now
			return nil
		}
		if err := p.extendGroup(ctx, g); err != nil {
			p.log.Warn("the volume group is not extended", "pool", p.name, "volumeGroup", g.Name(), "error", err)
		}
		return nil
	})
}

// makeGroup makes the group, unless there is any sign that this node has one of that name already, whose
// disks are missing.
func (p *pool) makeGroup(ctx context.Context, g *vg.Group) error {
	trace, err := g.Traces(ctx)
	switch {
	case err != nil:
		return err
	case trace != "":
		return errs.E(errs.Unavailable, "volumeGroup: LVM does not find %s, but this node had or has it: %s. Bring its disks back; no second one is made. If it is gone for good, remove that", g.Name(), trace)
	}
	ready, refused, err := p.prepare(ctx, g)
	switch {
	case err != nil:
		return err
	case len(ready) == 0 && len(refused) == 0:
		return errs.E(errs.Unavailable, "volumeGroup: there is no volume group %s on this node, and no device that matches %s", g.Name(), strings.Join(p.opts.devices.Patterns, ","))
	case len(ready) == 0:
		return errs.E(errs.Unavailable, "volumeGroup: there is no volume group %s on this node, and no device to make it of: %s", g.Name(), strings.Join(refused, "; "))
	}
	if err := g.Make(ctx, "open", ready...); err != nil {
		return errs.E(errs.KindOf(err), "volumeGroup: %w; %s", err, strings.Join(refused, "; "))
	}
	p.log.Info("made a volume group", "pool", p.name, "volumeGroup", g.Name(), "devices", ready, "refused", refused)
	return nil
}

func (p *pool) extendGroup(ctx context.Context, g *vg.Group) error {
	ready, refused, err := p.prepare(ctx, g)
	if err != nil {
		return err
	}
	if len(refused) > 0 {
		p.log.Info("devices that match and are not used", "pool", p.name, "volumeGroup", g.Name(), "refused", refused)
	}
	if len(ready) == 0 {
		return nil
	}
	if err := g.Extend(ctx, "open", ready...); err != nil {
		return err
	}
	p.log.Info("extended a volume group", "pool", p.name, "volumeGroup", g.Name(), "devices", ready)
	return nil
}

// prepare makes physical volumes of the devices that are empty, and returns them, with those that an earlier
// attempt made and that are in no group, and what it refused. A device of the group is neither.
func (p *pool) prepare(ctx context.Context, g *vg.Group) (ready, refused []string, err error) {
	found, err := devices.Find(p.host, p.opts.devices)
	if err != nil {
		return nil, nil, err
	}
	volumes, err := g.Physical(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range found {
		use, why := p.judge(ctx, g, d, volumes)
		switch {
		case why != "":
			refused = append(refused, d.Path+" "+why)
		case use:
			ready = append(ready, d.Path)
		}
	}
	return ready, refused, nil
}

// judge decides over one device, and makes an empty one a physical volume.
func (p *pool) judge(ctx context.Context, g *vg.Group, d devices.Device, volumes []vg.PV) (use bool, why string) {
	var is []vg.PV
	for _, v := range volumes {
		if n, err := p.host.DeviceNumber(v.Device); err == nil {
			if own, err := p.host.DeviceNumber(d.Path); err == nil && n == own {
				is = append(is, v)
			}
		}
	}
	twins := func(uuid string) int {
		return len(slices.DeleteFunc(slices.Clone(volumes), func(v vg.PV) bool { return v.UUID != uuid }))
	}
	switch {
	case len(is) > 0 && is[0].Group == g.Name():
		return false, ""
	case d.Why != "":
		return false, d.Why
	case len(is) == 0:
		err := devices.Empty(ctx, p.host, d.Path)
		if err == nil {
			err = g.Prepare(ctx, "open", d.Path)
		}
		return err == nil, reason(err)
	case !is[0].Prepared():
		return false, describe(is[0])
	case twins(is[0].UUID) > 1:
		return false, fmt.Sprintf("is there twice as physical volume %s", is[0].UUID)
	}
	err := devices.Free(d.Path)
	return err == nil, reason(err)
}

// describe says what a physical volume is that is none of ours.
func describe(v vg.PV) string {
	switch {
	case v.Lost():
		return "is marked as used, and its volume group is not to be found; if that is gone, or LVM was killed while it made one, run: pvremove -ff " + v.Device
	case v.Group != "":
		return "is in volume group " + v.Group
	}
	return fmt.Sprintf("is a physical volume that Dozo did not make; run vgextend, or pvremove %s if it may be used", v.Device)
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
