package backend

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dozo-dev/dozo/internal/errs"
)

func TestVolumeSatisfies(t *testing.T) {
	v := Volume{ID: "v", Name: "v", Size: 100, Source: Source{Snapshot: "s"}}
	for what, c := range map[string]struct {
		request Request
		word    string // "": it satisfies
	}{
		"same":             {Request{Name: "v", Size: 100, Source: Source{Snapshot: "s"}}, ""},
		"smaller":          {Request{Name: "v", Size: 50, Source: Source{Snapshot: "s"}}, ""},
		"within the limit": {Request{Name: "v", Size: 50, Limit: 100, Source: Source{Snapshot: "s"}}, ""},
		"beyond the limit": {Request{Name: "v", Size: 50, Limit: 99, Source: Source{Snapshot: "s"}}, "the limit is 99"},
		"larger":           {Request{Name: "v", Size: 101, Source: Source{Snapshot: "s"}}, "100 bytes exists, 101 are required"},
		"other name":       {Request{Name: "w", Size: 100, Source: Source{Snapshot: "s"}}, `taken by the volume named "v"`},
		"blank":            {Request{Name: "v", Size: 100}, "source"},
		"other snapshot":   {Request{Name: "v", Size: 100, Source: Source{Snapshot: "t"}}, "source"},
		"a volume":         {Request{Name: "v", Size: 100, Source: Source{Volume: "s"}}, "source"},
	} {
		checkSatisfies(t, what, v.Satisfies(c.request), c.word)
	}
}

func TestSnapshotSatisfies(t *testing.T) {
	s := Snapshot{ID: "s", Name: "s", Source: "v", Group: "g"}
	for what, c := range map[string]struct {
		request SnapshotRequest
		word    string
	}{
		"same":         {SnapshotRequest{Name: "s", Source: "v", Group: "g"}, ""},
		"other name":   {SnapshotRequest{Name: "t", Source: "v", Group: "g"}, `taken by the snapshot named "s"`},
		"other source": {SnapshotRequest{Name: "s", Source: "w", Group: "g"}, "of volume v and not w"},
		"no group":     {SnapshotRequest{Name: "s", Source: "v"}, `in group "g" and not ""`},
		"other group":  {SnapshotRequest{Name: "s", Source: "v", Group: "h"}, `not "h"`},
	} {
		checkSatisfies(t, what, s.Satisfies(c.request), c.word)
	}
}

func checkSatisfies(t *testing.T, what string, err error, word string) {
	t.Helper()
	switch {
	case word == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case word != "" && (!errs.Is(err, errs.Exists) || !strings.Contains(err.Error(), word)):
		t.Errorf("%s: %v, want errs.Exists that says %q", what, err, word)
	}
}

// TestAccessIsForEver: accesses are in PersistentVolumes, which nobody can change.
func TestAccessIsForEver(t *testing.T) {
	for stored, want := range map[string]Access{
		`{"version":1,"local":{"pool":"main","id":"pvc-1"}}`:                 LocalAccess("main", "pvc-1"),
		`{"version":3,"iscsi":{"wwid":"360014053a993a34d01d2d4d3bd712dad"}}`: ISCSIAccess("360014053a993a34d01d2d4d3bd712dad", nil),
		`{"version":3,"iscsi":{"wwid":"360014053a993a34d01d2d4d3bd712dad","target":{"iqn":"iqn.2000-01.com.synology:nas.n1","portals":["192.0.2.1:3260"],"lun":1,"chap":true}}}`: ISCSIAccess(
			"360014053a993a34d01d2d4d3bd712dad", &ISCSITarget{IQN: "iqn.2000-01.com.synology:nas.n1", Portals: []string{"192.0.2.1:3260"}, LUN: 1, CHAP: true}),
		`{"version":3,"iscsi":{"wwid":"360014053a993a34d01d2d4d3bd712dad","raw":true,"copied":true}}`: {
			Version: 3, ISCSI: &ISCSI{WWID: "360014053a993a34d01d2d4d3bd712dad", Raw: true, Copied: true}},
		`{"version":3,"mount":{"type":"nfs","source":"nas:/volume1/dz-1","options":["nfsvers=4.1"]}}`: MountAccess(Mount{Type: NFS, Source: "nas:/volume1/dz-1", Options: []string{"nfsvers=4.1"}}),
	} {
		var got Access
		if err := json.Unmarshal([]byte(stored), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", stored, diff)
		}
		if err := got.Check(); err != nil {
			t.Errorf("%s: %v", stored, err)
		}
		if back, err := json.Marshal(got); err != nil || string(back) != stored {
			t.Errorf("%s is written as %s, %v", stored, back, err)
		}
	}
}

func TestAccessCheck(t *testing.T) {
	disk := "360014053a993a34d01d2d4d3bd712dad"
	target := func(change func(t *ISCSITarget)) Access {
		t := ISCSITarget{IQN: "iqn.2000-01.com.synology:nas.n1", Portals: []string{"[2001:db8::1]:3260"}, LUN: 1}
		change(&t)
		return ISCSIAccess(disk, &t)
	}
	if err := target(func(*ISCSITarget) {}).Check(); err != nil {
		t.Error(err)
	}
	for word, a := range map[string]Access{
		"version: 0 is unknown":           {Local: &Local{Pool: "p", ID: "v"}},
		"update Dozo":                     {Version: AccessVersion + 1, Local: &Local{Pool: "p", ID: "v"}},
		"version: -1":                     {Version: -1, Local: &Local{Pool: "p", ID: "v"}},
		"exactly one way":                 {Version: 1},
		"access: exactly one":             {Version: 3, Local: &Local{Pool: "p", ID: "v"}, ISCSI: &ISCSI{WWID: disk}},
		"from version 3 on":               {Version: 2, ISCSI: &ISCSI{WWID: disk}},
		"iscsi.wwid":                      ISCSIAccess("3600/../../etc", nil),
		"target.iqn":                      target(func(t *ISCSITarget) { t.IQN = "iqn.2000-01.com.x:a b" }),
		"target.lun":                      target(func(t *ISCSITarget) { t.LUN = -1 }),
		"portals: there are 0":            target(func(t *ISCSITarget) { t.Portals = nil }),
		`portals[1]: "nas"`:               target(func(t *ISCSITarget) { t.Portals = append(t.Portals, "nas") }),
		`portals[0]: "a,b:3260"`:          target(func(t *ISCSITarget) { t.Portals[0] = "a,b:3260" }),
		`portals[0]: "nas:0"`:             target(func(t *ISCSITarget) { t.Portals[0] = "nas:0" }),
		"mount.type":                      MountAccess(Mount{Type: "9p", Source: "nas:/v"}),
		`"nas" is not server:/path`:       MountAccess(Mount{Type: NFS, Source: "nas"}),
		`"-o:/v" is not server:/path`:     MountAccess(Mount{Type: NFS, Source: "-o:/v"}),
		`"nas:/a/../b" is not`:            MountAccess(Mount{Type: NFS, Source: "nas:/a/../b"}),
		`"nas:/a,suid" is not`:            MountAccess(Mount{Type: NFS, Source: "nas:/a,suid"}),
		"no device that could be":         MountAccess(Mount{Type: NFS, Source: "nas:/v"}).Encrypted(Encryption{Type: LUKS2}),
		"local.pool":                      LocalAccess("../p", "v"),
		`"" is not a pool's name`:         LocalAccess("", "v"),
		`"../../etc/shadow" is not an ID`: LocalAccess("p", "../../etc/shadow"),
		`"" is not an ID`:                 LocalAccess("p", ""),
		`"rot13" in version 2`:            LocalAccess("p", "v").Encrypted(Encryption{Type: "rot13"}),
		`"luks2" in version 1`:            {Version: 1, Local: &Local{Pool: "p", ID: "v"}, Encryption: &Encryption{Type: LUKS2}},
	} {
		if err := a.Check(); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), word) {
			t.Errorf("%+v: %v, want errs.Invalid that says %q", a, err, word)
		}
	}
}

// TestEncryptionIsNotOverlooked: a node from before there was encryption reads version 1 and no other.
func TestEncryptionIsNotOverlooked(t *testing.T) {
	plain := LocalAccess("p", "v")
	encrypted := plain.Encrypted(Encryption{Type: LUKS2})
	if plain.Version != 1 || encrypted.Version != 2 || encrypted.Check() != nil || plain.Encryption != nil {
		t.Errorf("%+v, %+v, %v", plain, encrypted, encrypted.Check())
	}
}

func TestComplete(t *testing.T) {
	declared := []Parameter{
		{Name: "dir", Required: true, Help: "a directory"},
		{Name: "mode", Default: "thin", Help: "thin or thick", Check: OneOf("thin", "thick")},
		{Name: "note"},
	}
	for what, c := range map[string]struct {
		given, want map[string]string
		words       []string
	}{
		"defaults":  {given: map[string]string{"dir": "/d"}, want: map[string]string{"dir": "/d", "mode": "thin", "note": ""}},
		"given":     {given: map[string]string{"dir": "", "mode": "thick", "note": "n"}, want: map[string]string{"dir": "", "mode": "thick", "note": "n"}},
		"missing":   {given: nil, words: []string{`options["dir"]: missing; a directory`}},
		"wrong":     {given: map[string]string{"dir": "/d", "mode": "fat"}, words: []string{`options["mode"]: "fat" is none of thin, thick; thin or thick`}},
		"empty":     {given: map[string]string{"dir": "/d", "mode": ""}, words: []string{`options["mode"]: "" is none of`}},
		"unknown":   {given: map[string]string{"dir": "/d", "size": "1"}, words: []string{`options["size"]: unknown`, "dir, mode, note"}},
		"first one": {given: map[string]string{"dir": "/d", "z": "", "b": ""}, words: []string{`options["b"]: unknown`}},
		"case":      {given: map[string]string{"dir": "/d", "Mode": "thin"}, words: []string{`options["Mode"]: unknown`}},
		"very long": {given: map[string]string{"dir": "/d", strings.Repeat("k", 1000): ""}, words: []string{strings.Repeat("k", 80) + `"]`}},
	} {
		given := map[string]string{}
		for k, v := range c.given {
			given[k] = v
		}
		got, err := Complete("options", declared, c.given)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		for _, w := range c.words {
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want errs.Invalid that says %q", what, err, w)
			}
		}
		if c.words == nil && err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if c.given != nil && !cmp.Equal(given, c.given) {
			t.Errorf("%s: what was given was changed to %v", what, c.given)
		}
	}
}

func TestProgress(t *testing.T) {
	Progress(t.Context(), "nobody listens")
	var heard []string
	ctx := WithProgress(t.Context(), func(what string) { heard = append(heard, what) })
	Progress(ctx, "copied 1 of 2")
	Progress(ctx, "copied 2 of 2")
	if diff := cmp.Diff([]string{"copied 1 of 2", "copied 2 of 2"}, heard); diff != "" {
		t.Error(diff)
	}
}

func TestSourceIsZero(t *testing.T) {
	for s, want := range map[Source]bool{{}: true, {Snapshot: "s"}: false, {Volume: "v"}: false} {
		if got := s.IsZero(); got != want {
			t.Errorf("%+v.IsZero() = %v", s, got)
		}
	}
}
