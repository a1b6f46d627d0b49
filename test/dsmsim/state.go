package dsmsim

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// state is what survives a restart.
type state struct {
	NodeUUID    string
	LUNs        []*lun
	Snapshots   []*snapshot
	Targets     []*target
	Shares      []*share
	NextLUN     int
	NextTarget  int
	Failures    map[string][]time.Time // failed logins by address
	Blocked     map[string]time.Time   // until when an address is
	NFS         nfsSettings
	NoSMB       bool                             // it is switched off
	Permissions map[string]map[string]permission // of a share, by kind and name
}

// Volume is a volume of the NAS.
type Volume struct {
	Path       string
	FileSystem string // "btrfs" or "ext4"
	Total      int64  // bytes
	Status     string // "": normal
	External   bool   // a USB disk
}

type lun struct {
	UUID, Name, Type, Location, Description string
	ID                                      int
	Size                                    int64
	Attrs                                   map[string]int
	LockedUntil, GoneAt                     time.Time
	Parent                                  string
}

type snapshot struct {
	UUID, Name, LUN, Description, TakenBy string
	ID                                    int
	Size                                  int64
	Locked                                bool
	Taken                                 time.Time
}

type target struct {
	ID                                         int
	Name, IQN                                  string
	AuthType, MaxSessions                      int
	User, Password, MutualUser, MutualPassword string
	Disabled                                   bool
	Mapped                                     map[string]int // LUN's UUID to index
}

type share struct {
	Name, UUID, Volume, Description string
	QuotaMB                         int64
	Checksums, RecycleBin, Hidden   bool
	Rules                           []map[string]any
	Snapshots                       []shareSnapshot
}

type shareSnapshot struct {
	Time, Description, RUUID string
	Locked                   bool
	QuotaMB                  int64
}

// stateFile is in Config.Dir.
const stateFile = "dsm.json"

// loadState reads the state of a NAS; without a directory the one before stays, as it was kept.
func loadState(dir string, before *state) (*state, error) {
	fresh := &state{NodeUUID: newUUID(), NextLUN: 1, NextTarget: 1, NFS: newNFSSettings(),
		Failures: map[string][]time.Time{}, Blocked: map[string]time.Time{}, Permissions: map[string]map[string]permission{}}
	if dir == "" && before != nil {
		return before, nil
	}
	if dir == "" {
		return fresh, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fresh, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(text, fresh); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
	}
	return fresh, nil
}

// save replaces the file at once: whoever kills the simulator finds the state before or after a call.
func (s *state) save(dir string) error {
	if dir == "" {
		return nil
	}
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, stateFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (s *state) addVirtualDisk(volume string, snapshots int) {
	l := &lun{UUID: newUUID(), Name: fmt.Sprintf("VMM.disk-%d", s.NextLUN), Type: "VDISK_BLUN", Location: volume, ID: s.NextLUN, Size: 1 << 30}
	s.LUNs = append(s.LUNs, l)
	s.NextLUN++
	for i := range snapshots {
		taken := time.Unix(int64(i)*3600, 0).UTC()
		s.Snapshots = append(s.Snapshots, &snapshot{UUID: newUUID(), Name: taken.Format(shareTimeForm), LUN: l.UUID, TakenBy: "scheduler", ID: i + 1, Size: l.Size, Taken: taken})
	}
}

// lun finds a LUN by UUID or name, nil if there is none.
func (s *state) lun(uuidOrName string) *lun {
	return find(s.LUNs, func(l *lun) bool { return l.UUID == uuidOrName || l.Name == uuidOrName })
}

func (s *state) snapshot(uuid string) *snapshot {
	return find(s.Snapshots, func(n *snapshot) bool { return n.UUID == uuid })
}

func (s *state) target(idOrName string) *target {
	return find(s.Targets, func(t *target) bool { return t.Name == idOrName || fmt.Sprint(t.ID) == idOrName })
}

func (s *state) share(name string) *share {
	return find(s.Shares, func(f *share) bool { return f.Name == name })
}

func find[T any](all []*T, is func(*T) bool) *T {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i]
	}
	return nil
}

func remove[T any](all []*T, one *T) []*T {
	return slices.DeleteFunc(all, func(t *T) bool { return t == one })
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
