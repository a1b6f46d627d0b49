package cluster

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchiveIsReproducible: equal files must give equal bytes, and a blob
// that two images share is in the archive once.
func TestArchiveIsReproducible(t *testing.T) {
	tree := NewFileTree()
	tree.Data("etc/motd", "hello", 0o644)
	tree.Link("bin/sh", "/bin/busybox")
	images := []Image{
		{Names: []string{"dozo.local/a:1", "dozo.local/b:2"}, Files: tree, Entrypoint: []string{"/a"}},
		{Names: []string{"dozo.local/c:3"}, Files: tree.Clone(), Entrypoint: []string{"/c"}},
	}
	var archives [2][]byte
	for i := range archives {
		file := filepath.Join(t.TempDir(), "images.tar")
		if err := WriteArchive(file, images); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		archives[i] = data
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two runs wrote different archives")
	}
	members := tarMembers(t, archives[0])
	// A shared layer, and a configuration and a manifest per image.
	if blobs := strings.Count(strings.Join(members, "\n"), "blobs/sha256/"); blobs != 5 {
		t.Errorf("%d blobs, not 5: %v", blobs, members)
	}
}

// TestLayerHasParents: a layer without its parent directories is unpacked with
// ones that only root may enter.
func TestLayerHasParents(t *testing.T) {
	tree := NewFileTree()
	tree.Data("/usr/share/doc/dozo/README", "hello", 0o644)
	layer, err := tree.layer()
	if err != nil {
		t.Fatal(err)
	}
	members := strings.Join(tarMembers(t, layer), "\n")
	for _, want := range []string{"usr/\n", "usr/share/\n", "usr/share/doc/\n", "usr/share/doc/dozo/\n", "tmp/\n"} {
		if !strings.Contains(members, want) {
			t.Errorf("no directory %q in the layer:\n%s", want, members)
		}
	}
}

// TestProgramBringsItsLibraries: without them it does not start in an image.
func TestProgramBringsItsLibraries(t *testing.T) {
	tree := NewFileTree()
	if err := tree.Program("bash"); err != nil {
		t.Fatal(err)
	}
	var libc, linker bool
	for name := range tree.entries {
		libc = libc || strings.Contains(name, "libc.so")
		linker = linker || strings.Contains(name, "ld-linux")
	}
	if !tree.Has("usr/bin/bash") || !libc || !linker {
		t.Errorf("bash, its C library or the dynamic linker is missing: %d entries", len(tree.entries))
	}
}

func TestImageRequestErrors(t *testing.T) {
	for name, request := range map[string]ImageRequest{
		"no tag":         {Name: "dozo.local/x", Shell: true},
		"nothing in it":  {Name: "dozo.local/x:1"},
		"no target":      {Name: "dozo.local/x:1", Files: []string{"/bin/true"}},
		"relative":       {Name: "dozo.local/x:1", Files: []string{"/bin/true:true"}},
		"no such file":   {Name: "dozo.local/x:1", Files: []string{"/nonexistent:/x"}},
		"no such binary": {Name: "dozo.local/x:1", Programs: []string{"dozo-no-such-program"}},
	} {
		if _, err := request.Image(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func tarMembers(t *testing.T, data []byte) []string {
	t.Helper()
	var names []string
	r := tar.NewReader(bytes.NewReader(data))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}
