package imports

import (
	"cmp"
	"context"
	"maps"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Storage is a pool outside the cluster, opened in this process. That the controller has it open too does no harm: what is
// imported is nobody's volume until it is, and [backend.Importer] holds against whoever does the same.
type Storage interface {
	ImportExact(ctx context.Context, from string, r backend.Request) (backend.Volume, error)
	ImportableExact(ctx context.Context, from string, r backend.Request) (backend.Volume, error) // what ImportExact would return; changes nothing
	Close(ctx context.Context) error
}

// closing is how long a pool has to end what runs in it, which by then is nothing.
const closing = 5 * time.Second

// outside has the pool import, or say what it would, and works out the PersistentVolume of that.
func (i *Importer) outside(ctx context.Context, r Request, t target, do func(Storage, context.Context, string, backend.Request) (backend.Volume, error)) (Objects, error) {
	s, err := i.Open(ctx, t.pool)
	if err != nil {
		return Objects{}, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
		defer cancel()
		_ = s.Close(ctx) // nothing is lost with a session that is left
	}()
	v, err := do(s, ctx, r.From, backend.Request{ID: t.id, Name: r.Name, Parameters: i.parameters(r, t)})
	if err != nil {
		return Objects{}, errs.E(errs.KindOf(err), "pool %s: %w", r.Pool, err)
	}
	p, err := i.persistentVolume(r, t, v)
	return Objects{PersistentVolume: p}, err
}

// parameters are those that the driver would get: the class's, if it is one of the driver's, and those of the request.
func (i *Importer) parameters(r Request, t target) map[string]string {
	all := map[string]string{}
	if t.ofDriver() {
		maps.Copy(all, i.Parameters(t.class.Parameters))
	}
	maps.Copy(all, r.Parameters)
	const protocol, lun = "protocol", "iscsi"
	if is := cmp.Or(all[protocol], t.pool.Spec.Options[protocol], lun); r.Share && is == lun {
		all[protocol] = backend.NFS
	}
	return all
}
