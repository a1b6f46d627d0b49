package connect

import (
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

const (
	iqn    = "iqn.2000-01.com.synology:nas.dozo.p.n1"
	first  = "3600140500000000000000000000000a1"
	second = "3600140500000000000000000000000a2"
)

// machine is a node whose kernel has one session with two disks, in a tree of files.
type machine struct {
	root     string
	programs *hosttest.Script
	*Connector
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{root: t.TempDir(), programs: &hosttest.Script{}}
	session := "sys/devices/platform/host3/session1"
	for path, text := range map[string]string{
		"sys/class/iscsi_session/session1/targetname": iqn, "sys/class/iscsi_session/session1/state": "LOGGED_IN",
		session + "/target3:0:0/3:0:0:1/vpd_pg83": page(t, first), session + "/target3:0:0/3:0:0:2/vpd_pg83": page(t, second),
		session + "/target3:0:0/3:0:0:1/delete": "", session + "/target3:0:0/3:0:0:2/delete": "",
		session + "/target3:0:0/3:0:0:1/block/sda/size": "1", session + "/target3:0:0/3:0:0:2/block/sdb/size": "1",
		"proc/self/mountinfo": "", "state/lock": "",
	} {
		m.write(t, path, text)
	}
	if err := os.Symlink(m.at(session), m.at("sys/class/iscsi_session/session1/device")); err != nil {
		t.Fatal(err)
	}
	locks, err := host.OpenLockFile(m.at("state/lock"))
	if err != nil {
		t.Fatal(err)
	}
	h := &host.Host{Roots: host.Roots{Proc: m.at("proc"), Sys: m.at("sys"), Dev: m.at("dev")}, Runner: m.programs}
	m.Connector = New(h, nil, Options{StateDir: m.at("state"), Locks: locks, Log: slog.New(slog.DiscardHandler)})
	if err := m.saveClaim("claim.write", claim{IQN: iqn}); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) at(path string) string { return filepath.Join(m.root, path) }

func (m *machine) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.at(path)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.at(path), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(m.at(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// page is a page 0x83 with a WWID.
func page(t *testing.T, wwid string) string {
	t.Helper()
	naa, err := hex.DecodeString(wwid[1:])
	if err != nil {
		t.Fatal(err)
	}
	return "\x00\x83\x00\x14\x01\x03\x00\x10" + string(naa)
}

func (m *machine) disconnect(t *testing.T, wwid string) error {
	t.Helper()
	target := &backend.ISCSITarget{IQN: iqn, Portals: []string{"10.0.0.1:3260"}, LUN: 1}
	return m.Disconnect(t.Context(), backend.ISCSIAccess(wwid, target))
}

// TestTheLastDiskEndsTheSession, and only the last one.
func TestTheLastDiskEndsTheSession(t *testing.T) {
	m := newMachine(t)
	const disks = "sys/devices/platform/host3/session1/target3:0:0/"
	if err := m.disconnect(t, first); err != nil {
		t.Fatal(err)
	}
	if a, b := m.read(t, disks+"3:0:0:1/delete"), m.read(t, disks+"3:0:0:2/delete"); a != "1" || b != "" {
		t.Errorf("deleted: first %q, second %q", a, b)
	}
	if ran := m.programs.Commands(); len(ran) > 0 {
		t.Errorf("ran %v", ran)
	}
	if err := os.RemoveAll(m.at(disks + "3:0:0:1")); err != nil {
		t.Fatal(err)
	}
	if err := m.disconnect(t, second); err == nil { // no program has an answer
		t.Error("there was no logout")
	}
	if ran := m.programs.Commands(); len(ran) != 1 || !strings.Contains(strings.Join(ran[0].Args, " "), "--logout") {
		t.Errorf("ran %v", ran)
	}
}

// TestWhatCannotBeReadIsNotAbsent: if the kernel cannot be asked which sessions and disks there are, none is ended: one that is
// not seen may be in use.
func TestWhatCannotBeReadIsNotAbsent(t *testing.T) {
	for _, path := range []string{
		"sys/class/iscsi_session/session1/targetname", "sys/class/iscsi_session/session1/state", "sys/class/iscsi_session/session1/device",
		"sys/devices/platform/host3/session1/target3:0:0", "sys/devices/platform/host3/session1/target3:0:0/3:0:0:2/block",
		"sys/devices/platform/host3/session1/target3:0:0/3:0:0:2/vpd_pg83",
	} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m := newMachine(t)
			if err := os.RemoveAll(m.at(path)); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(m.at(path), m.at(path)); err != nil { // to itself: ELOOP, as EMFILE or ENOMEM would be
				t.Fatal(err)
			}
			for _, wwid := range []string{first, second} {
				if err := m.disconnect(t, wwid); !errs.Is(err, errs.Unavailable) {
					t.Errorf("%s: got %v (%v), want unavailable", wwid, err, errs.KindOf(err))
				}
			}
			if k, err := m.claimed(iqn); err != nil || k == nil {
				t.Errorf("the claim: %v, %v", k, err)
			}
			for _, c := range m.programs.Commands() {
				t.Errorf("ran %s %v", c.Name, c.Args)
			}
		})
	}
}
