package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FillGroup gives a volume group in a guest n linear LVs of so many extents each, with one tag each, in place of
// those that it has. It writes LVM's metadata, since a thousand of LVM's commands would take long. The group
// has one physical volume. With n 0 it does nothing.
func FillGroup(t testing.TB, group string, n, extents int, tag func(i int) string) {
	t.Helper()
	if n == 0 {
		return
	}
	file := filepath.Join(t.TempDir(), "backup")
	Output(t, "vgcfgbackup", "--file", file, group)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(text), "\tlogical_volumes {")
	if !found {
		head = head[:strings.LastIndex(head, "}")]
	}
	var b strings.Builder
	b.WriteString(head)
	b.WriteString("\tlogical_volumes {\n")
	for i := range n {
		fmt.Fprintf(&b, "bulk%d {\nid = \"%06d-bulk-bulk-bulk-bulk-bulk-bulk00\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nflags = []\n"+
			"tags = [\"%s\"]\ncreation_time = 1795362036\ncreation_host = \"guest\"\nsegment_count = 1\n"+
			"segment1 {\nstart_extent = 0\nextent_count = %d\ntype = \"striped\"\nstripe_count = 1\nstripes = [\n\"pv0\", %d\n]\n}\n}\n", i, i, tag(i), extents, i*extents)
	}
	b.WriteString("\t}\n}\n")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	Output(t, "vgcfgrestore", "--yes", "--file", file, group) // also if some are active, which stay where they are
}
