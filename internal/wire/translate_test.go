package wire

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

// over sends a message through its encoding.
func over[M proto.Message](t testing.TB, from, to M) M {
	t.Helper()
	data, err := proto.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(data, to); err != nil {
		t.Fatal(err)
	}
	return to
}

// whole fails the test if a field of a struct is zero: a value to be sent has all of them, so that
// one which is added and does not cross is found.
func whole(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	for i := range v.NumField() {
		name := path + "." + v.Type().Field(i).Name
		switch f := v.Field(i); {
		case f.IsZero():
			t.Errorf("%s is not set: does it cross?", name)
		case f.Kind() == reflect.Struct && f.Type() != reflect.TypeFor[time.Time]():
			whole(t, f, name)
		}
	}
}

func TestEveryFieldCrosses(t *testing.T) {
	// A source has one of two fields: see TestSources.
	source := backend.Source{Snapshot: "s", Volume: "v"}
	limits := backend.Limits{ReadBPS: 1, WriteBPS: 2, ReadIOPS: 3, WriteIOPS: 4}
	r := backend.Request{ID: "v", Name: "pvc 1", Size: 1, Limit: 2, Source: source, Parameters: map[string]string{"a": "b"}, Nodes: []string{"n1", "n2"},
		Limits: limits}
	v := backend.Volume{
		ID: "v", Name: "pvc 1", Size: 1, Source: source, Nodes: []string{"n1"}, Limits: limits,
		Access: backend.LocalAccess("p", "v").Encrypted(backend.Encryption{Type: backend.LUKS2, Discard: true}),
	}
	sr := backend.SnapshotRequest{ID: "s", Name: "snap", Source: "v", Group: "g"}
	s := backend.Snapshot{ID: "s", Name: "snap", Source: "v", Size: 1, Created: time.Now().UTC(), Group: "g", Nodes: []string{"n1"}}
	v.Access.ISCSI, v.Access.Mount = &backend.ISCSI{WWID: "w", Target: &backend.ISCSITarget{IQN: "i", Portals: []string{"p"}, LUN: 1, CHAP: true}},
		&backend.Mount{Type: "t", Source: "s", Options: []string{"o"}}
	ar := backend.AttachRequest{Node: "n1", Addresses: []string{"192.0.2.1", "2001:db8::1"}, Shared: true, ReadOnly: true, Block: true}
	m := backend.Mark{FS: "xfs", Done: true, Copied: true}
	c := backend.Capacity{Total: 3, Available: 2, MaxVolume: 1}
	p := []backend.Problem{{Severity: backend.Degraded, Reason: "R", Message: "m"}, {Severity: backend.Inaccessible}, {Severity: backend.DataLoss}}
	k := backend.Mask{Expander: true, Cloner: true, Snapshotter: true, GroupSnapshotter: true, Activator: true, Marker: true, Checker: true, Modifier: true, Gauger: true, Importer: true, Attacher: true}
	g := []backend.Gauge{{Name: "size_bytes", Help: "h", Part: "vg0", Value: 0.5}, {Name: "n", Part: "q", Value: 2}}
	for _, x := range []any{r, v, sr, s, m, c, p[0], k, g[0], ar} {
		whole(t, reflect.ValueOf(x), reflect.TypeOf(x).Name())
	}
	r.Source, v.Source = backend.Source{Volume: "w"}, backend.Source{Snapshot: "s"}
	same := func(want, got any, err error) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%v, -sent +arrived:\n%s", err, d)
		}
	}
	gotR, err := fromRequest(over(t, toRequest("p", r), &wirepb.CreateRequest{}))
	same(r, gotR, err)
	w, err := toVolume(v)
	if err != nil {
		t.Fatal(err)
	}
	gotV, err := fromVolume(over(t, w, &wirepb.Volume{}))
	same(v, gotV, err)
	gotSR, err := fromSnapshotRequest(over(t, toSnapshotRequest("p", sr), &wirepb.SnapshotRequest{}))
	same(sr, gotSR, err)
	gotS, err := fromSnapshot(over(t, toSnapshot(s), &wirepb.Snapshot{}))
	same(s, gotS, err)
	same(ar, fromAttachRequest(over(t, toAttachRequest("p", "v", ar), &wirepb.AttachRequest{})), nil)
	same(m, fromMark(over(t, toMark(m), &wirepb.Formatting{})), nil)
	same(c, fromCapacity(over(t, toCapacity(c), &wirepb.CapacityAnswer{})), nil)
	same(p, fromProblems(over(t, toProblems(p), &wirepb.CheckAnswer{})), nil)
	same(g, fromGauges(over(t, toGauges(g), &wirepb.GaugesAnswer{})), nil)
	same(k, fromMask(over(t, toMask(k), &wirepb.Mask{})), nil)
	for i := range reflect.TypeFor[backend.Mask]().NumField() { // one at a time, so that two are not swapped
		var one backend.Mask
		reflect.ValueOf(&one).Elem().Field(i).SetBool(true)
		same(one, fromMask(over(t, toMask(one), &wirepb.Mask{})), nil)
	}
}

// TestKindIsWhole: a fact that is added to a kind has to be added here, unless only the process that
// opens the pool needs it.
func TestKindIsWhole(t *testing.T) {
	k := backend.Kind{Name: "k", Granularity: 1, MinSize: 2, MaxSize: 3, NodeBound: true,
		Parameters: []backend.Parameter{{Name: "n", Help: "h", Default: "d", Required: true}}}
	got, err := fromKind(over(t, toKind(k), &wirepb.Kind{}))
	if d := cmp.Diff(k, got); d != "" || err != nil {
		t.Errorf("%v, -sent +arrived:\n%s", err, d)
	}
	stays := map[string]bool{"Options": true, "Open": true, "Mask": true, "Shares": true} // the mask of the one pool crosses beside it
	v := reflect.ValueOf(got)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() != stays[name] {
			t.Errorf("Kind.%s crosses: %v", name, !v.Field(i).IsZero())
		}
	}
	_, err = fromKind(&wirepb.Kind{Name: "k"})
	if !errs.Is(err, errs.Internal) {
		t.Errorf("a kind whose sizes cannot be rounded: %v", err)
	}
}

// TestSeverityOfTheFuture is not taken for nothing.
func TestSeverityOfTheFuture(t *testing.T) {
	for _, n := range []uint32{0, 4, 1 << 31} {
		got := fromProblems(&wirepb.CheckAnswer{Problems: []*wirepb.Problem{{Severity: n}}})
		if got[0].Severity != backend.DataLoss {
			t.Errorf("%d became %d", n, got[0].Severity)
		}
	}
}

// TestEveryKindOfErrorHasANumber: the numbers are those of the protocol and not of the constants.
func TestEveryKindOfErrorHasANumber(t *testing.T) {
	seen := map[wirepb.Error_Kind]bool{}
	for _, r := range renderings() {
		seen[r.wire] = true
		if kindOf(r.wire) != r.kind {
			t.Errorf("%v became %v", r.kind, kindOf(r.wire))
		}
	}
	if n := wirepb.Error_INTERNAL.Descriptor().Values().Len(); len(seen) != n || len(renderings()) != n {
		t.Errorf("%d kinds cross, the protocol has %d", len(seen), n)
	}
	if kindOf(99) != errs.Internal {
		t.Error("a kind of the future is not internal")
	}
}

// reread reads what is read with more care than protobuf takes: what arrives is refused, or can
// be sent again as it is.
func reread(t *testing.T, which byte, data []byte) {
	t.Helper()
	again := func(from, to proto.Message, reread func() error) {
		t.Helper()
		if over(t, from, to); reread() != nil {
			t.Errorf("%v was read once and not twice", from)
		}
	}
	switch which % 5 {
	case 0:
		var w wirepb.CreateRequest
		if proto.Unmarshal(data, &w) != nil {
			return
		}
		if r, err := fromRequest(&w); err == nil {
			to := &wirepb.CreateRequest{}
			again(toRequest("p", r), to, func() error { _, err := fromRequest(to); return err })
		}
	case 1:
		var w wirepb.Volume
		if proto.Unmarshal(data, &w) != nil {
			return
		}
		if v, err := fromVolume(&w); err == nil {
			from, err := toVolume(v)
			if err != nil {
				t.Fatal(err)
			}
			to := &wirepb.Volume{}
			again(from, to, func() error { _, err := fromVolume(to); return err })
		}
	case 2:
		var w wirepb.Snapshots
		if proto.Unmarshal(data, &w) != nil {
			return
		}
		all, err := fromSnapshots(&w)
		if err != nil {
			return
		}
		for _, s := range all {
			to := &wirepb.Snapshot{}
			again(toSnapshot(s), to, func() error { _, err := fromSnapshot(to); return err })
		}
	case 3:
		var w wirepb.SnapshotRequest
		if proto.Unmarshal(data, &w) != nil {
			return
		}
		if r, err := fromSnapshotRequest(&w); err == nil {
			to := &wirepb.SnapshotRequest{}
			again(toSnapshotRequest("p", r), to, func() error { _, err := fromSnapshotRequest(to); return err })
		}
	case 4:
		var w wirepb.HelloAnswer
		if proto.Unmarshal(data, &w) != nil {
			return
		}
		_ = fromMask(w.GetMask())
		if k, err := fromKind(w.GetKind()); err == nil {
			to := &wirepb.Kind{}
			again(toKind(k), to, func() error { _, err := fromKind(to); return err })
		}
	}
}

// FuzzArrives feeds the readers of what arrives.
func FuzzArrives(f *testing.F) {
	v, err := toVolume(backend.Volume{ID: "v", Name: "n", Size: 1, Nodes: []string{"n1"}, Access: backend.LocalAccess("p", "v")})
	if err != nil {
		f.Fatal(err)
	}
	for which, m := range []proto.Message{
		toRequest("p", backend.Request{ID: "v", Size: 1, Source: backend.Source{Volume: "w"}, Parameters: map[string]string{"a": "b"}}),
		v,
		&wirepb.Snapshots{Snapshots: []*wirepb.Snapshot{toSnapshot(backend.Snapshot{ID: "s", Source: "v", Created: time.Now()})}},
		toSnapshotRequest("p", backend.SnapshotRequest{ID: "s", Source: "v", Group: "g"}),
		&wirepb.HelloAnswer{Protocol: 1, Kind: &wirepb.Kind{Name: "k", Granularity: 1, MaxSize: 1}, Mask: &wirepb.Mask{Cloner: true}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(which), data)
	}
	f.Fuzz(reread)
}
