package uml

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestArgs(t *testing.T) {
	m := Machine{Name: "n1", Dir: "/lab/n1", MemoryMiB: 512, Root: "/cache/root.ext4",
		Disks: []Disk{{Device: DiskDevice(0), File: "/lab/n1/disk0"}, {Device: "ubdp", File: "/lab/n1/store.cow", Base: "/cache/store.ext4"}},
		Tap:   &Tap{Interface: "tap1", MAC: "02:00:00:00:77:01"},
	}
	args := m.Args(3)
	for _, want := range []string{
		"mem=512M", "umid=n1.3", "LAB_DIR=/lab/n1", "ubd0=/lab/n1/root.cow,/cache/root.ext4",
		"ubdb=/lab/n1/disk0", "ubdp=/lab/n1/store.cow,/cache/store.ext4",
		"vec0:transport=tap,ifname=tap1,mac=02:00:00:00:77:01,depth=64,gro=1",
	} {
		if !slices.Contains(args, want) {
			t.Errorf("no %q in %q", want, args)
		}
	}
	m.Tap = nil
	if line := strings.Join(m.Args(1), " "); strings.Contains(line, "vec0") {
		t.Errorf("a network that was not asked for: %s", line)
	}
}

// TestMakeDiskKeepsContent: a disk is made again at each boot.
func TestMakeDiskKeepsContent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	if err := MakeDisk(file, 4096); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 4096)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{4096, 512} {
		if err := MakeDisk(file, size); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(file); err != nil || string(data) != strings.Repeat("x", 4096) {
			t.Errorf("made again with %d bytes, the disk has lost its content: %d bytes, %v", size, len(data), err)
		}
	}
}

func TestWriteStartup(t *testing.T) {
	m := Machine{Name: "n1", Dir: t.TempDir()}
	if err := m.WriteStartup(Startup{Env: []string{"A=b"}, Args: []string{"/bin/program", "two words"}, Hosts: "127.0.0.1 localhost\n"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"env": "DOZO_LAB_GUEST=n1\nA=b\n", "args": "/bin/program\ntwo words\n", "hosts": "127.0.0.1 localhost\n",
	} {
		if got, err := os.ReadFile(filepath.Join(m.Dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	if err := m.WriteStartup(Startup{Args: []string{"one\ntwo"}}); err == nil {
		t.Error("an argument with a line break is handed over, which would make two of it")
	}
}
