package lvm

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
)

// TestTagsAreForEver: these are in volume groups. If one changes its meaning, volumes are lost to their owners.
func TestTagsAreForEver(t *testing.T) {
	k := key{volumeSort, "main", "pvc-1"}
	for want, f := range map[string]facts{
		"dozo=volume/main/pvc-1": {name: "pvc-1"},
		"dozo=volume/main/pvc-1 dozo.name=a#20#22b#22 dozo.source=snapshot/s": {name: `a "b"`, source: backend.Source{Snapshot: "s"}},
		"dozo=volume/main/pvc-1 dozo.source=volume/w dozo.mark=ext4:done:copied": {
			name: "pvc-1", source: backend.Source{Volume: "w"}, mark: backend.Mark{FS: "ext4", Done: true, Copied: true}},
		"dozo=volume/main/pvc-1 dozo.limits=1048576:0:0:100": {name: "pvc-1", limits: backend.Limits{ReadBPS: 1 << 20, WriteIOPS: 100}},
		"dozo=volume/main/pvc-1 dozo.mark=:copied dozo.group=g dozo.created=1000000001 dozo.building=1 dozo.deleting=1": {
			name: "pvc-1", mark: backend.Mark{Copied: true}, group: "g", created: time.Unix(1, 1).UTC(), building: true, deleting: true},
	} {
		if got := strings.Join(f.tags(k), " "); got != want {
			t.Errorf("%+v:\n%s, want\n%s", f, got, want)
		}
		back := parseFacts(&metadata.LV{Tags: strings.Fields(want)})
		if diff := cmp.Diff(f, back, cmp.AllowUnexported(facts{})); diff != "" {
			t.Errorf("%s came back as another (-want +got):\n%s", want, diff)
		}
	}
}

func TestNames(t *testing.T) {
	long := backend.ID(strings.Repeat("x-", 31) + "x")
	for want, k := range map[string]key{
		"dozo.main.pvc-1":          {volumeSort, "main", "pvc-1"},
		"dozo.main.pvc-1.snapshot": {snapshotSort, "main", "pvc-1"},
		"dozo.snapshot.a":          {volumeSort, "snapshot", "a"},
	} {
		if got := k.lvName("vg"); got != want {
			t.Errorf("%v: %s, want %s", k, got, want)
		}
	}
	seen := map[string]key{}
	for _, pool := range []string{"p", strings.Repeat("p-", 31) + "p"} {
		for _, sort := range []string{volumeSort, snapshotSort, copySort} {
			for _, id := range []backend.ID{"a", long, long[:61] + "y", "a-snapshot"} {
				k := key{sort, pool, id}
				n := k.lvName(strings.Repeat("g", maxGroupName))
				if mapperLength(n)+maxGroupName+1 > maxMapperName || len(n) > 127 {
					t.Errorf("%v: %s is too long", k, n)
				}
				if other, ok := seen[n]; ok {
					t.Errorf("%v and %v have the name %s", k, other, n)
				}
				seen[n] = k
			}
		}
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "pvc-1", "a b", "#20", "käse 乾酪", "\xff", "#", "##2", "@:&!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := encode(s)
		if strings.Trim(e, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-/=#") != "" {
			t.Errorf("%q as %q: LVM takes no such tag", s, e)
		}
		if back := decode(e); back != s {
			t.Errorf("%q came back as %q", s, back)
		}
		_ = decode(s) // anything may be in a tag
	})
}

func TestParseKey(t *testing.T) {
	for tag, ok := range map[string]bool{
		"volume/main/pvc-1": true, "snapshot/main/s": true, "copy/p/x": true,
		"": false, "volume/main": false, "volume/main/A": false, "pool/main/x": false, "volume/a/b/c": false,
	} {
		k, got := parseKey(tag)
		if got != ok || ok && k.tag() != tag {
			t.Errorf("%q: %+v, %v", tag, k, got)
		}
	}
}
