package csi

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/internal/socket"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// instant is when snapshots are taken by the fakes of a bed.
var instant = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// bed is a server over fakes and what it takes to call it, through a real socket.
type bed struct {
	csi.IdentityClient
	csi.ControllerClient
	csi.GroupControllerClient
	csi.NodeClient
	fakes   map[string]*fake.Backend
	machine *fakeMachine
	log     *syncBuffer
	conn    *grpc.ClientConn
}

// member is one pool of a bed.
type member struct {
	name   string
	bound  bool                                // volumes are on node-1 only
	out    bool                                // volumes are attached
	mask   func(*fake.Backend) backend.Backend // nil: it can do all
	params func([]backend.Parameter) []backend.Parameter
	total  int64
}

// newBed starts a server over pools; without any, over one pool "main" on node-1.
func newBed(t *testing.T, members ...member) *bed {
	t.Helper()
	if len(members) == 0 {
		members = []member{{name: "main", bound: true}}
	}
	b := &bed{fakes: map[string]*fake.Backend{}, machine: newFakeMachine(), log: &syncBuffer{}}
	set := b.pools(t, members)
	log := slog.New(slog.NewJSONHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := newServer(Options{DriverName: "fake.dozo.dev", Version: "v1.2.3", Pools: set, Controller: true, Nodes: knownNodes, Log: log}, b.machine)
	if err != nil {
		t.Fatal(err)
	}
	b.conn = serveAndDial(t, s)
	b.IdentityClient, b.ControllerClient = csi.NewIdentityClient(b.conn), csi.NewControllerClient(b.conn)
	b.GroupControllerClient, b.NodeClient = csi.NewGroupControllerClient(b.conn), csi.NewNodeClient(b.conn)
	return b
}

func (b *bed) pools(t *testing.T, members []member) *pool.Set {
	t.Helper()
	var all []*pool.Pool
	for _, m := range members {
		f := fake.New(fake.Options{Pool: m.name, NodeBound: m.bound, Outside: m.out, Total: m.total, Now: func() time.Time { return instant }})
		b.fakes[m.name] = f
		var masked backend.Backend = f
		if m.mask != nil {
			masked = m.mask(f)
		}
		kind := fake.Kind(fake.Options{NodeBound: m.bound, Outside: m.out})
		if m.params != nil {
			kind.Parameters = m.params(kind.Parameters)
		}
		all = append(all, pool.New(m.name, kind, masked, pool.Options{Node: "node-1", Log: slog.New(slog.DiscardHandler)}))
	}
	set, err := pool.NewSet(all...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// knownNodes are those of a bed, whose addresses are for documentation (RFC 5737).
func knownNodes(_ context.Context, id string) ([]string, error) {
	switch id {
	case "node-1", "node-2", "node-3":
		return []string{"192.0.2." + strings.TrimPrefix(id, "node-")}, nil
	case "node-lost":
		return nil, errs.E(errs.Unavailable, "the API server does not answer")
	}
	return nil, errs.E(errs.NotFound, "%q: there is no such node", id)
}

func serveAndDial(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "csi.sock")
	l, err := socket.Listen("unix://"+path, os.Getuid())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, l) }()
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return conn
}

// leftovers is everything on the storage of all pools.
func (b *bed) leftovers() []string {
	var all []string
	for name, f := range b.fakes {
		for _, l := range f.Leftovers() {
			all = append(all, name+" "+l)
		}
	}
	return all
}

// volume makes a volume of 64 MiB and returns its handle.
func (b *bed) volume(t *testing.T, name string) string {
	t.Helper()
	return b.volumeIn(t, name, nil)
}

func (b *bed) volumeIn(t *testing.T, name string, parameters map[string]string) string {
	t.Helper()
	r := createRequest(name)
	r.Parameters = parameters
	made, err := b.CreateVolume(t.Context(), r)
	if err != nil {
		t.Fatalf("CreateVolume %s: %v", name, err)
	}
	return made.GetVolume().GetVolumeId()
}

func (b *bed) snapshot(t *testing.T, name, volume string) string {
	t.Helper()
	s, err := b.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume})
	if err != nil {
		t.Fatalf("CreateSnapshot %s: %v", name, err)
	}
	return s.GetSnapshot().GetSnapshotId()
}

func createRequest(name string) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name:               name,
		VolumeCapabilities: []*csi.VolumeCapability{mountOnce()},
		CapacityRange:      &csi.CapacityRange{RequiredBytes: 64 * mib},
	}
}

// mountOnce is the most usual capability.
func mountOnce() *csi.VolumeCapability {
	return capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER)
}

func capability(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "ext4"}},
	}
}

func block(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
	}
}

func onNode(names ...string) []*csi.Topology { return topologies(names) }

// wantCode checks an error's code, and that its message has all of the words.
func wantCode(t *testing.T, err error, code codes.Code, words ...string) {
	t.Helper()
	if got := status.Code(err); got != code {
		t.Errorf("code %v, want %v: %v", got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(status.Convert(err).Message(), w) {
			t.Errorf("message %q lacks %q", status.Convert(err).Message(), w)
		}
	}
}

func wantOK(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("unexpected error: %v", err)
	}
}

func wantProto(t *testing.T, got, want proto.Message) {
	t.Helper()
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func want[T any](t *testing.T, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// syncBuffer is a log that a server writes and a test reads.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// fakeMachine is a node without mounts: it keeps what it was asked for.
type fakeMachine struct {
	name string

	mu       sync.Mutex
	staged   map[string]node.StageRequest
	targets  map[string]node.PublishRequest
	inline   map[string]node.InlineRequest
	undone   []string
	size     int64
	stats    node.Stats
	problems []backend.Problem
	fail     error // every call answers this
	panics   bool  // Stage does
}

func newFakeMachine() *fakeMachine {
	return &fakeMachine{name: "node-1", staged: map[string]node.StageRequest{}, targets: map[string]node.PublishRequest{},
		inline: map[string]node.InlineRequest{}, size: gib}
}

func (m *fakeMachine) Name() string { return m.name }

func (m *fakeMachine) Stage(_ context.Context, r node.StageRequest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.panics {
		panic("a defect")
	}
	if m.fail == nil {
		m.staged[r.Volume] = r
	}
	return m.fail
}

func (m *fakeMachine) Unstage(_ context.Context, volume, staging string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.undone = append(m.undone, "unstage "+volume+" "+staging)
	return m.fail
}

func (m *fakeMachine) Publish(_ context.Context, r node.PublishRequest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		m.targets[r.Volume] = r
	}
	return m.fail
}

func (m *fakeMachine) Unpublish(_ context.Context, volume, target string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.undone = append(m.undone, "unpublish "+volume+" "+target)
	return m.fail
}

func (m *fakeMachine) PublishInline(_ context.Context, r node.InlineRequest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		m.inline[r.Volume] = r
	}
	return m.fail
}

func (m *fakeMachine) UnpublishInline(_ context.Context, volume, target string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.undone = append(m.undone, "unpublish inline "+volume+" "+target)
	return m.fail
}

func (m *fakeMachine) Expand(_ context.Context, volume, _ string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size, m.find(volume)
}

func (m *fakeMachine) Stats(_ context.Context, volume, _ string) (node.Stats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats, m.find(volume)
}

func (m *fakeMachine) Health(_ context.Context, volume string) ([]backend.Problem, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.problems, m.find(volume)
}

func (m *fakeMachine) find(volume string) error {
	if _, ok := m.staged[volume]; !ok && m.fail == nil {
		return errs.E(errs.NotFound, "volume %s is not staged here", volume)
	}
	return m.fail
}

func wantUnconfirmed(t *testing.T, got *csi.ValidateVolumeCapabilitiesResponse, word string) {
	t.Helper()
	if got.GetConfirmed() != nil || !strings.Contains(got.GetMessage(), word) {
		t.Errorf("got %v, want no confirmation and a message with %q", got, word)
	}
}

// wantKind checks an error's kind, and that its message has a word.
func wantKind(t *testing.T, err error, kind errs.Kind, word string) {
	t.Helper()
	if !errs.Is(err, kind) || !strings.Contains(err.Error(), word) {
		t.Errorf("got %v, want a message with %q of kind %v", err, word, kind)
	}
}
