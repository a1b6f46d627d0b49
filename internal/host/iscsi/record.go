package iscsi

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
)

// setting is a line of a record; an empty value is one that must not be there.
type setting struct{ key, value string }

// settings are what has to be in every record of ours. What else is in it comes from the node's iscsid.conf.
//
//   - manual: nobody logs in but us, and after a boot nobody does: the volume may be another node's by then.
//   - scan manual: a login shows no disks. There may be many behind a target, and only those that were asked for are.
//   - a login that has no answer ends within 15 seconds.
//   - writes are held back for ten minutes while the target is away, which is longer than a NAS takes to restart:
//     after that file systems turn read-only. With several paths dm-multipath sets a shorter time itself.
func settings(chap *CHAP) []setting {
	all := []setting{
		{"node.startup", "manual"},
		{"node.conn[0].startup", "manual"},
		{"node.leading_login", "No"},
		{"node.session.scan", "manual"},
		{"node.session.nr_sessions", "1"},
		{"node.session.initial_login_retry_max", "1"},
		{"node.conn[0].timeo.login_timeout", "10"},
		{"node.conn[0].timeo.logout_timeout", "10"},
		{"node.session.timeo.replacement_timeout", "600"},
		{"node.session.auth.authmethod", "None"},
	}
	if chap == nil {
		chap = &CHAP{}
	} else {
		all[len(all)-1].value = "CHAP"
	}
	return append(all, setting{SecretUser, chap.user}, setting{SecretPassword, chap.password},
		setting{SecretUserIn, chap.userIn}, setting{SecretPasswordIn, chap.passwordIn})
}

// maxRecord bounds a record's file, in bytes.
const maxRecord = 64 << 10

// Record sees to it that open-iscsi has the record of a portal of a target, with what it logs in with.
func (i *Initiator) Record(ctx context.Context, iqn, portal string, chap *CHAP) error {
	path := i.recordPath(iqn, portal)
	text, err := i.host.ReadFile("iscsi.record.read", path, maxRecord)
	if err == nil && !whole(text) {
		if err := i.host.Remove("iscsi.record.cut", path); err != nil {
			return errs.E(errs.Unavailable, "iSCSI record: %w", err)
		}
		err = os.ErrNotExist
	}
	if errors.Is(err, os.ErrNotExist) {
		if code, err := i.admin(ctx, "iscsi.record.new", "-m", "node", "-T", iqn, "-p", spelled(portal), "-o", "new"); err != nil {
			return explain(iqn, portal, code, err)
		}
		path = i.recordPath(iqn, portal) // there is the directory now
		text, err = i.host.ReadFile("iscsi.record.read", path, maxRecord)
	}
	if err != nil {
		return errs.E(errs.Unavailable, "iSCSI record: %w", err)
	}
	want := amend(string(text), settings(chap))
	if want == string(text) {
		return nil
	}
	if err := i.host.WriteFile("iscsi.record", path, []byte(want), 0o600); err != nil {
		return errs.E(errs.Unavailable, "iSCSI record: %w", err)
	}
	return nil
}

// lastLine is that of every record, by iscsiadm and by us.
const lastLine = "# END RECORD"

// whole reports whether a record was written to its end. Of one that was not, as an iscsiadm leaves it that was killed, iscsiadm knows
// nothing, not even to delete it.
func whole(record []byte) bool { return strings.HasSuffix(strings.TrimSpace(string(record)), lastLine) }

// records is the directory of a target's records, ADDRESS,PORT. Where open-iscsi has those of all targets was decided when it was built;
// for one of which there is none it is the first.
func (i *Initiator) records(iqn string) string {
	all := []string{"/etc/iscsi/nodes", "/var/lib/iscsi/nodes"} // Debian's and upstream's; Fedora's and Red Hat's
	for _, dir := range all {
		dir = filepath.Join(i.host.OfNode(dir), iqn)
		if _, err := os.Lstat(dir); err == nil {
			return dir
		}
	}
	return filepath.Join(i.host.OfNode(all[0]), iqn)
}

func (i *Initiator) recordPath(iqn, portal string) string {
	address, port := splitPortal(portal)
	return filepath.Join(i.records(iqn), address+","+port)
}

// Portals returns those of a target that have a record of the form that [Initiator.Record] writes.
func (i *Initiator) Portals(iqn string) (all []string) {
	entries, err := i.host.ReadDir("iscsi.records", i.records(iqn))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if address, port, ok := strings.Cut(e.Name(), ","); ok && !strings.ContainsAny(port, ",.") { // .tmp; of a discovery: PORT,GROUP
			all = append(all, net.JoinHostPort(address, port))
		}
	}
	return all
}

// amend returns a record with these settings in place of its own.
func amend(record string, want []setting) string {
	var lines []string
	for line := range strings.Lines(record) {
		key, _, _ := strings.Cut(line, "=")
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, lastLine) || isSet(strings.TrimSpace(key), want) {
			continue
		}
		lines = append(lines, line)
	}
	for _, s := range want {
		if s.value != "" {
			lines = append(lines, s.key+" = "+s.value)
		}
	}
	return strings.Join(append(lines, lastLine), "\n") + "\n"
}

func isSet(key string, by []setting) bool {
	for _, s := range by {
		if s.key == key {
			return true
		}
	}
	return false
}

// Forget removes all records of a target, and what writing one left that was cut short.
func (i *Initiator) Forget(ctx context.Context, iqn string) error {
	dir := i.records(iqn)
	entries, err := i.host.ReadDir("iscsi.records", dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errs.E(errs.Unavailable, "iSCSI records: %w", err)
	}
	for _, e := range entries {
		err = errors.Join(err, i.removeCut(filepath.Join(dir, e.Name()), e))
	}
	if err != nil {
		return errs.E(errs.Unavailable, "iSCSI records: %w", err)
	}
	if err := i.deleteRecords(ctx, iqn, dir, len(entries)); err != nil {
		return err
	}
	if err := i.host.Remove("iscsi.record.dir", dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errs.E(errs.Unavailable, "iSCSI records: %w", err)
	}
	return nil
}

// deleteRecords has iscsiadm delete the records of a target, of which there are so many. Of a portal that has two, ADDRESS,PORT and after
// somebody's discovery ADDRESS,PORT,GROUP, it deletes the first one in place of the second if its directory lists that one earlier; then
// it misses the first, says that its database failed, and stops (open-iscsi 2.1.8). So it is called again as long as that helps.
func (i *Initiator) deleteRecords(ctx context.Context, iqn, dir string, many int) error {
	for {
		code, err := i.admin(ctx, "iscsi.record.delete", "-m", "node", "-T", iqn, "-o", "delete")
		if code == 0 || code == exitNone {
			return nil
		}
		left, lookErr := i.host.ReadDir("iscsi.records", dir)
		if code != exitDatabase || lookErr != nil || len(left) >= many {
			return explain(iqn, "any portal", code, err)
		}
		many = len(left)
	}
}

// removeCut removes a file that is no whole record.
func (i *Initiator) removeCut(path string, e os.DirEntry) error {
	if !strings.HasSuffix(e.Name(), ".tmp") {
		if !e.Type().IsRegular() {
			return nil
		}
		text, err := i.host.ReadFile("iscsi.record.read", path, maxRecord)
		if errors.Is(err, os.ErrNotExist) || err == nil && whole(text) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return i.host.Remove("iscsi.record.left", path)
}
