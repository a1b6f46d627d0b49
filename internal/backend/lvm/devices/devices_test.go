package devices

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// tree makes a sysfs directory of a disk with these attributes; those that end in a slash are directories.
func tree(t *testing.T, name string, attributes map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	for path, value := range attributes {
		at := filepath.Join(dir, path)
		if strings.HasSuffix(path, "/") {
			if err := os.MkdirAll(at, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// disk are the attributes of one of 2 GiB with a partition.
func disk() map[string]string {
	return map[string]string{
		"size": "4194304", "removable": "0", "ro": "0", "holders/": "", "device/model": "Samsung SSD 980", "queue/rotational": "0", "wwid": "eui.1",
		"p1/partition": "1", "p1/size": "2097152", "p1/ro": "0", "p1/holders/": "",
	}
}

func TestAgainst(t *testing.T) {
	const gib = 1 << 30
	for what, c := range map[string]struct {
		name      string            // of the disk; "": sdb
		with      map[string]string // attributes that are otherwise; "-": it has none
		partition bool              // it is about that
		wanted    Wanted
		why       string // "": nothing
	}{
		"empty disk":                   {with: map[string]string{"p1/partition": "-"}},
		"partition":                    {partition: true},
		"disk with partitions":         {why: "has partitions"},
		"loop device":                  {name: "loop3", partition: true, why: "is no disk"},
		"device of the device mapper":  {name: "dm-1", why: "is no disk"},
		"nothing behind it":            {with: map[string]string{"device/model": "-"}, why: "is no disk"},
		"stick":                        {with: map[string]string{"removable": "1"}, partition: true, why: "is removable"},
		"not said whether removable":   {with: map[string]string{"removable": "-"}, why: "is removable"},
		"read-only":                    {with: map[string]string{"ro": "1"}, partition: true, why: "is read-only"},
		"read-only partition":          {with: map[string]string{"p1/ro": "1"}, partition: true, why: "is read-only"},
		"of no size":                   {with: map[string]string{"size": "-"}, why: "does not say"},
		"not said who uses it":         {with: map[string]string{"holders/": "-"}, why: "does not say"},
		"small":                        {wanted: Wanted{Min: 2*gib + 1}, why: "less than minDeviceSize"},
		"small partition":              {wanted: Wanted{Min: gib + 1}, partition: true, why: "less than minDeviceSize"},
		"large":                        {wanted: Wanted{Max: gib}, why: "more than maxDeviceSize"},
		"as large as that":             {wanted: Wanted{Min: gib, Max: gib}, partition: true},
		"of the model":                 {wanted: Wanted{Model: "Samsung*"}, partition: true},
		"of another model":             {wanted: Wanted{Model: "Intel*"}, partition: true, why: `"Samsung SSD 980"`},
		"flash":                        {wanted: Wanted{Rotational: "false"}, partition: true},
		"no hard disk":                 {wanted: Wanted{Rotational: "true"}, partition: true, why: "rotational"},
		"not said whether hard":        {with: map[string]string{"queue/rotational": "-"}, wanted: Wanted{Rotational: "false"}, partition: true, why: "rotational"},
		"held":                         {with: map[string]string{"p1/partition": "-", "holders/md0/": ""}, why: "is used by md0"},
		"held partition":               {with: map[string]string{"p1/holders/dm-1/": ""}, partition: true, why: "is used by dm-1"},
		"partition of a disk in use":   {with: map[string]string{"holders/dm-2/": ""}, partition: true, why: "is used by dm-2"},
		"partition, the disk is large": {wanted: Wanted{Max: gib}, partition: true},
	} {
		name, attributes := c.name, disk()
		if name == "" {
			name = "sdb"
		}
		maps.Copy(attributes, c.with)
		maps.DeleteFunc(attributes, func(_, v string) bool { return v == "-" })
		s := sys{}
		s.disk = tree(t, name, attributes)
		s.dir = s.disk
		if c.partition {
			s.dir = filepath.Join(s.disk, "p1")
		}
		got := s.against(c.wanted)
		if (got == "") != (c.why == "") || !strings.Contains(got, c.why) {
			t.Errorf("%s: %q speaks against it, want %q", what, got, c.why)
		}
	}
}

// TestTwins: a disk that is there twice is used by neither path.
func TestTwins(t *testing.T) {
	s := sys{disk: tree(t, "sdb", disk())}
	s.dir = s.disk
	whole := s.identity()
	s.dir = filepath.Join(s.disk, "p1")
	part := s.identity()
	if whole == "" || part == "" || whole == part {
		t.Fatalf("a disk is %q and its partition %q", whole, part)
	}
	all := []Device{{Path: "/dev/sdb", identity: whole}, {Path: "/dev/sdb1", identity: part}, {Path: "/dev/sdc", identity: whole}, {Path: "/dev/vda"}, {Path: "/dev/vdb"}}
	refuseTwins(all)
	for i, want := range []string{"/dev/sdb, /dev/sdc", "", "/dev/sdb, /dev/sdc", "", ""} {
		if got := all[i].Why; (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q", all[i].Path, got)
		}
	}
}

func TestFindNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sdx"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "sdy")); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(host.New(), Wanted{Patterns: []string{dir + "/sd*", dir + "/none"}}); err != nil || len(got) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Find(host.New(), Wanted{Patterns: []string{"/dev/["}}); !errs.Is(err, errs.Invalid) {
		t.Errorf("a pattern that is none: %v", err)
	}
}
