package cluster

import (
	"os"
	"path/filepath"
	"time"
)

// staleAfter is how long binaries and images of another version stay: long
// enough to switch between branches, short enough not to fill the disk.
const staleAfter = 14 * 24 * time.Hour

// use marks a directory of the cache as in use and removes its neighbours that
// nothing has used for long.
func use(dir string) error {
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil {
		return err
	}
	neighbours, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return err
	}
	for _, n := range neighbours {
		info, err := n.Info()
		if err != nil || now.Sub(info.ModTime()) < staleAfter {
			continue
		}
		if err := os.RemoveAll(filepath.Join(filepath.Dir(dir), n.Name())); err != nil {
			return err
		}
	}
	return nil
}
