package wire

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

const (
	// DefaultPatience is how long Connect waits for a server that is just starting.
	DefaultPatience = 10 * time.Second
	// pingEvery is how long a server may be silent during a call before it is asked whether it lives:
	// one that is stopped keeps its end of the socket open.
	pingEvery = 20 * time.Second
	// redial is the longest between two attempts to connect to a server that is gone.
	redial = time.Second
)

// Dial says which pool to connect to.
type Dial struct {
	Socket   string        // the path
	Pool     string        // its name there
	Version  string        // of this build, for people
	Patience time.Duration // 0: DefaultPatience
}

// Client is a pool that another process serves. It has the methods of all optional interfaces;
// its mask says which of them there are.
type Client struct {
	dial    Dial
	version string
	conn    *grpc.ClientConn
	hello   *wirepb.HelloAnswer // nil until connected
	kind    backend.Kind
	mask    backend.Mask
	stubs
}

// stubs are the services, each for one interface.
type stubs struct {
	backend   wirepb.BackendClient
	expander  wirepb.ExpanderClient
	cloner    wirepb.ClonerClient
	snapshots wirepb.SnapshotterClient
	groups    wirepb.GroupSnapshotterClient
	activator wirepb.ActivatorClient
	attacher  wirepb.AttacherClient
	marker    wirepb.MarkerClient
	checker   wirepb.CheckerClient
	modifier  wirepb.ModifierClient
	gauger    wirepb.GaugerClient
	importer  wirepb.ImporterClient
}

var _ interface {
	backend.Proxy
	backend.Expander
	backend.Cloner
	backend.Snapshotter
	backend.GroupSnapshotter
	backend.Activator
	backend.Marker
	backend.Checker
} = (*Client)(nil)

var _ interface {
	backend.Modifier
	backend.Gauger
	backend.Importer
	backend.Attacher
} = (*Client)(nil)

// Connect connects to a pool. errs.Unavailable if nobody serves the socket, errs.Invalid if it does
// not have the pool, errs.Unsupported if the server is too old to be understood.
func Connect(ctx context.Context, d Dial) (*Client, error) {
	c := &Client{dial: d, version: cmp.Or(d.Version, "(devel)")}
	conn, err := grpc.NewClient("unix:"+d.Socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the socket's mode is the lock
		grpc.WithUnaryInterceptor(sayProtocol), grpc.WithStreamInterceptor(sayProtocolStreaming),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingEvery / 2}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: redial / 10, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redial},
			MinConnectTimeout: redial,
		}))
	if err != nil {
		return nil, errs.E(errs.Invalid, "socket %s: %w", d.Socket, err)
	}
	c.conn = conn
	c.stubs = stubs{
		wirepb.NewBackendClient(conn), wirepb.NewExpanderClient(conn), wirepb.NewClonerClient(conn), wirepb.NewSnapshotterClient(conn),
		wirepb.NewGroupSnapshotterClient(conn), wirepb.NewActivatorClient(conn), wirepb.NewAttacherClient(conn), wirepb.NewMarkerClient(conn), wirepb.NewCheckerClient(conn),
		wirepb.NewModifierClient(conn), wirepb.NewGaugerClient(conn), wirepb.NewImporterClient(conn),
	}
	if err := c.meet(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// meet asks the server what the pool is.
func (c *Client) meet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.dial.Patience, DefaultPatience))
	defer cancel()
	hello, err := wirepb.NewPoolsClient(c.conn).Hello(ctx, &wirepb.Pool{Name: c.dial.Pool}, grpc.WaitForReady(true))
	if err != nil {
		if err := c.fromStatus(ctx, err); !errs.Is(err, errs.Aborted) {
			return err
		}
		return errs.E(errs.Unavailable, "%s does not answer (%s); does dozo lvmd run?", c.where(), status.Convert(err).Message())
	}
	c.hello, c.mask = hello, fromMask(hello.GetMask())
	if hello.GetProtocol() < Protocol {
		return errs.E(errs.Unsupported, "%s: the dozo there (%s) speaks version %d of the protocol, this one (%s) version %d; update it",
			c.where(), c.served(), hello.GetProtocol(), c.version, Protocol)
	}
	c.kind, err = fromKind(hello.GetKind())
	return err
}

// Mask is [backend.Proxy]: what the pool could do when it was connected to.
func (c *Client) Mask() backend.Mask { return c.mask }

// Kind is what the server says that the pool is, without Open and without the checks of parameters,
// which the server makes.
func (c *Client) Kind() backend.Kind { return c.kind }

// Node is the node that the server is on.
func (c *Client) Node() string { return c.hello.GetNode() }

// Close ends the connection. The pool stays open where it is served.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) where() string { return "pool " + c.dial.Pool + " at " + c.dial.Socket }

// served is the server's version, as far as it is known.
func (c *Client) served() string { return cmp.Or(c.hello.GetVersion(), "of unknown version") }

func (c *Client) target(id backend.ID) *wirepb.Target {
	return &wirepb.Target{Pool: c.dial.Pool, Id: string(id)}
}

func sayProtocol(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	return invoke(withProtocol(ctx), method, request, answer, conn, o...)
}

func sayProtocolStreaming(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, stream grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
	return stream(withProtocol(ctx), desc, conn, method, o...)
}

func withProtocol(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, protocolKey, strconv.Itoa(Protocol))
}

// changed waits for the end of a call that changes something, passes on what it reports, and returns
// its result, nil if it sent none.
func (c *Client) changed(ctx context.Context, stream grpc.ServerStreamingClient[wirepb.Event], err error) (*wirepb.Event, error) {
	var result *wirepb.Event
	for err == nil {
		var e *wirepb.Event
		e, err = stream.Recv()
		switch what := e.GetWhat().(type) {
		case nil:
		case *wirepb.Event_Progress:
			backend.Progress(ctx, what.Progress)
		default:
			result = e
		}
	}
	if errors.Is(err, io.EOF) {
		return result, nil
	}
	return nil, c.fromStatus(ctx, err)
}

// volume waits for a call whose result is a volume.
func (c *Client) volume(ctx context.Context, stream grpc.ServerStreamingClient[wirepb.Event], err error) (backend.Volume, error) {
	e, err := c.changed(ctx, stream, err)
	if err != nil {
		return backend.Volume{}, err
	}
	v, err := fromVolume(e.GetVolume())
	return v, c.odd(err)
}

// odd is an error in an answer: it is not the caller who is wrong.
func (c *Client) odd(err error) error {
	if err == nil {
		return nil
	}
	return errs.E(errs.Internal, "%s: the answer of dozo %s: %w", c.where(), c.served(), err)
}

// list yields what a stream brings. One that breaks ends with an error.
func list[W, T any](ctx context.Context, c *Client, open func(context.Context) (grpc.ServerStreamingClient[W], error), read func(*W) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		own, cancel := context.WithCancel(ctx) // ends the stream when the caller has seen enough
		defer cancel()
		stream, err := open(own)
		for err == nil {
			var w *W
			if w, err = stream.Recv(); err != nil {
				break
			}
			item, wrong := read(w)
			if wrong != nil {
				yield(none, c.odd(wrong))
				return
			}
			if !yield(item, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(none, c.fromStatus(ctx, err))
		}
	}
}
