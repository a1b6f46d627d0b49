package synology_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/test/lab"
	"github.com/dozo-dev/dozo/test/synology"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file that is there when the NAS has it.
func put(t *testing.T, path, text string) {
	t.Helper()
	ok(t, hosttest.WriteThrough(path, []byte(text)))
}

func expect(t *testing.T, path, text string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("%s: read %q, %v; want %q", path, got, err, text)
	}
}

// TestLife is one boot of a guest for all of it.
func TestLife(t *testing.T) {
	lives(t, map[string]func(*testing.T){
		"each sort": eachSort, "grows": grows, "copies": copies, "raw": raw, "many writers": manyWriters, "quota": quota, "fence": fence, "forced": forced,
	})
}

// TestPower is a NAS that is away, at first or meanwhile.
func TestPower(t *testing.T) {
	lives(t, map[string]func(*testing.T){
		"late NAS": lateNAS, "grows": growsAway, "leaves": leavesAway, "new password": newPassword,
	})
}

func lives(t *testing.T, all map[string]func(*testing.T)) {
	if !lab.Run(t, synology.Guest()) {
		return
	}
	for name, life := range all {
		t.Run(name, life)
	}
}

// claim is one for a volume of a sort.
func claim(kind string, size int64) synology.Claim {
	c := synology.Claim{Name: "pvc-" + kind, Size: size, FS: kind}
	if protocol := map[string]string{"nfs": "nfs", "cifs": "smb"}[kind]; protocol != "" {
		c.Parameters = synology.Protocol(protocol)
	}
	return c
}

func named(c synology.Claim, name string) synology.Claim {
	c.Name = name
	return c
}

// eachSort is a volume of each sort, from its creation to its end.
func eachSort(t *testing.T) {
	b := synology.Start(t, synology.Options{})
	c := b.Cluster()
	for _, kind := range []string{"ext4", "xfs", "nfs", "cifs"} {
		v := c.Create(claim(kind, gib))
		for _, node := range []string{synology.Node1, synology.Node2} {
			at := filepath.Join(v.Use(node, "a"), "data")
			if node == synology.Node1 {
				put(t, at, "kept")
			}
			expect(t, at, "kept")
			findsAll(t, b, kind)
			v.Leave(node, "a")
		}
		v.Delete()
	}
}

// raw is data in no format that anybody knows, in between where a node looks for any. A copy of it is not formatted when it is to be a file
// system.
func raw(t *testing.T) {
	const at = gib/2 + 5*mib + 512<<10
	page := bytes.Repeat([]byte("kept"), 1024)
	b := synology.Start(t, synology.Options{})
	c := b.Cluster()
	v := c.Create(claim("block", gib))
	f, err := os.OpenFile(v.Use(synology.Node1, "a"), os.O_WRONLY, 0)
	ok(t, err)
	_, err = f.WriteAt(page, at)
	ok(t, errors.Join(err, f.Sync(), f.Close()))

	files := named(claim("ext4", gib), "pvc-copy")
	files.Source = synology.FromVolume(v)
	copied := c.Create(files)
	ok(t, copied.TryAttach(synology.Node2))
	if err := copied.TryStage(synology.Node2); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "will not be formatted") {
		t.Errorf("a copy of a block device, staged as a file system: %v", err)
	}
	ok(t, errors.Join(copied.TryUnstage(synology.Node2), copied.TryDetach(synology.Node2)))
	device := *copied
	device.Claim.FS = "block"
	got := make([]byte, len(page))
	f, err = os.Open(device.Use(synology.Node2, "a"))
	ok(t, err)
	_, err = f.ReadAt(got, at)
	if ok(t, errors.Join(err, f.Close())); !bytes.Equal(got, page) {
		t.Error("the copy's data is not its source's any more")
	}
	device.Leave(synology.Node2, "a")
	copied.Delete()
	v.Leave(synology.Node1, "a")
	v.Delete()
}

// findsAll fails unless the search for what is left finds all that there is of a volume in use: a search that finds nothing proves
// nothing.
func findsAll(t *testing.T, b *synology.Bed, kind string) {
	t.Helper()
	want := []string{"LUN dozo.", "target dozo.", "target/iscsi/", "target/core/", "@iSCSI/", "loop device", "iscsi_session/", "scsi_device/", "nodes/iqn.", ".iscsi"}
	switch kind {
	case "nfs":
		want = []string{"share dz-", "/volume1/dz-", "nfsd.export", "nfsd.fh"}
	case "cifs":
		want = []string{"share dz-", "/volume1/dz-"}
	}
	left := strings.Join(b.Left(), "\n")
	for _, what := range append(want, "mount /", "mount n", ".json") {
		if !strings.Contains(left, what) {
			t.Errorf("a volume is in use, and no %q is found:\n%s", what, left)
		}
	}
}
