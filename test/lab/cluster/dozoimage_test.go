package cluster

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDozoImage: everything that the driver runs is in its image, and no shell;
// another driver gets another tag.
func TestDozoImage(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "dozo")
	tags := map[string]bool{}
	for _, content := range []string{"one", "two"} {
		if err := os.WriteFile(binary, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		image, tag, err := DozoImage(binary)
		if err != nil {
			t.Fatal(err)
		}
		_, again, err := DozoImage(binary)
		if err != nil || again != tag {
			t.Errorf("the same files get the tags %s and %s, %v", tag, again, err)
		}
		tags[tag] = true
		for _, file := range []string{"usr/bin/dozo", "usr/bin/mkfs.xfs", "usr/bin/xfs_db", "usr/bin/btrfstune", "etc/mke2fs.conf"} {
			if !image.Files.Has(file) {
				t.Errorf("the image has no %s", file)
			}
		}
		if image.Files.Has("bin/sh") || image.Files.Has("usr/bin/sh") {
			t.Error("the image has a shell, which nothing needs")
		}
	}
	if len(tags) != 2 {
		t.Errorf("different drivers, tags %v", tags)
	}
}
