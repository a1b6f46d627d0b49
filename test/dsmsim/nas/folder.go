package nas

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/knfsd"
	"github.com/dozo-dev/dozo/test/dsmsim/smbd"
)

// folderPath is where a share is, or the snapshot of one, NAME@TIME.
func folderPath(volume, id string) string {
	if strings.Contains(id, "@") {
		return filepath.Join(volume, snapshotDir, id)
	}
	return filepath.Join(volume, id)
}

// SetFolder makes a share with its quota, and serves it by NFS and SMB to whom it is to be from now on.
func (p *Plane) SetFolder(f dsmsim.Folder) error {
	at := folderPath(f.Volume, f.ID)
	if _, err := os.Lstat(at); err != nil {
		if _, err := run("btrfs", "subvolume", "create", at); err != nil {
			return err
		}
		if err := os.Chmod(at, 0o777); err != nil { // rights are those of the rules
			return err
		}
	}
	limit := "none"
	if f.QuotaMB > 0 {
		limit = fmt.Sprintf("%dM", f.QuotaMB)
	}
	if _, err := run("btrfs", "qgroup", "limit", limit, at); err != nil {
		return err
	}
	id, err := fsid(at)
	if err != nil {
		return err
	}
	e := knfsd.Export{Path: at, FSID: id}
	// As exportfs does: a rule for an address goes before one for its network, and that before one for everybody.
	rules := slices.SortedStableFunc(slices.Values(f.Rules), func(a, b dsmsim.FolderRule) int {
		return cmp.Compare(network(b.Client).Bits(), network(a.Client).Bits())
	})
	for _, r := range rules {
		e.Rules = append(e.Rules, exportRule(r))
	}
	if err := p.nfs.Set(e); err != nil {
		return err
	}
	share := smbd.Share{Name: f.ID, Path: at, Hidden: f.Hidden}
	for _, u := range f.Users {
		share.Users = append(share.Users, smbd.User(u))
	}
	return p.smb.Set(share)
}

// CopyFolder makes a folder of what another one is now; a snapshot is served to nobody and cannot be written.
func (p *Plane) CopyFolder(f dsmsim.Folder, from string) error {
	source := p.find(func(volume string) string { return folderPath(volume, from) })
	if source == "" {
		return fmt.Errorf("no folder %s", from)
	}
	if err := p.RemoveFolder(f.ID); err != nil {
		return err
	}
	at := folderPath(f.Volume, f.ID)
	if strings.Contains(f.ID, "@") {
		_, err := run("btrfs", "subvolume", "snapshot", "-r", source, at)
		return err
	}
	if _, err := run("btrfs", "subvolume", "snapshot", source, at); err != nil {
		return err
	}
	return p.SetFolder(f)
}

// RemoveFolder removes a folder with what is in it. Who has it mounted has stale files.
func (p *Plane) RemoveFolder(id string) error {
	at := p.find(func(volume string) string { return folderPath(volume, id) })
	if at == "" {
		return nil
	}
	if err := errors.Join(p.nfs.Remove(at), p.smb.Remove(id)); err != nil {
		return err
	}
	_, err := run("btrfs", "subvolume", "delete", at)
	return err
}

var subvolumeUUID = regexp.MustCompile(`(?m)^\s+UUID:\s+([0-9a-f]{8})-`)

// fsid is the beginning of the subvolume's UUID: another share of the same name has another one.
func fsid(at string) (uint32, error) {
	out, err := run("btrfs", "subvolume", "show", at)
	if err != nil {
		return 0, err
	}
	found := subvolumeUUID.FindStringSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("btrfs subvolume show %s: no UUID in %q", at, out)
	}
	id, err := strconv.ParseUint(found[1], 16, 32)
	return max(uint32(id)&^(1<<31), 1), err // the upper half is of directories on the way
}

// Users of a NAS whom others become.
const (
	adminUID = 1024
	guestUID = 1025
	usersGID = 100
)

// exportRule translates a rule of DSM's.
func exportRule(r dsmsim.FolderRule) knfsd.Rule {
	rule := knfsd.Rule{Clients: network(r.Client).Contains, ReadOnly: r.ReadOnly, Async: r.Async, Insecure: r.Insecure, UID: adminUID, GID: usersGID}
	if r.Client == everybody {
		rule.Clients = func(netip.Addr) bool { return true }
	}
	if strings.HasSuffix(r.RootSquash, "guest") {
		rule.UID = guestUID
	}
	rule.SquashAll = strings.HasPrefix(r.RootSquash, "all_")
	rule.SquashRoot = r.RootSquash != "root" // which means that root stays root
	return rule
}

const everybody = "*"

// network reads whom a rule is for. Everybody is less than any network; a name is not resolved here, and fits nobody.
func network(client string) netip.Prefix {
	if n, err := netip.ParsePrefix(client); err == nil {
		return n
	}
	if one, err := netip.ParseAddr(client); err == nil {
		return netip.PrefixFrom(one.Unmap(), one.Unmap().BitLen())
	}
	return netip.Prefix{} // -1 bits
}
