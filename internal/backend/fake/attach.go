package fake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// paramProtocol is the parameter of a class that only a fake outside the cluster has.
const paramProtocol = "protocol"

// portal is where the targets of a fake are; nobody is there.
const portal = "192.0.2.10:3260"

// admission is what a node was admitted to a volume with.
type admission struct {
	readOnly bool
	lun      int // free ones are given again, as arrays do
}

func (o Options) parameters() []backend.Parameter {
	all := []backend.Parameter{{Name: "colour", Help: "red or blue", Default: "red", Check: backend.OneOf("red", "blue")}}
	if o.Outside {
		all = append(all, backend.Parameter{Name: paramProtocol, Help: "iscsi or nfs", Default: "iscsi", Check: backend.OneOf("iscsi", backend.NFS)})
	}
	return all
}

func (o Options) shares() func(options, parameters map[string]string) bool {
	if !o.Outside {
		return nil
	}
	return func(_, parameters map[string]string) bool { return parameters[paramProtocol] == backend.NFS }
}

// access is how a new volume is reached.
func (d *disk) access(r backend.Request) backend.Access {
	switch {
	case !d.o.Outside:
		return backend.LocalAccess(d.o.Pool, r.ID)
	case r.Parameters[paramProtocol] == backend.NFS:
		return backend.MountAccess(backend.Mount{Type: backend.NFS, Source: "192.0.2.10:/" + d.o.Pool + "/" + string(r.ID)})
	}
	id := sha256.Sum256([]byte(d.o.Pool + "/" + string(r.ID)))
	return backend.ISCSIAccess("36"+hex.EncodeToString(id[:])[:31], nil)
}

// Attach is [backend.Attacher].
func (b *Backend) Attach(ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
	return do(ctx, b, "Attach", func(e *Errors) *Step { return &e.Attach }, func(d *disk) (backend.Access, error) {
		v, err := d.volume(id)
		if err != nil {
			return backend.Access{}, err
		}
		has, admitted := v.admitted[r.Node]
		switch {
		case admitted && has.readOnly != r.ReadOnly:
			return backend.Access{}, errs.E(errs.Exists, "volume %s: node %s was admitted with read-only %v", id, r.Node, has.readOnly)
		case admitted:
		case len(v.admitted) > 0 && !r.Shared:
			return backend.Access{}, errs.E(errs.InUse, "volume %s: it is attached to %s", id, strings.Join(v.nodes(), ", "))
		default:
			has = admission{readOnly: r.ReadOnly, lun: d.freeLUN(r.Node)}
			if v.admitted == nil {
				v.admitted = map[string]admission{}
			}
			v.admitted[r.Node] = has
		}
		if r.Block {
			v.mark.FS, v.mark.Done = backend.Raw, true
		}
		return d.reached(v, r.Node, has), nil
	})
}

// reached is how a node that was admitted reaches a volume.
func (d *disk) reached(v *volume, node string, has admission) backend.Access {
	a := copyAccess(v.Access)
	if a.ISCSI != nil {
		a.ISCSI.Raw, a.ISCSI.Copied = v.mark.FS == backend.Raw, v.mark.Copied
		name := sha256.Sum256([]byte(node))
		a.ISCSI.Target = &backend.ISCSITarget{
			IQN: "iqn.2000-01.com.example:" + d.o.Pool + "." + hex.EncodeToString(name[:8]), Portals: []string{portal}, LUN: has.lun,
		}
	}
	return a
}

// freeLUN is the least number that no volume has in the node's target.
func (d *disk) freeLUN(node string) int {
	taken := map[int]bool{}
	for _, v := range d.volumes {
		if a, admitted := v.admitted[node]; admitted {
			taken[a.lun] = true
		}
	}
	for n := 1; ; n++ {
		if !taken[n] {
			return n
		}
	}
}

// Detach is [backend.Attacher].
func (b *Backend) Detach(ctx context.Context, id backend.ID, node string) error {
	_, err := do(ctx, b, "Detach", func(e *Errors) *Step { return &e.Detach }, func(d *disk) (none struct{}, _ error) {
		v := d.volumes[id]
		switch {
		case v == nil || v.foreign:
		case node == "":
			v.admitted = nil
		default:
			delete(v.admitted, node)
		}
		return none, nil
	})
	return err
}

// Attached returns the nodes that are admitted to a volume, sorted.
func (b *Backend) Attached(id backend.ID) []string {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	if v := b.disk.volumes[id]; v != nil {
		return v.nodes()
	}
	return nil
}

func (v *volume) nodes() []string { return slices.Sorted(maps.Keys(v.admitted)) }

// copyAccess shares nothing with a that a caller could change.
func copyAccess(a backend.Access) backend.Access {
	if a.Local != nil {
		local := *a.Local
		a.Local = &local
	}
	if a.ISCSI != nil {
		iscsi := *a.ISCSI
		a.ISCSI = &iscsi
	}
	if a.Mount != nil {
		mount := *a.Mount
		mount.Options = slices.Clone(mount.Options)
		a.Mount = &mount
	}
	return a
}
