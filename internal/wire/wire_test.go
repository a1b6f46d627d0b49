package wire_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/internal/wire"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

// TestEveryCapabilityCrosses counts: a capability that is added to package pool has to be added to
// the mask, to the protocol and to the client, or it would be lost, or promised without being there.
func TestEveryCapabilityCrosses(t *testing.T) {
	capabilities := reflect.TypeFor[pool.Capabilities]()
	mask := reflect.TypeFor[backend.Mask]()
	client := reflect.TypeFor[*wire.Client]()
	services := wirepb.File_wire_proto.Services()
	message := wirepb.File_wire_proto.Messages().ByName("Mask")
	if n := capabilities.NumField(); mask.NumField() != n || message.Fields().Len() != n || services.Len() != n+2 {
		t.Errorf("%d capabilities, %d fields in backend.Mask, %d in the protocol's, %d services, of which Pools and Backend are no capability",
			n, mask.NumField(), message.Fields().Len(), services.Len())
	}
	for i := range capabilities.NumField() {
		f := capabilities.Field(i)
		if _, ok := mask.FieldByName(f.Name); !ok {
			t.Errorf("backend.Mask lacks %s", f.Name)
		}
		if !client.Implements(f.Type) {
			t.Errorf("the client is no %s", f.Type)
		}
		if services.ByName(protoreflect.Name(f.Name)) == nil {
			t.Errorf("the protocol has no service %s", f.Name)
		}
	}
}

func TestMaskCrosses(t *testing.T) {
	for name, mask := range masks() {
		f := fake.New(fake.Options{})
		want := pool.Find(mask(f)).Mask()
		if got := pool.Find(serve(t, mask(f), fake.Kind(fake.Options{})).connect()).Mask(); got != want {
			t.Errorf("%s: %+v became %+v", name, want, got)
		}
	}
}

func TestHello(t *testing.T) {
	kind := fake.Kind(fake.Options{NodeBound: true})
	c := serve(t, fake.New(fake.Options{}), kind).connect()
	got := c.Kind()
	if got.Name != kind.Name || got.Granularity != kind.Granularity || got.MinSize != kind.MinSize || got.MaxSize != kind.MaxSize || !got.NodeBound {
		t.Errorf("the kind became %+v", got)
	}
	if len(got.Parameters) != 1 || got.Parameters[0].Name != "colour" || got.Parameters[0].Default != "red" || got.Parameters[0].Help == "" {
		t.Errorf("the parameters became %+v", got.Parameters)
	}
	if c.Node() != "n1" {
		t.Errorf("node %q", c.Node())
	}
}

// TestParametersAreCheckedWhereTheyAreKnown: a check does not cross, so the client cannot make it.
func TestParametersAreCheckedWhereTheyAreKnown(t *testing.T) {
	f := fake.New(fake.Options{})
	c := serve(t, f, fake.Kind(fake.Options{})).connect()
	_, err := c.Create(t.Context(), backend.Request{ID: "v", Name: "v", Size: mib, Parameters: map[string]string{"colour": "green"}})
	refused(t, err, errs.Invalid, `parameters["colour"]`, "green")
	_, err = c.Create(t.Context(), backend.Request{ID: "../v", Name: "v", Size: mib})
	refused(t, err, errs.Invalid, "id", "../v")
	if n := f.Calls("Create"); n != 0 {
		t.Errorf("the backend was called %d times", n)
	}
}

func TestErrorsKeepKindAndMessage(t *testing.T) {
	f := fake.New(fake.Options{})
	c := serve(t, f, fake.Kind(fake.Options{})).connect()
	for k := errs.Internal; k <= errs.Aborted; k++ {
		const message = "field: 30% of \xff is wrong\nand a second line: ü"
		f.Arm(func(e *fake.Errors) { e.Get.Before = errs.E(k, "%s", message) })
		_, err := c.Get(t.Context(), "v")
		refused(t, err, k, "field: 30% of \uFFFD is wrong\nand a second line: ü")
		f.Arm(func(e *fake.Errors) { e.Delete.Before = errs.E(k, "%s", message) })
		refused(t, c.Delete(t.Context(), "v"), k, "and a second line: ü")
		f.Arm(func(e *fake.Errors) { e.List.Before = errs.E(k, "%s", message) })
		for _, err = range c.List(t.Context()) {
		}
		refused(t, err, k, "and a second line: ü")
	}
	if errs.Kind(errs.Aborted+1).String() != "kind(11)" {
		t.Error("a kind was added: it has to cross too (renderings)")
	}
}

// TestListThatBreaksIsNotWhole arms the server's storage to fail halfway.
func TestListThatBreaksIsNotWhole(t *testing.T) {
	f := fake.New(fake.Options{})
	c := serve(t, f, fake.Kind(fake.Options{})).connect()
	for _, id := range []backend.ID{"a", "b", "c", "d"} {
		if _, err := c.Create(t.Context(), backend.Request{ID: id, Name: string(id), Size: mib}); err != nil {
			t.Fatal(err)
		}
	}
	f.Arm(func(e *fake.Errors) { e.List.After = errs.E(errs.Unavailable, "halfway") })
	n := 0
	var last error
	for _, last = range c.List(t.Context()) {
		n++
	}
	refused(t, last, errs.Unavailable, "halfway")
	if n != 3 {
		t.Errorf("%d were yielded, want two volumes and the error", n)
	}
	for range c.List(t.Context()) {
		break // the server's end of the stream ends too
	}
}

func TestProgressCrosses(t *testing.T) {
	f := fake.New(fake.Options{})
	c := serve(t, f, fake.Kind(fake.Options{})).connect()
	f.Arm(func(e *fake.Errors) {
		e.Create.Hold = func(ctx context.Context) error {
			backend.Progress(ctx, "copied 1 of 2")
			backend.Progress(ctx, "copied 2 of 2")
			return nil
		}
	})
	var said []string
	ctx := backend.WithProgress(t.Context(), func(what string) { said = append(said, what) })
	v, err := c.Create(ctx, backend.Request{ID: "v", Name: "v", Size: mib})
	if err != nil || v.ID != "v" {
		t.Fatal(v, err)
	}
	if want := []string{"copied 1 of 2", "copied 2 of 2"}; !slices.Equal(said, want) {
		t.Errorf("reported %q, want %q", said, want)
	}
}

// TestDeadlinesAndCancellationsCross: the served backend sees both.
func TestDeadlinesAndCancellationsCross(t *testing.T) {
	f := fake.New(fake.Options{})
	c := serve(t, f, fake.Kind(fake.Options{})).connect()
	var deadline time.Time
	ended := make(chan error, 1)
	f.Arm(func(e *fake.Errors) {
		e.Create.Hold = func(ctx context.Context) error {
			deadline, _ = ctx.Deadline()
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	time.AfterFunc(100*time.Millisecond, cancel)
	_, err := c.Create(ctx, backend.Request{ID: "v", Name: "v", Size: mib})
	refused(t, err, errs.Aborted)
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the served backend goes on for a caller who is gone")
	}
	if left := time.Until(deadline); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the deadline became %v from now", left)
	}
}

// TestOneCallAtATime: two processes call for one volume, which a backend is promised not to see.
func TestOneCallAtATime(t *testing.T) {
	f := fake.New(fake.Options{})
	s := serve(t, f, fake.Kind(fake.Options{}))
	first, second := s.connect(), s.connect()
	begun, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release) // the server waits for its calls
	f.Arm(func(e *fake.Errors) {
		e.Create.Hold = func(context.Context) error { close(begun); <-goOn; return nil }
	})
	created := make(chan error, 1)
	go func() {
		_, err := first.Create(t.Context(), backend.Request{ID: "v", Name: "v", Size: mib})
		created <- err
	}()
	<-begun
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	refused(t, second.Delete(short, "v"), errs.Aborted)
	if f.Calls("Delete") != 0 {
		t.Error("the backend was called for a volume that is being made")
	}
	release()
	if err := <-created; err != nil {
		t.Error(err)
	}
	if err := second.Delete(t.Context(), "v"); err != nil {
		t.Error(err)
	}
}

// TestServerThatIsNotThere: nothing is "not found" because nobody answered, and the client finds the
// server that comes.
func TestServerThatIsNotThere(t *testing.T) {
	f := fake.New(fake.Options{})
	s := serve(t, f, fake.Kind(fake.Options{}))
	c := s.connect()
	if _, err := c.Create(t.Context(), backend.Request{ID: "v", Name: "v", Size: mib}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.stop()
		_, err := c.Get(t.Context(), "absent")
		refused(t, err, errs.Unavailable, "pool p at "+s.socket, "does dozo lvmd run?")
		refused(t, c.Delete(t.Context(), "v"), errs.Unavailable)
		for _, err = range c.List(t.Context()) {
		}
		refused(t, err, errs.Unavailable)
		s.start()
		answers(t, c)
		if _, err := c.Get(t.Context(), "v"); err != nil {
			t.Error(err)
		}
		_, err = c.Get(t.Context(), "absent")
		refused(t, err, errs.NotFound)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := c.Get(t.Context(), "v")
	refused(t, err, errs.Unavailable)
}

// TestServerIsStoppedInACall: the call does not hang, and what came of it is not known.
func TestServerIsStoppedInACall(t *testing.T) {
	f := fake.New(fake.Options{})
	s := serve(t, f, fake.Kind(fake.Options{}))
	c := s.connect()
	begun := make(chan struct{})
	f.Arm(func(e *fake.Errors) {
		e.Create.Hold = func(ctx context.Context) error { close(begun); <-ctx.Done(); return ctx.Err() }
	})
	go func() { <-begun; s.stop() }()
	_, err := c.Create(t.Context(), backend.Request{ID: "v", Name: "v", Size: mib})
	if !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.Aborted) {
		t.Errorf("got %v (%v), want one that says to call again", err, errs.KindOf(err))
	}
}

func TestConnectRefuses(t *testing.T) {
	s := serve(t, fake.New(fake.Options{}), fake.Kind(fake.Options{}))
	dial := func(d wire.Dial) error {
		d.Patience = 200 * time.Millisecond
		c, err := wire.Connect(t.Context(), d)
		if err == nil {
			c.Close()
		}
		return err
	}
	refused(t, dial(wire.Dial{Socket: s.socket, Pool: "other"}), errs.Invalid, "other", "add it to the pools in /etc/pools.yaml on node n1")
	refused(t, dial(wire.Dial{Socket: s.socket + "x", Pool: "p"}), errs.Unavailable, "does dozo lvmd run?", s.socket+"x")
	older := olderServer(t, &oldPools{})
	refused(t, dial(wire.Dial{Socket: older, Pool: "p", Version: "v2.0.0"}), errs.Unsupported, "v0.1.0", "v2.0.0", "update it")
	refused(t, dial(wire.Dial{Socket: olderServer(t, nil), Pool: "p"}), errs.Unsupported, "older")
}

// oldPools is a server from before the first version of the protocol.
type oldPools struct{}

func (oldPools) Hello(context.Context, *wirepb.Pool) (*wirepb.HelloAnswer, error) {
	return &wirepb.HelloAnswer{Version: "v0.1.0", Kind: &wirepb.Kind{Name: "k", Granularity: 1, MaxSize: 1}}, nil
}

func olderServer(t *testing.T, p wirepb.PoolsServer) (path string) {
	t.Helper()
	g := grpc.NewServer()
	if p != nil {
		wirepb.RegisterPoolsServer(g, p)
	}
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return path
}

// thisVersion is a server that says it is of today and has no service but Hello.
type thisVersion struct{}

func (thisVersion) Hello(context.Context, *wirepb.Pool) (*wirepb.HelloAnswer, error) {
	return &wirepb.HelloAnswer{
		Version: "v0.9.0", Protocol: wire.Protocol, Kind: &wirepb.Kind{Name: "k", Granularity: 1, MaxSize: 1}, Mask: &wirepb.Mask{},
	}, nil
}

// TestOlderServer lacks methods that this client knows.
func TestOlderServer(t *testing.T) {
	c, err := wire.Connect(t.Context(), wire.Dial{Socket: olderServer(t, thisVersion{}), Pool: "p", Version: "v1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Expand(t.Context(), "v", mib)
	refused(t, err, errs.Unsupported, "v0.9.0", "v1.0.0", "update it", "Expander")
	_, err = c.Get(t.Context(), "v")
	refused(t, err, errs.Unsupported)
	for _, err = range c.List(t.Context()) {
	}
	refused(t, err, errs.Unsupported)
	if caps := pool.Find(c); caps != (pool.Capabilities{}) {
		t.Errorf("capabilities of a server that named none: %+v", caps)
	}
}

// TestServerThatCanLess: the server is replaced by one of another pool, which the client's mask does
// not know. Above all no copy may turn out blank.
func TestServerThatCanLess(t *testing.T) {
	f := fake.New(fake.Options{})
	s := serve(t, f, fake.Kind(fake.Options{}))
	c := s.connect()
	if _, err := c.Create(t.Context(), backend.Request{ID: "v", Name: "v", Size: mib}); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.served.Backend = fake.Basic(f)
	s.start()
	answers(t, c)
	_, err := c.Create(t.Context(), backend.Request{ID: "copy", Name: "copy", Size: mib, Source: backend.Source{Volume: "v"}})
	refused(t, err, errs.Unsupported, "copies")
	_, err = c.Expand(t.Context(), "v", 2*mib)
	refused(t, err, errs.Unsupported, "expand")
	_, err = c.Activate(t.Context(), "v")
	refused(t, err, errs.Unsupported)
	_, err = c.Attach(t.Context(), "v", backend.AttachRequest{Node: "n1"})
	refused(t, err, errs.Unsupported, "attach")
	refused(t, c.Detach(t.Context(), "v", ""), errs.Unsupported, "attach")
	for _, err = range c.ListSnapshots(t.Context()) {
	}
	refused(t, err, errs.Unsupported)
	refused(t, c.SetMark(t.Context(), "v", backend.Mark{}), errs.Unsupported)
	if _, err := f.Get(t.Context(), "copy"); !errs.Is(err, errs.NotFound) {
		t.Errorf("the copy: %v", err)
	}
}

// TestNewerClient: a field that this server would overlook.
func TestNewerClient(t *testing.T) {
	s := serve(t, fake.New(fake.Options{}), fake.Kind(fake.Options{}))
	conn := dialRaw(t, s.socket)
	for _, said := range []string{strconv.Itoa(wire.Protocol + 1), "x"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "dozo-protocol", said)
		_, err := wirepb.NewBackendClient(conn).Get(ctx, &wirepb.Target{Pool: "p", Id: "v"})
		if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "update the one that serves") {
			t.Error(err)
		}
		stream, err := wirepb.NewBackendClient(conn).Delete(ctx, &wirepb.Target{Pool: "p", Id: "v"})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unimplemented {
			t.Error(err)
		}
	}
}

func TestHealth(t *testing.T) {
	s := serve(t, fake.New(fake.Options{}), fake.Kind(fake.Options{}))
	answer, err := healthpb.NewHealthClient(dialRaw(t, s.socket)).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Error(answer, err)
	}
}

func TestSocketIsPrivate(t *testing.T) {
	s := serve(t, fake.New(fake.Options{}), fake.Kind(fake.Options{}))
	for path, want := range map[string]os.FileMode{s.socket: 0o600, filepath.Dir(s.socket): 0o700} {
		there, err := os.Stat(path)
		if err != nil || there.Mode().Perm() != want {
			t.Errorf("%s has mode %v (%v), want %v", path, there.Mode(), err, want)
		}
	}
}

func dialRaw(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
