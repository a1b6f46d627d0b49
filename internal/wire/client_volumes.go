package wire

import (
	"context"
	"iter"

	"google.golang.org/grpc"

	"github.com/dozo-dev/dozo/internal/backend"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

// Create is [backend.Backend].
func (c *Client) Create(ctx context.Context, r backend.Request) (backend.Volume, error) {
	stream, err := c.backend.Create(ctx, toRequest(c.dial.Pool, r))
	return c.volume(ctx, stream, err)
}

// Delete is [backend.Backend].
func (c *Client) Delete(ctx context.Context, id backend.ID) error {
	stream, err := c.backend.Delete(ctx, c.target(id))
	_, err = c.changed(ctx, stream, err)
	return err
}

// Get is [backend.Backend].
func (c *Client) Get(ctx context.Context, id backend.ID) (backend.Volume, error) {
	w, err := c.backend.Get(ctx, c.target(id))
	if err != nil {
		return backend.Volume{}, c.fromStatus(ctx, err)
	}
	v, err := fromVolume(w)
	return v, c.odd(err)
}

// List is [backend.Backend].
func (c *Client) List(ctx context.Context) iter.Seq2[backend.Volume, error] {
	return list(ctx, c, func(ctx context.Context) (grpc.ServerStreamingClient[wirepb.Volume], error) {
		return c.backend.List(ctx, &wirepb.Pool{Name: c.dial.Pool})
	}, fromVolume)
}

// Capacity is [backend.Backend].
func (c *Client) Capacity(ctx context.Context, node string) (backend.Capacity, error) {
	w, err := c.backend.Capacity(ctx, &wirepb.CapacityRequest{Pool: c.dial.Pool, Node: node})
	return fromCapacity(w), c.fromStatus(ctx, err)
}

// Expand is [backend.Expander].
func (c *Client) Expand(ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
	stream, err := c.expander.Expand(ctx, &wirepb.ExpandRequest{Pool: c.dial.Pool, Id: string(id), Size: size})
	return c.volume(ctx, stream, err)
}

// Modify is [backend.Modifier].
func (c *Client) Modify(ctx context.Context, id backend.ID, l backend.Limits) (backend.Volume, error) {
	stream, err := c.modifier.Modify(ctx, &wirepb.ModifyRequest{Pool: c.dial.Pool, Id: string(id), Limits: toLimits(l)})
	return c.volume(ctx, stream, err)
}

// Import is [backend.Importer].
func (c *Client) Import(ctx context.Context, from string, r backend.Request) (backend.Volume, error) {
	r.Size, r.Limit = 1, 0 // it has the size that it has, and a request has one
	stream, err := c.importer.Import(ctx, &wirepb.ImportRequest{From: from, Request: toRequest(c.dial.Pool, r)})
	return c.volume(ctx, stream, err)
}

// CloneSource is [backend.Cloner].
func (c *Client) CloneSource(ctx context.Context, id backend.ID) error {
	_, err := c.cloner.CloneSource(ctx, c.target(id))
	return c.fromStatus(ctx, err)
}

// Activate is [backend.Activator].
func (c *Client) Activate(ctx context.Context, id backend.ID) (string, error) {
	stream, err := c.activator.Activate(ctx, c.target(id))
	e, err := c.changed(ctx, stream, err)
	return e.GetDevice(), err
}

// Deactivate is [backend.Activator].
func (c *Client) Deactivate(ctx context.Context, id backend.ID) error {
	stream, err := c.activator.Deactivate(ctx, c.target(id))
	_, err = c.changed(ctx, stream, err)
	return err
}

// Attach is [backend.Attacher].
func (c *Client) Attach(ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
	stream, err := c.attacher.Attach(ctx, toAttachRequest(c.dial.Pool, id, r))
	e, err := c.changed(ctx, stream, err)
	if err != nil {
		return backend.Access{}, err
	}
	a, err := fromAccess(e.GetAccess())
	return a, c.odd(err)
}

// Detach is [backend.Attacher].
func (c *Client) Detach(ctx context.Context, id backend.ID, node string) error {
	stream, err := c.attacher.Detach(ctx, &wirepb.DetachRequest{Pool: c.dial.Pool, Id: string(id), Node: node})
	_, err = c.changed(ctx, stream, err)
	return err
}

// Mark is [backend.Marker].
func (c *Client) Mark(ctx context.Context, id backend.ID) (backend.Mark, error) {
	w, err := c.marker.Mark(ctx, c.target(id))
	return fromMark(w), c.fromStatus(ctx, err)
}

// SetMark is [backend.Marker].
func (c *Client) SetMark(ctx context.Context, id backend.ID, m backend.Mark) error {
	stream, err := c.marker.SetMark(ctx, &wirepb.SetMarkRequest{Pool: c.dial.Pool, Id: string(id), Mark: toMark(m)})
	_, err = c.changed(ctx, stream, err)
	return err
}

// Check is [backend.Checker].
func (c *Client) Check(ctx context.Context, id backend.ID) ([]backend.Problem, error) {
	w, err := c.checker.Check(ctx, c.target(id))
	return fromProblems(w), c.fromStatus(ctx, err)
}

// Gauges is [backend.Gauger].
func (c *Client) Gauges(ctx context.Context) ([]backend.Gauge, error) {
	w, err := c.gauger.Gauges(ctx, &wirepb.Pool{Name: c.dial.Pool})
	return fromGauges(w), c.fromStatus(ctx, err)
}
