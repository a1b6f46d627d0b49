package wire

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

// handlers are the services, over the pools of a server.
type handlers struct{ s *Server }

// events is the stream of a call that changes something.
type events = grpc.ServerStreamingServer[wirepb.Event]

// Hello says what a pool is and can do.
func (h *handlers) Hello(_ context.Context, w *wirepb.Pool) (*wirepb.HelloAnswer, error) {
	p, err := h.s.pool(w.GetName())
	if err != nil {
		return nil, err
	}
	return &wirepb.HelloAnswer{
		Version: h.s.opts.Version, Protocol: Protocol, Node: h.s.opts.Node, Kind: toKind(p.Kind), Mask: toMask(p.caps.Mask()),
	}, nil
}

// target is the pool and the ID that a call is about.
func (h *handlers) target(w *wirepb.Target) (*served, backend.ID, error) {
	p, err := h.s.pool(w.GetPool())
	if err != nil {
		return nil, "", err
	}
	id, err := parseID("id", w.GetId())
	return p, id, err
}

// lacks is for a client whose mask is that of an earlier server.
func (p *served) lacks(what string) error {
	return errs.E(errs.Unsupported, "pool %s: a %s pool cannot %s", p.Name, p.Kind.Name, what)
}

// change runs a call that changes something, under the locks of the keys, and sends what it reports
// and its result, nil for none.
func (p *served) change(s *Server, stream events, op string, keys keylock.Keys, do func(context.Context) (*wirepb.Event, error)) (err error) {
	ctx := stream.Context()
	of := keys.Alone[0]
	holder, err := p.locks.Take(ctx, op+" "+of, keys)
	if err != nil {
		return err
	}
	defer p.locks.Unlock(holder)
	defer func() { s.log(p, op, of, holder.Since(), err) }()
	out := &sender{stream: stream}
	result, err := do(backend.WithProgress(ctx, func(what string) {
		holder.Report(what)
		out.send(&wirepb.Event{What: &wirepb.Event_Progress{Progress: text(what)}})
	}))
	if err != nil || result == nil {
		out.end()
		return err
	}
	return out.last(result)
}

func (s *Server) log(p *served, op, id string, since time.Time, err error) {
	attrs := []slog.Attr{
		slog.String("pool", p.Name), slog.String("op", op), slog.String("id", id), slog.Duration("took", time.Since(since)),
	}
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("kind", errs.KindOf(err).String()), slog.String("error", err.Error()))
	}
	s.opts.Log.LogAttrs(context.Background(), level, "served", attrs...)
}

// sender sends events of whoever reports: a stream takes one at a time, and none after the last.
type sender struct {
	mu     sync.Mutex
	stream events
	ended  bool
}

func (s *sender) send(e *wirepb.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		_ = s.stream.Send(e) // nobody waits any more: the context tells the backend
	}
}

func (s *sender) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

func (s *sender) last(e *wirepb.Event) error {
	s.end()
	return s.stream.Send(e)
}

func volumeEvent(v backend.Volume, err error) (*wirepb.Event, error) {
	if err != nil {
		return nil, err
	}
	w, err := toVolume(v)
	return &wirepb.Event{What: &wirepb.Event_Volume{Volume: w}}, err
}

func accessEvent(a backend.Access, err error) (*wirepb.Event, error) {
	if err != nil {
		return nil, err
	}
	w, err := toAccess(a)
	return &wirepb.Event{What: &wirepb.Event_Access{Access: w}}, err
}

func snapshotsEvent(err error, all ...backend.Snapshot) (*wirepb.Event, error) {
	if err != nil {
		return nil, err
	}
	w := &wirepb.Snapshots{}
	for _, s := range all {
		w.Snapshots = append(w.Snapshots, toSnapshot(s))
	}
	return &wirepb.Event{What: &wirepb.Event_Snapshots{Snapshots: w}}, nil
}
