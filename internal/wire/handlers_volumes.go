package wire

import (
	"context"

	"google.golang.org/grpc"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

// Create is [backend.Backend].
func (h *handlers) Create(w *wirepb.CreateRequest, stream events) error {
	p, err := h.s.pool(w.GetPool())
	if err != nil {
		return err
	}
	r, err := fromRequest(w)
	if err != nil {
		return err
	}
	// The client knows the parameters by name only; and it may be of another version.
	if r.Parameters, err = backend.Complete("parameters", p.Kind.Parameters, r.Parameters); err != nil {
		return err
	}
	return p.change(h.s, stream, "create", keylock.Create(r), func(ctx context.Context) (*wirepb.Event, error) {
		if err := p.canCopy(ctx, r); err != nil {
			return nil, err
		}
		return volumeEvent(p.Backend.Create(ctx, r))
	})
}

// canCopy refuses a source of a sort that the pool cannot copy, which its backend need not look at:
// the volume would be blank. A client asks for that if it connected to an earlier server that could.
func (p *served) canCopy(ctx context.Context, r backend.Request) error {
	if (r.Source.Snapshot == "" || p.caps.Snapshotter != nil) && (r.Source.Volume == "" || p.caps.Cloner != nil) {
		return nil
	}
	v, err := p.Backend.Get(ctx, r.ID)
	switch {
	case errs.Is(err, errs.NotFound):
		return p.lacks("make copies of that sort")
	case err != nil:
		return err
	}
	return v.Satisfies(r)
}

// Delete is [backend.Backend].
func (h *handlers) Delete(w *wirepb.Target, stream events) error {
	p, id, err := h.target(w)
	if err != nil {
		return err
	}
	return p.change(h.s, stream, "delete", keylock.Resize(id), func(ctx context.Context) (*wirepb.Event, error) {
		return nil, p.Backend.Delete(ctx, id)
	})
}

// Get is [backend.Backend].
func (h *handlers) Get(ctx context.Context, w *wirepb.Target) (*wirepb.Volume, error) {
	p, id, err := h.target(w)
	if err != nil {
		return nil, err
	}
	v, err := p.Backend.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return toVolume(v)
}

// List is [backend.Backend].
func (h *handlers) List(w *wirepb.Pool, stream grpc.ServerStreamingServer[wirepb.Volume]) error {
	p, err := h.s.pool(w.GetName())
	if err != nil {
		return err
	}
	for v, err := range p.Backend.List(stream.Context()) {
		if err != nil {
			return err
		}
		out, err := toVolume(v)
		if err != nil {
			return err
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
	return nil
}

// Capacity is [backend.Backend].
func (h *handlers) Capacity(ctx context.Context, w *wirepb.CapacityRequest) (*wirepb.CapacityAnswer, error) {
	p, err := h.s.pool(w.GetPool())
	if err != nil {
		return nil, err
	}
	c, err := p.Backend.Capacity(ctx, w.GetNode())
	return toCapacity(c), err
}

// Expand is [backend.Expander].
func (h *handlers) Expand(w *wirepb.ExpandRequest, stream events) error {
	p, id, err := h.target(&wirepb.Target{Pool: w.GetPool(), Id: w.GetId()})
	switch {
	case err != nil:
		return err
	case p.caps.Expander == nil:
		return p.lacks("expand volumes")
	case w.GetSize() <= 0:
		return errs.E(errs.Invalid, "size: %d is not positive", w.GetSize())
	}
	return p.change(h.s, stream, "expand", keylock.Resize(id), func(ctx context.Context) (*wirepb.Event, error) {
		return volumeEvent(p.caps.Expander.Expand(ctx, id, w.GetSize()))
	})
}

// Modify is [backend.Modifier].
func (h *handlers) Modify(w *wirepb.ModifyRequest, stream events) error {
	p, id, err := h.target(&wirepb.Target{Pool: w.GetPool(), Id: w.GetId()})
	switch {
	case err != nil:
		return err
	case p.caps.Modifier == nil:
		return p.lacks("have limits")
	}
	return p.change(h.s, stream, "modify", keylock.Volume(id), func(ctx context.Context) (*wirepb.Event, error) {
		return volumeEvent(p.caps.Modifier.Modify(ctx, id, fromLimits(w.GetLimits())))
	})
}

// Import is [backend.Importer].
func (h *handlers) Import(w *wirepb.ImportRequest, stream events) error {
	p, err := h.s.pool(w.GetRequest().GetPool())
	if err != nil {
		return err
	}
	if p.caps.Importer == nil {
		return p.lacks("import volumes")
	}
	r, err := fromRequest(w.GetRequest())
	if err != nil {
		return err
	}
	return p.change(h.s, stream, "import", keylock.Resize(r.ID), func(ctx context.Context) (*wirepb.Event, error) {
		return volumeEvent(p.caps.Importer.Import(ctx, w.GetFrom(), r))
	})
}

// CloneSource is [backend.Cloner].
func (h *handlers) CloneSource(ctx context.Context, w *wirepb.Target) (*wirepb.Nothing, error) {
	p, id, err := h.target(w)
	if err != nil {
		return nil, err
	}
	if p.caps.Cloner == nil {
		return nil, p.lacks("clone volumes")
	}
	return &wirepb.Nothing{}, p.caps.Cloner.CloneSource(ctx, id)
}

// Activate is [backend.Activator].
func (h *handlers) Activate(w *wirepb.Target, stream events) error {
	p, id, err := h.target(w)
	if err != nil {
		return err
	}
	if p.caps.Activator == nil {
		return p.lacks("activate volumes")
	}
	return p.change(h.s, stream, "activate", keylock.Volume(id), func(ctx context.Context) (*wirepb.Event, error) {
		device, err := p.caps.Activator.Activate(ctx, id)
		return &wirepb.Event{What: &wirepb.Event_Device{Device: device}}, err
	})
}

// Deactivate is [backend.Activator].
func (h *handlers) Deactivate(w *wirepb.Target, stream events) error {
	p, id, err := h.target(w)
	if err != nil {
		return err
	}
	if p.caps.Activator == nil {
		return p.lacks("activate volumes")
	}
	return p.change(h.s, stream, "deactivate", keylock.Volume(id), func(ctx context.Context) (*wirepb.Event, error) {
		return nil, p.caps.Activator.Deactivate(ctx, id)
	})
}

// Attach is [backend.Attacher].
func (h *handlers) Attach(w *wirepb.AttachRequest, stream events) error {
	p, id, err := h.target(&wirepb.Target{Pool: w.GetPool(), Id: w.GetId()})
	switch {
	case err != nil:
		return err
	case p.caps.Attacher == nil:
		return p.lacks("attach volumes")
	case w.GetNode() == "":
		return errs.E(errs.Invalid, "node: missing")
	}
	return p.change(h.s, stream, "attach", keylock.Volume(id), func(ctx context.Context) (*wirepb.Event, error) {
		return accessEvent(p.caps.Attacher.Attach(ctx, id, fromAttachRequest(w)))
	})
}

// Detach is [backend.Attacher].
func (h *handlers) Detach(w *wirepb.DetachRequest, stream events) error {
	p, id, err := h.target(&wirepb.Target{Pool: w.GetPool(), Id: w.GetId()})
	if err != nil {
		return err
	}
	if p.caps.Attacher == nil {
		return p.lacks("attach volumes")
	}
	return p.change(h.s, stream, "detach", keylock.Volume(id), func(ctx context.Context) (*wirepb.Event, error) {
		return nil, p.caps.Attacher.Detach(ctx, id, w.GetNode())
	})
}

// Mark is [backend.Marker].
func (h *handlers) Mark(ctx context.Context, w *wirepb.Target) (*wirepb.Formatting, error) {
	p, id, err := h.target(w)
	if err != nil {
		return nil, err
	}
	if p.caps.Marker == nil {
		return nil, p.lacks("keep marks")
	}
	m, err := p.caps.Marker.Mark(ctx, id)
	return toMark(m), err
}

// SetMark is [backend.Marker].
func (h *handlers) SetMark(w *wirepb.SetMarkRequest, stream events) error {
	p, id, err := h.target(&wirepb.Target{Pool: w.GetPool(), Id: w.GetId()})
	switch {
	case err != nil:
		return err
	case p.caps.Marker == nil:
		return p.lacks("keep marks")
	case w.GetMark() == nil: // the zero mark says "never formatted": it has to be sent to be meant
		return errs.E(errs.Invalid, "mark: missing")
	}
	return p.change(h.s, stream, "mark", keylock.Volume(id), func(ctx context.Context) (*wirepb.Event, error) {
		return nil, p.caps.Marker.SetMark(ctx, id, fromMark(w.GetMark()))
	})
}

// Check is [backend.Checker].
func (h *handlers) Check(ctx context.Context, w *wirepb.Target) (*wirepb.CheckAnswer, error) {
	p, id, err := h.target(w)
	if err != nil {
		return nil, err
	}
	if p.caps.Checker == nil {
		return nil, p.lacks("check volumes")
	}
	problems, err := p.caps.Checker.Check(ctx, id)
	return toProblems(problems), err
}

// Gauges is [backend.Gauger].
func (h *handlers) Gauges(ctx context.Context, w *wirepb.Pool) (*wirepb.GaugesAnswer, error) {
	p, err := h.s.pool(w.GetName())
	if err != nil {
		return nil, err
	}
	if p.caps.Gauger == nil {
		return nil, p.lacks("give figures")
	}
	gauges, err := p.caps.Gauger.Gauges(ctx)
	return toGauges(gauges), err
}
