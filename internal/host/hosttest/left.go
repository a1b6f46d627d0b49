package hosttest

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/host"
)

// NothingLeft fails the test for every mount and loop device below a directory, and every file and
// empty directory that matches none of the patterns, which are relative to it and as in [path.Match].
func NothingLeft(t testing.TB, dir string, expected ...string) {
	t.Helper()
	for _, what := range Left(t, dir) {
		file := strings.TrimPrefix(strings.TrimPrefix(what, "file "), "empty directory ")
		if slices.ContainsFunc(expected, func(p string) bool { m, _ := path.Match(p, file); return m }) {
			continue
		}
		t.Errorf("left behind: %s", what)
	}
}

// Left lists the mounts, loop devices, files and empty directories below a directory, as "mount PATH",
// "loop device over PATH", "file PATH" and "empty directory PATH" with relative paths, sorted. It does
// not look into mounted volumes.
func Left(t testing.TB, dir string) []string {
	t.Helper()
	h := host.New()
	table, err := h.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	var found, points []string
	for _, m := range table {
		if rel, ok := strings.CutPrefix(m.MountPoint, dir+"/"); ok {
			found = append(found, "mount "+rel)
			points = append(points, m.MountPoint)
		}
	}
	devices, err := h.LoopDevices()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		if rel, ok := strings.CutPrefix(d.File, dir+"/"); ok {
			found = append(found, "loop device over "+rel)
		}
	}
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p == dir:
		case e.IsDir() && slices.Contains(points, p):
			return fs.SkipDir
		case !e.IsDir():
			found = append(found, "file "+strings.TrimPrefix(p, dir+"/"))
		default:
			if entries, err := os.ReadDir(p); err == nil && len(entries) == 0 {
				found = append(found, "empty directory "+strings.TrimPrefix(p, dir+"/"))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}
