package pool_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// sizes makes the kind's units 4 MiB, from 8 MiB to max.
func sizes(max int64) func(*backend.Kind) {
	return func(k *backend.Kind) { k.Granularity, k.MinSize, k.MaxSize = 4*mib, 8*mib, max }
}

func TestSizes(t *testing.T) {
	for name, c := range map[string]struct {
		max, required, limit int64 // max 0: 16 GiB
		want                 int64 // 0: errs.OutOfRange that names field
		field                string
	}{
		"nothing said":                   {want: pool.DefaultSize},
		"one byte":                       {required: 1, want: 8 * mib},
		"a unit":                         {required: 12 * mib, want: 12 * mib},
		"a byte more than a unit":        {required: 12*mib + 1, want: 16 * mib},
		"within the limit":               {required: 9 * mib, limit: 12 * mib, want: 12 * mib},
		"exactly":                        {required: 12 * mib, limit: 12 * mib, want: 12 * mib},
		"no unit within the limit":       {required: 9 * mib, limit: 10 * mib, field: "limit_bytes: 10485760 leaves no possible size; the smallest here is 12582912"},
		"limit below the least":          {limit: 7 * mib, field: "limit_bytes"},
		"only a limit":                   {limit: 100 * mib, want: 100 * mib},
		"only a limit that is no unit":   {limit: 100*mib + 1, want: 100 * mib},
		"only a large limit":             {limit: 2 * gib, want: pool.DefaultSize},
		"limit below required":           {required: 3 * mib, limit: 2 * mib, field: "limit_bytes"},
		"negative":                       {required: -1, field: "required_bytes"},
		"negative limit":                 {limit: -1, field: "limit_bytes"},
		"the largest":                    {required: 16 * gib, want: 16 * gib},
		"larger":                         {required: 16*gib + 1, field: "required_bytes: 17179869185 is more than the 17179869184"},
		"largest is no unit":             {max: 10 * mib, required: 9 * mib, field: "required_bytes: 9437184 is more than the 8388608"},
		"largest below the default":      {max: 100 * mib, want: 100 * mib},
		"as large as a number can be":    {max: math.MaxInt64, required: math.MaxInt64, field: "required_bytes"},
		"a limit as large as can be":     {required: 1, limit: math.MaxInt64, want: 8 * mib},
		"required as large as can be":    {required: math.MaxInt64, field: "required_bytes"},
		"negative as large as can be":    {required: math.MinInt64, field: "required_bytes"},
		"both as large as can be":        {required: math.MaxInt64, limit: math.MaxInt64, field: "required_bytes"},
		"largest has no end, a gigabyte": {max: math.MaxInt64, required: gib, want: gib},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			if c.max == 0 {
				c.max = 16 * gib
			}
			b := newBed(fake.Options{}, sizes(c.max))
			v, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Required: c.required, Limit: c.limit})
			if c.want == 0 {
				refused(t, err, errs.OutOfRange, "capacity_range.", c.field)
				if b.fake.Calls("Create") > 0 {
					t.Error("the backend was asked for a size that cannot be")
				}
				return
			}
			if err != nil || v.Size != c.want {
				t.Errorf("got %d, %v, want %d", v.Size, err, c.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("n", pool.MaxNameLength)
	for _, good := range []string{"pvc-1", "With Spaces", "käse", long, "a/b", strings.Repeat("ä", pool.MaxNameLength/2)} {
		b := newBed(fake.Options{})
		v, err := b.Create(t.Context(), pool.VolumeRequest{Name: good})
		if err != nil || v.Name != good || v.ID != backend.IDFor(good) {
			t.Errorf("%q: created %s, named %q, %v", good, v.ID, v.Name, err)
		}
	}
	b := newBed(fake.Options{})
	for bad, word := range map[string]string{
		"": "missing", long + "n": "129 bytes", "a\nb": "control", "a\x00": "control", "\x7f": "control", "\u0085": "control", "\xff": "UTF-8",
	} {
		_, err := b.Create(t.Context(), pool.VolumeRequest{Name: bad})
		refused(t, err, errs.Invalid, "name: ", word)
		_, err = b.Snapshot(t.Context(), bad, "v")
		refused(t, err, errs.Invalid, "name: ", word)
		refused(t, b.mayGroup(t.Context(), bad, "v"), errs.Invalid, "name: ", word)
	}
	if n := b.fake.Calls("Create") + b.fake.Calls("CreateSnapshot"); n > 0 {
		t.Errorf("the backend was called %d times", n)
	}
}

func TestParameters(t *testing.T) {
	for _, c := range []struct {
		given map[string]string
		want  string
		words []string
	}{
		{nil, "red", nil},
		{map[string]string{"colour": "blue"}, "blue", nil},
		{map[string]string{"colour": "green"}, "", []string{`parameters["colour"]`, "green", "red or blue"}},
		{map[string]string{"color": "red"}, "", []string{`parameters["color"]`, "known are: colour"}},
	} {
		got := map[string]string{}
		b := newMaskedBed(func(f *fake.Backend) backend.Backend { return spy{f, func(r backend.Request) { got = r.Parameters }} }, fake.Options{})
		_, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Parameters: c.given})
		if c.words != nil {
			refused(t, err, errs.Invalid, c.words...)
			continue
		}
		if err != nil || got["colour"] != c.want {
			t.Errorf("%v: the backend got %v, %v", c.given, got, err)
		}
	}
}

// spy shows the requests that reach a backend.
type spy struct {
	*fake.Backend
	see func(backend.Request)
}

func (s spy) Create(ctx context.Context, r backend.Request) (backend.Volume, error) {
	s.see(r)
	return s.Backend.Create(ctx, r)
}

func TestNodes(t *testing.T) {
	bound := newBed(fake.Options{Node: "n1", NodeBound: true})
	anywhere := newBed(fake.Options{Node: "n1"})
	ask := func(b *bed, nodes ...string) error {
		_, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Nodes: nodes})
		return err
	}
	refused(t, ask(bound, "n2", "n3"), errs.NoSpace, "accessibility_requirements", "n1", "[n2 n3]")
	for _, err := range []error{ask(bound), ask(bound, "n2", "n1"), ask(anywhere, "n2")} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		b    *bed
		node string
		some bool
	}{{bound, "", true}, {bound, "n1", true}, {bound, "n2", false}, {anywhere, "n2", true}} {
		got, err := c.b.Capacity(t.Context(), c.node)
		if err != nil || (got.Available > 0) != c.some {
			t.Errorf("on %q: %+v, %v", c.node, got, err)
		}
	}
}

// TestCapacity: what is said can be asked for.
func TestCapacity(t *testing.T) {
	for _, c := range []struct{ total, max, want int64 }{
		{1 * gib, 16 * gib, 1 * gib},
		{1*gib + 3*mib, 16 * gib, 1 * gib},
		{1 * gib, 510 * mib, 508 * mib},
		{7 * mib, 16 * gib, 0}, // less than the least
	} {
		b := newBed(fake.Options{Total: c.total}, sizes(c.max))
		got, err := b.Capacity(t.Context(), "")
		if err != nil || got.MaxVolume != c.want || got.Total != c.total {
			t.Errorf("%+v, %v; want a largest volume of %d", got, err, c.want)
		}
		if c.want == 0 {
			continue
		}
		if _, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Required: got.MaxVolume}); err != nil {
			t.Errorf("the largest volume cannot be made: %v", err)
		}
	}
}

func TestSources(t *testing.T) {
	for name, c := range map[string]struct {
		source          backend.Source
		required, limit int64
		want            int64 // 0: an error
		kind            errs.Kind
		word            string
	}{
		"snapshot, size left open":     {source: backend.Source{Snapshot: "s"}, want: 3 * mib},
		"volume, size left open":       {source: backend.Source{Volume: "v"}, want: 3 * mib},
		"open within the limit":        {source: backend.Source{Volume: "v"}, limit: 3 * mib, want: 3 * mib},
		"larger":                       {source: backend.Source{Snapshot: "s"}, required: 5 * mib, want: 5 * mib},
		"smaller":                      {source: backend.Source{Snapshot: "s"}, required: 2 * mib, kind: errs.OutOfRange, word: "2097152 is less than the source's 3145728"},
		"a byte smaller is rounded up": {source: backend.Source{Snapshot: "s"}, required: 3*mib - 1, want: 3 * mib},
		"the limit is smaller":         {source: backend.Source{Volume: "v"}, limit: 2 * mib, kind: errs.OutOfRange, word: "limit_bytes"},
		"absent snapshot":              {source: backend.Source{Snapshot: "absent"}, kind: errs.NotFound, word: "snapshot absent"},
		"absent volume":                {source: backend.Source{Volume: "absent"}, kind: errs.NotFound, word: "volume absent"},
		"a snapshot is no volume":      {source: backend.Source{Volume: "s"}, kind: errs.NotFound, word: "volume s"},
		"both":                         {source: backend.Source{Volume: "v", Snapshot: "s"}, kind: errs.Invalid, word: "both"},
		"itself":                       {source: backend.Source{Volume: "copy"}, kind: errs.NotFound, word: "volume copy"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			b := newBed(fake.Options{})
			b.withSource(t)
			v, err := b.Create(t.Context(), pool.VolumeRequest{Name: "copy", Required: c.required, Limit: c.limit, Source: c.source})
			if c.want == 0 {
				refused(t, err, c.kind, c.word)
				return
			}
			if err != nil || v.Size != c.want || v.Source != c.source {
				t.Errorf("%+v, %v; want %d bytes", v, err, c.want)
			}
		})
	}
}

// withSource makes a volume v of 3 MiB with a snapshot s.
func (b *bed) withSource(t *testing.T) {
	t.Helper()
	if _, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Required: 3 * mib}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Snapshot(t.Context(), "s", "v"); err != nil {
		t.Fatal(err)
	}
}

// TestRetryOfACopy: whoever did not hear the answer calls again, when the source is perhaps gone.
func TestRetryOfACopy(t *testing.T) {
	for name, change := range map[string]func(*bed, context.Context) error{
		"source is as it was": func(*bed, context.Context) error { return nil },
		"source grew":         func(b *bed, ctx context.Context) error { _, err := b.Expand(ctx, "v", 2*gib, 0); return err },
		"source is gone": func(b *bed, ctx context.Context) error {
			if err := b.DeleteSnapshot(ctx, "s"); err != nil {
				return err
			}
			return b.Delete(ctx, "v")
		},
		"copy grew": func(b *bed, ctx context.Context) error { _, err := b.Expand(ctx, "copy", 2*gib, 0); return err },
	} {
		for _, source := range []backend.Source{{Snapshot: "s"}, {Volume: "v"}} {
			for _, required := range []int64{0, 3 * mib} {
				b, ctx := newBed(fake.Options{}), t.Context()
				b.withSource(t)
				r := pool.VolumeRequest{Name: "copy", Required: required, Source: source}
				if _, err := b.Create(ctx, r); err != nil {
					t.Fatal(err)
				}
				if err := change(b, ctx); err != nil {
					t.Fatal(err)
				}
				want, err := b.Get(ctx, "copy")
				if err != nil {
					t.Fatal(err)
				}
				got, err := b.Create(ctx, r)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%s, %+v, %d: %v\n%s", name, source, required, err, diff)
				}
			}
		}
	}
}

// TestUnaskableSource: a source that cannot be looked at is not a source that is gone.
func TestUnaskableSource(t *testing.T) {
	b := newBed(fake.Options{})
	b.withSource(t)
	for _, arm := range []func(*fake.Errors, error){
		func(e *fake.Errors, err error) { e.Get.Before = err },
		func(e *fake.Errors, err error) { e.GetSnapshot.Before = err },
	} {
		b.fake.Arm(func(e *fake.Errors) { arm(e, errs.E(errs.Unavailable, "no answer")) })
		refused(t, b.mayCreate(t.Context(), "copy", backend.Source{Snapshot: "s"}), errs.Unavailable, "no answer")
	}
	b.fake.Arm(func(e *fake.Errors) { e.CloneSource.Before = errs.E(errs.Unsupported, "not this one") })
	refused(t, b.mayCreate(t.Context(), "copy", backend.Source{Volume: "v"}), errs.Unsupported, "not this one")
	if n := b.fake.Calls("Create"); n != 1 {
		t.Errorf("the backend made %d volumes, want the source only", n)
	}
}

func TestExpand(t *testing.T) {
	for name, c := range map[string]struct {
		required, limit int64
		want            int64 // of a volume of 16 MiB; 0: an error
		kind            errs.Kind
		calls           int // of the backend
	}{
		"larger":                  {required: 20 * mib, want: 20 * mib, calls: 1},
		"rounded":                 {required: 20*mib + 1, want: 24 * mib, calls: 1},
		"as it is":                {required: 16 * mib, want: 16 * mib},
		"smaller":                 {required: 8 * mib, want: 16 * mib},
		"smaller, with a limit":   {required: 8 * mib, limit: 12 * mib, kind: errs.OutOfRange},
		"only a limit":            {limit: 64 * mib, want: 16 * mib},
		"only a limit below":      {limit: 12 * mib, kind: errs.OutOfRange},
		"nothing":                 {kind: errs.Invalid},
		"too large":               {required: 17 * gib, kind: errs.OutOfRange},
		"limit below required":    {required: 20 * mib, limit: 18 * mib, kind: errs.OutOfRange},
		"no unit below the limit": {required: 17 * mib, limit: 18 * mib, kind: errs.OutOfRange},
		"more than there is":      {required: 2 * gib, kind: errs.NoSpace, calls: 1},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			b := newBed(fake.Options{Total: gib}, sizes(16*gib))
			if _, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Required: 16 * mib}); err != nil {
				t.Fatal(err)
			}
			v, err := b.Expand(t.Context(), "v", c.required, c.limit)
			if c.want == 0 {
				refused(t, err, c.kind)
			} else if err != nil || v.Size != c.want {
				t.Errorf("%d bytes, %v; want %d", v.Size, err, c.want)
			}
			if n := b.fake.Calls("Expand"); n != c.calls {
				t.Errorf("the backend was called %d times, want %d", n, c.calls)
			}
		})
	}
	_, err := newBed(fake.Options{}).Expand(t.Context(), "absent", gib, 0)
	refused(t, err, errs.NotFound, "absent")
}

// TestSourceOnAnotherNode is what the scheduler has to be told so that it chooses another node.
func TestSourceOnAnotherNode(t *testing.T) {
	b := newBed(fake.Options{Node: "n1", NodeBound: true})
	r := pool.VolumeRequest{Name: "v", Required: gib, Source: backend.Source{Snapshot: "s"}}
	_, err := b.Create(t.Context(), r)
	refused(t, err, errs.NotFound)
	r.Nodes = []string{"n1"}
	_, err = b.Create(t.Context(), r)
	refused(t, err, errs.NoSpace, "volume_content_source", "n1")
}
