package synology

import (
	"reflect"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
)

func TestMarks(t *testing.T) {
	full := mark{Format: markFormat, Cluster: "c", Pool: "p", ID: "a", Name: `<ä "quoted"> & 🧀`, Source: backend.Source{Snapshot: "s"}, Size: 1 << 40, Quota: noQuota, Sync: true,
		Allow: []string{"10.0.0.0/8"}, Admitted: map[string]admitted{"n1": {Addresses: []string{"10.0.0.1"}, ReadOnly: true}}, From: "old"}
	for _, m := range []mark{full, {Format: markFormat, Pool: "p", ID: "a", Name: "a"}} {
		text := m.text()
		if got, ok := parseMark(text); !ok || !reflect.DeepEqual(got, m) || strings.ContainsAny(text, "\n") {
			t.Errorf("%s\nis read as %+v, %v", text, got, ok)
		}
	}
	// What a cluster usually writes is short, since how much a description holds is not known.
	if text := (mark{Pool: "nas", ID: "pvc-4f1c0d3a-11e2-4c59-9a07-7a9121bc0001", Name: "pvc-4f1c0d3a-11e2-4c59-9a07-7a9121bc0001"}).text(); len(text) > 80 {
		t.Errorf("%d characters: %s", len(text), text)
	}
	for _, none := range []string{"", "by hand", "{}", `{"dozo":2,"pool":"p","id":"a"}`, `{"dozo":1,"pool":"p","id":"A"}`, `{"dozo":1,"pool":"p"}`, `["dozo"]`, `{"dozo":1,"pool":"p","id":"a"`, "k8s: ns/pvc"} {
		if m, ok := parseMark(none); ok {
			t.Errorf("%s is read as %+v", none, m)
		}
	}
}

// FuzzMark: what is read is written so that it is read the same.
func FuzzMark(f *testing.F) {
	f.Add(`{"dozo":1,"pool":"p","id":"a","nodes":{"n":{"ip":["10.0.0.1"]}}}`)
	f.Add("by hand")
	f.Fuzz(func(t *testing.T, text string) {
		m, ok := parseMark(text)
		if !ok {
			return
		}
		if again, ok := parseMark(m.text()); !ok || again.text() != m.text() {
			t.Errorf("%q is %+v, and then %+v", text, m, again)
		}
	})
}

// TestNames: all fit DSM, none is another's, and who a target is for is read from it.
func TestNames(t *testing.T) {
	long := strings.Repeat("x", backend.MaxIDLength-1)
	seen := map[string]string{}
	take := func(name, what string) {
		t.Helper()
		if other := seen[name]; other != "" && other != what {
			t.Errorf("%s and %s are both called %s", other, what, name)
		}
		seen[name] = what
	}
	for _, cluster := range []string{"", "c1", "c2"} {
		for _, pool := range []string{"p", "p-q", long} {
			b := &Backend{pool: pool, opts: options{cluster: cluster}}
			for _, id := range []backend.ID{"a", "a-b", backend.ID(long + "1"), backend.ID(long + "2")} {
				lun, share := b.lunName(id), b.shareName(id)
				take(lun, "LUN "+pool+"/"+string(id))
				take(share, "share "+pool+"/"+string(id))
				if err := dsm.CheckLUNName(lun); err != nil {
					t.Error(err)
				}
				if err := dsm.CheckShareName(share); err != nil || strings.ToLower(share) != share {
					t.Errorf("share %s: %v", share, err)
				}
				for _, node := range []string{"n1", "n1.example.org", strings.Repeat("n.", 120) + "n"} {
					for _, name := range b.targetNames(node, id) {
						what := "target " + cluster + "/" + pool + "/" + node
						if name == b.targetName(node, id) {
							what += "/" + string(id)
						}
						take(name, what)
						for _, c := range []string{"", "c1", "c2"} {
							other := &Backend{pool: pool, opts: options{cluster: c}}
							if other.isOurTarget(name) != (c == cluster) {
								t.Errorf("target %s of cluster %q is one of %q: %v", name, cluster, c, other.isOurTarget(name))
							}
						}
						worn := b.wornName(dsm.Target{Name: name, ID: 1234567})
						if baseName(worn) != name || !b.isOurTarget(worn) || b.nodeOf(worn) != b.nodeOf(name) || baseName(name) != name || dsm.CheckLUNName(worn) != nil {
							t.Errorf("worn, target %s is called %s, and its base is %s", name, worn, baseName(worn))
						}
						said := b.nodeOf(name)
						if said != "node "+node && said != "target "+name {
							t.Errorf("target %s is said to be of %s", name, said)
						}
						access := backend.ISCSIAccess(dsm.WWID("fd993a34-1111-4222-8333-444455556666"), &backend.ISCSITarget{IQN: newIQN(name), Portals: []string{"nas:3260"}})
						if err := access.Check(); err != nil || len(newIQN(name)) > 128 || dsm.CheckLUNName(name) != nil {
							t.Errorf("target %s: %v, %d characters", name, err, len(newIQN(name)))
						}
					}
				}
			}
		}
	}
	for _, theirs := range []string{"dozo.nas2.n1", "theirs", "dozo.nas", "Target-1", "dozo.nasx"} {
		if (&Backend{pool: "nas"}).isOurTarget(theirs) {
			t.Errorf("%s is taken for ours", theirs)
		}
	}
}
