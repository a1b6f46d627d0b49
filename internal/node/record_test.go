package node

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
)

const oneRecord = `{"version":1,"volume":"v","boot":"b","access":{"version":1,"local":{"pool":"p","id":"v1"}},"staging":"/s","targets":[{"path":"/t","readOnly":true}]}`

// TestParseRecord has a record as version 1 wrote it, which every later build must read.
func TestParseRecord(t *testing.T) {
	got, err := parseRecord([]byte(oneRecord))
	want := &record{Version: 1, Volume: "v", Boot: "b", Access: backend.LocalAccess("p", "v1"), Staging: "/s", Targets: []target{{"/t", true}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for bad, kind := range map[string]errs.Kind{
		"":                                 errs.Internal,
		"{}":                               errs.Unavailable,
		oneRecord[:40]:                     errs.Internal,
		`{"version":4,"anything":"newer"}`: errs.Unavailable,
		strings.Replace(oneRecord, `"v"`, `""`, 1):            errs.Internal,
		strings.Replace(oneRecord, `"/s"`, `"s"`, 1):          errs.Internal,
		strings.Replace(oneRecord, `"local"`, `"remote"`, 1):  errs.Internal,
		strings.Replace(oneRecord, `"staging"`, `"stage"`, 1): errs.Internal,
	} {
		if r, err := parseRecord([]byte(bad)); !errs.Is(err, kind) || r != nil {
			t.Errorf("%s: %+v, %v", bad, r, err)
		}
	}
}

// TestDamagedRecord checks that what cannot be read is not taken for what is not there.
func TestDamagedRecord(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	b.stage(s)
	path := b.node.recordPath(s.Volume)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	errstest.Refused(t, "Stage", b.node.Stage(b.ctx, s), errs.Internal, "damaged", path)
	errstest.Refused(t, "Unstage", b.node.Unstage(b.ctx, s.Volume, s.Staging), errs.Internal, "damaged")
	errstest.Refused(t, "Publish", b.node.Publish(b.ctx, b.publishRequest(s, "x")), errs.Internal, "damaged")
	_, err = b.node.Health(b.ctx, s.Volume)
	errstest.Refused(t, "Health", err, errs.Internal, "damaged")
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	b.unstage(s)
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(oneRecord))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if (r == nil) == (err == nil) {
			t.Fatalf("%+v, %v", r, err)
		}
		if err != nil {
			return
		}
		if r.Volume == "" || r.Staging == "" || r.Staging[0] != '/' || r.Access.Check() != nil {
			t.Errorf("accepted %+v", r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parseRecord(again); err != nil || !reflect.DeepEqual(r, same) {
			t.Errorf("%+v is read back as %+v, %v", r, same, err)
		}
	})
}
