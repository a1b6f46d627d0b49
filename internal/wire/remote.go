package wire

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Remote connects to a pool and returns its kind, whose Open returns the pool as a backend, once.
// errs.Invalid from Open if the volumes of the kind are on one node and that is not the one which
// the caller is on: they would be looked for where they are not.
func Remote(ctx context.Context, d Dial) (backend.Kind, error) {
	c, err := Connect(ctx, d)
	if err != nil {
		return backend.Kind{}, err
	}
	k := c.Kind()
	k.Mask = func(map[string]string) backend.Mask { return c.Mask() }
	k.Open = func(_ context.Context, config backend.Config) (backend.Backend, error) {
		if k.NodeBound && config.Node != c.Node() {
			wrong := errs.E(errs.Invalid, "node: this is node %q, but the one that serves %s says that it is on %q; give both the same --node-name", config.Node, d.Socket, c.Node())
			_ = c.Close() // it was only asked who it is
			return nil, wrong
		}
		return c, nil
	}
	return k, nil
}
