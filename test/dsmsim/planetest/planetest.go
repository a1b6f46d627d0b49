// Package planetest is the law of [dsmsim.Plane]: what the simulator relies on, for each that there is.
package planetest

import (
	"testing"

	"github.com/dozo-dev/dozo/test/dsmsim"
)

// Run tries a plane, which has the volume and nothing in it, and leaves nothing in it.
func Run(t *testing.T, p dsmsim.Plane, volume string) {
	t.Run("images", func(t *testing.T) { images(t, p, volume) })
	t.Run("targets", func(t *testing.T) { targets(t, p, volume) })
	t.Run("folders", func(t *testing.T) { folders(t, p, volume) })
}

const (
	one = "11111111-1111-4111-8111-111111111111"
	two = "22222222-2222-4222-8222-222222222222"
	iqn = "iqn.2000-01.com.synology:law"
)

// twice does what may be said again.
func twice(t *testing.T, what string, do func() error) {
	t.Helper()
	for _, time := range []string{"at first", "again"} {
		if err := do(); err != nil {
			t.Fatalf("%s, %s: %v", what, time, err)
		}
	}
}

func refused(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s is no error", what)
	}
}

func images(t *testing.T, p dsmsim.Plane, volume string) {
	i := dsmsim.Image{ID: one, Volume: volume, Size: 1 << 20, Thin: true}
	twice(t, "create an image", func() error { return p.CreateImage(i) })
	twice(t, "make it larger", func() error { return p.ResizeImage(one, 2<<20) })
	refused(t, "making an absent image larger", p.ResizeImage(two, 2<<20))
	refused(t, "copying an absent image", p.CopyImage(dsmsim.Image{ID: one, Volume: volume, Size: 1 << 20}, two))
	twice(t, "copy it", func() error {
		return p.CopyImage(dsmsim.Image{ID: two, Volume: volume, Size: 4 << 20, Thin: true}, one)
	})
	twice(t, "delete it", func() error { return p.DeleteImage(one) })
	twice(t, "make its copy larger", func() error { return p.ResizeImage(two, 8<<20) })
	twice(t, "delete its copy", func() error { return p.DeleteImage(two) })
}

func targets(t *testing.T, p dsmsim.Plane, volume string) {
	for _, id := range []string{one, two} {
		if err := p.CreateImage(dsmsim.Image{ID: id, Volume: volume, Size: 1 << 20, Thin: true}); err != nil {
			t.Fatal(err)
		}
	}
	lun := func(id string, index int) dsmsim.ExportedLUN {
		return dsmsim.ExportedLUN{Image: id, Index: index, Serial: id}
	}
	for what, e := range map[string]dsmsim.Export{
		"with two":      {Enabled: true, LUNs: []dsmsim.ExportedLUN{lun(one, 1), lun(two, 2)}},
		"the other way": {Enabled: true, LUNs: []dsmsim.ExportedLUN{lun(two, 1), lun(one, 2)}, User: "user", Password: "twelve-chars"},
		"with none":     {Enabled: true, MaxSessions: 1},
		"disabled":      {LUNs: []dsmsim.ExportedLUN{lun(two, 1)}},
	} {
		e.IQN = iqn
		twice(t, "set a target "+what, func() error { return p.SetTarget(e) })
	}
	for _, name := range []string{iqn, iqn + "-absent"} {
		if s, err := p.Sessions(name); err != nil || len(s) != 0 {
			t.Errorf("sessions of %s: %v, %v", name, s, err)
		}
	}
	twice(t, "remove a target", func() error { return p.RemoveTarget(iqn) })
	for _, id := range []string{one, two} {
		twice(t, "delete an image that was in a target", func() error { return p.DeleteImage(id) })
	}
}

func folders(t *testing.T, p dsmsim.Plane, volume string) {
	f := dsmsim.Folder{ID: "law", Volume: volume, QuotaMB: 16}
	twice(t, "make a folder", func() error { return p.SetFolder(f) })
	f.QuotaMB, f.Rules = 0, []dsmsim.FolderRule{{Client: "*", RootSquash: "root"}, {Client: "10.0.0.0/8", RootSquash: "all_guest"}, {Client: "a.name", RootSquash: "admin"}}
	twice(t, "change it", func() error { return p.SetFolder(f) })
	f.Users = []dsmsim.FolderUser{{Name: "reader", Password: "read, only", ReadOnly: true}, {Name: "writer", Password: "right"}}
	twice(t, "serve it to users", func() error { return p.SetFolder(f) })
	f.Users = f.Users[1:]
	twice(t, "serve it to fewer", func() error { return p.SetFolder(f) })
	refused(t, "copying an absent folder", p.CopyFolder(dsmsim.Folder{ID: "copy", Volume: volume}, "absent"))
	snapshot := dsmsim.Folder{ID: "law@GMT+00-2026.01.01-00.00.00", Volume: volume}
	twice(t, "take a snapshot", func() error { return p.CopyFolder(snapshot, "law") })
	twice(t, "copy a snapshot", func() error { return p.CopyFolder(dsmsim.Folder{ID: "copy", Volume: volume, QuotaMB: 8}, snapshot.ID) })
	twice(t, "remove a snapshot", func() error { return p.RemoveFolder(snapshot.ID) })
	for _, id := range []string{"law", "copy"} {
		twice(t, "remove a folder", func() error { return p.RemoveFolder(id) })
	}
}
