// Package lio serves block devices over iSCSI with the kernel's own target (LIO), by its configfs alone. It says what there
// has to be and may be told the same again: sessions stay as long as their target does.
package lio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// adapter is LIO's group of block devices ("iblock"). A file would do as well, but one that grows stays as large for LIO
// as it was at first.
const adapter = "iblock_0"

// LIO is the target of this kernel, of which there is one.
type LIO struct {
	root    configfs
	portals []string
}

// Target is one as it has to be.
type Target struct {
	IQN                        string
	Enabled                    bool
	User, Password             string // empty: who comes may log in
	MutualUser, MutualPassword string // empty: the target does not prove itself
	LUNs                       []LUN
}

// LUN is a block device in a target. Devices are known by their name to all targets that have them.
type LUN struct {
	Name    string
	Index   int
	Device  string
	Discard bool // the device has to be able to
	Identity
}

// Identity is what a device answers to an INQUIRY.
type Identity struct{ Vendor, Product, Revision, Serial string }

// Open returns the target below a directory ("/sys/kernel/config/target"), which needs the modules iscsi_target_mod and
// target_core_iblock. Targets are reached at the portals, each "address:port".
func Open(root string, portals ...string) (*LIO, error) {
	l := &LIO{configfs(root), portals}
	return l, errors.Join(l.root.mkdir("iscsi"), l.root.mkdir("core"))
}

func group(iqn string) string { return "iscsi/" + iqn + "/tpgt_1" }

// Set makes a target what it has to be. Whoever is logged in stays, sees LUNs come after a rescan, and gets errors from
// those that have gone.
func (l *LIO) Set(t Target) error {
	for _, lun := range t.LUNs {
		if err := l.setDevice(lun); err != nil {
			return fmt.Errorf("device %s: %w", lun.Name, err)
		}
	}
	at := group(t.IQN)
	if err := l.root.mkdir(at); err != nil {
		return err
	}
	// Without named initiators: who logs in gets an entry that sees all LUNs of the target and ends with the session.
	for name, value := range map[string]string{"generate_node_acls": "1", "demo_mode_write_protect": "0", "cache_dynamic_acls": "0"} {
		if err := l.root.set(at+"/attrib/"+name, value); err != nil {
			return err
		}
	}
	if err := l.setSecrets(t); err != nil {
		return err
	}
	if err := l.setLUNs(t); err != nil {
		return err
	}
	for _, portal := range l.portals {
		if err := l.root.mkdir(at + "/np/" + portal); err != nil {
			return err
		}
	}
	return l.root.set(at+"/enable", digit(t.Enabled))
}

// setSecrets concerns logins to come: who is logged in stays.
func (l *LIO) setSecrets(t Target) error {
	at := group(t.IQN)
	for _, s := range [...]struct{ name, value string }{
		{"password", t.Password}, {"userid", t.User}, {"password_mutual", t.MutualPassword}, {"userid_mutual", t.MutualUser}} {
		if s.value == "" {
			s.value = "NULL" // how LIO is told that there is none
		}
		if err := l.root.set(at+"/auth/"+s.name, s.value); err != nil {
			return err
		}
	}
	return l.root.set(at+"/attrib/authentication", digit(t.User != ""))
}

// setLUNs removes what is not to be there before it adds: a number may be another device's now.
func (l *LIO) setLUNs(t Target) error {
	at := group(t.IQN) + "/lun"
	there, err := l.luns(t.IQN)
	if err != nil {
		return err
	}
	wanted := map[int]string{}
	for _, lun := range t.LUNs {
		wanted[lun.Index] = lun.Name
	}
	for index, name := range there {
		if wanted[index] != name {
			if err := l.removeLUN(t.IQN, index); err != nil {
				return err
			}
		}
	}
	for index, name := range wanted {
		lun := fmt.Sprintf("%s/lun_%d", at, index)
		if there[index] == name {
			continue
		}
		if err := errors.Join(l.root.mkdir(lun), l.root.link(deviceDir(name), lun+"/"+linkName)); err != nil {
			return err
		}
	}
	return nil
}

// linkName is what the link from a LUN to its device is called.
const linkName = "device"

// luns returns the names of a target's devices by number, "" for one that was not finished.
func (l *LIO) luns(iqn string) (map[int]string, error) {
	at := group(iqn) + "/lun"
	dirs, err := l.root.list(at)
	luns := map[int]string{}
	for _, dir := range dirs {
		index, err := strconv.Atoi(strings.TrimPrefix(dir, "lun_"))
		if err != nil {
			return nil, fmt.Errorf("%s/%s is no LUN", at, dir)
		}
		to, err := os.Readlink(l.root.path(at + "/" + dir + "/" + linkName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		luns[index] = strings.TrimPrefix(filepath.Base(to), ".")
	}
	return luns, err
}

func (l *LIO) removeLUN(iqn string, index int) error {
	at := fmt.Sprintf("%s/lun/lun_%d", group(iqn), index)
	return errors.Join(l.root.remove(at+"/"+linkName), l.root.remove(at))
}

// Remove ends all sessions of a target and removes it. Its devices stay until Release.
func (l *LIO) Remove(iqn string) error {
	at := group(iqn)
	if !l.root.exists(at) {
		return l.root.remove("iscsi/" + iqn)
	}
	if err := l.root.set(at+"/enable", "0"); err != nil {
		return err
	}
	portals, err := l.root.list(at + "/np")
	if err != nil {
		return err
	}
	for _, portal := range portals {
		if err := l.root.remove(at + "/np/" + portal); err != nil {
			return err
		}
	}
	luns, err := l.luns(iqn)
	if err != nil {
		return err
	}
	for index := range luns {
		if err := l.removeLUN(iqn, index); err != nil {
			return err
		}
	}
	return errors.Join(l.root.remove(at), l.root.remove("iscsi/"+iqn))
}

// Targets lists all there are.
func (l *LIO) Targets() ([]string, error) {
	names, err := l.root.list("iscsi")
	return slices.DeleteFunc(names, func(n string) bool { return n == "discovery_auth" }), err
}

// Sessions returns the initiators that are logged in, each once per session.
func (l *LIO) Sessions(iqn string) ([]string, error) {
	text, err := l.root.read(group(iqn) + "/dynamic_sessions")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.FieldsFunc(text, func(r rune) bool { return r == 0 || r == '\n' }), err
}

// Admit lets new initiators in or keeps them out. Those that have a session keep it, and may come back to it.
func (l *LIO) Admit(iqn string, in bool) error {
	return l.root.set(group(iqn)+"/attrib/generate_node_acls", digit(in))
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
