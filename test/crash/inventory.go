package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// inventory lists what a run left, with the sizes of the files. Metadata has times in it, whose
// length varies, so its size is left out.
func inventory(t *testing.T, dir string) []string {
	t.Helper()
	found := hosttest.Left(t, dir)
	found = slices.DeleteFunc(found, func(what string) bool {
		return what == "file "+effectsFile || what == "file "+progressFile
	})
	for n, what := range found {
		rel, ok := strings.CutPrefix(what, "file ")
		if !ok || strings.HasSuffix(rel, ".json") {
			continue
		}
		if info, err := os.Lstat(filepath.Join(dir, rel)); err == nil {
			found[n] = fmt.Sprintf("%s of %d bytes", what, info.Size())
		}
	}
	return found
}
