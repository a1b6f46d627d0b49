package dsmsim

import (
	"fmt"
	"strings"
	"sync"
)

// Plane is where the data of a simulated NAS is, and how it is reached. Its methods are idempotent: after a
// restart the NAS says again what there is to be exported. The simulator calls one at a time.
//
// One with real data keeps images as files on a btrfs volume (cp --reflink is a snapshot), serves them with LIO as
// iblock over loop devices (fileio does not grow), gives each backstore the identity in ExportedLUN, reads
// sessions from tpgt_1/dynamic_sessions, and makes shares subvolumes with a qgroup limit, exported by knfsd and smbd.
type Plane interface {
	Images
	Targets
	Folders
}

// Images keeps what is in LUNs and snapshots.
type Images interface {
	CreateImage(i Image) error
	ResizeImage(id string, size int64) error // larger, while it is in use
	CopyImage(i Image, from string) error    // as it is now, with the writes that were acknowledged
	DeleteImage(id string) error
}

// Image is the data of a LUN or a snapshot.
type Image struct {
	ID     string // UUID of the LUN or snapshot
	Volume string // "/volume1"
	Size   int64  // bytes
	Thin   bool
}

// Targets serves images over iSCSI.
type Targets interface {
	SetTarget(e Export) error // all of the target; sessions stay
	RemoveTarget(iqn string) error
	Sessions(iqn string) ([]Session, error)
}

// Export is an iSCSI target as it has to be.
type Export struct {
	IQN                        string
	Enabled                    bool
	MaxSessions                int    // 0: any number. LIO has no such limit: see docs/design/0004-synology.md
	User, Password             string // empty: no CHAP
	MutualUser, MutualPassword string
	LUNs                       []ExportedLUN
}

// ExportedLUN is an image in a target.
type ExportedLUN struct {
	Image   string
	Index   int // from 1
	Serial  string
	Discard bool // emulate_tpu
}

// Vendor, Product and Revision are what every LUN of a Synology answers to an INQUIRY.
const (
	Vendor   = "SYNOLOGY"
	Product  = "Storage"
	Revision = "4.0"
)

// serial is what has to be written to LIO's vpd_unit_serial for the WWID that a Synology shows for a UUID.
func serial(uuid string) string { return strings.ReplaceAll(uuid, "-", "d") }

// Session is an initiator that has logged in.
type Session struct{ IQN, IP string }

// Folders serves shares over NFS and SMB.
type Folders interface {
	SetFolder(f Folder) error
	CopyFolder(f Folder, from string) error // the folder or the snapshot of one
	RemoveFolder(id string) error
}

// Folder is a share, or a snapshot of one, which nobody is served.
type Folder struct {
	ID      string // the share's name, or NAME@TIME
	Volume  string
	QuotaMB int64        // 0: none
	Rules   []FolderRule // of NFS
	Users   []FolderUser // whom it is served to by SMB
	Hidden  bool         // from those who list the shares of SMB
}

// FolderUser is a user of SMB with a permission for a share.
type FolderUser struct {
	Name, Password string
	ReadOnly       bool
}

// FolderRule is whom a share is served to.
type FolderRule struct {
	Client     string // address, CIDR or *
	ReadOnly   bool
	RootSquash string // DSM's word
	Async      bool
	Insecure   bool
}

// Power is what a Plane can have: a restart of the NAS then ends all that it serves, before that is said again. The end of the
// simulator's process does not.
type Power interface {
	PowerOff() error // all service ends at once; data stays
	PowerOn() error  // what there has to be is said next
}

// Settler is what a Plane can have that outlives the simulator's process: it is told once all has been said that there has to
// be, and takes down the rest, which a process before this one began and did not note.
type Settler interface{ Settle() error }

// Memory is a Plane without data: it knows what there is, and who is logged in.
type Memory struct {
	mu       sync.Mutex
	images   map[string]Image
	exports  map[string]Export
	sessions map[string][]Session
	folders  map[string]Folder
}

// NewMemory returns an empty one.
func NewMemory() *Memory {
	return &Memory{images: map[string]Image{}, exports: map[string]Export{}, sessions: map[string][]Session{}, folders: map[string]Folder{}}
}

// CreateImage notes an image.
func (m *Memory) CreateImage(i Image) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.images[i.ID] = i
	return nil
}

// ResizeImage notes its size.
func (m *Memory) ResizeImage(id string, size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := m.images[id]
	if !ok {
		return fmt.Errorf("no image %s", id)
	}
	i.Size = size
	m.images[id] = i
	return nil
}

// CopyImage notes an image, whose source has to be there.
func (m *Memory) CopyImage(i Image, from string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.images[from]; !ok {
		return fmt.Errorf("no image %s", from)
	}
	m.images[i.ID] = i
	return nil
}

// DeleteImage forgets an image.
func (m *Memory) DeleteImage(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.images, id)
	return nil
}

// SetTarget notes a target.
func (m *Memory) SetTarget(e Export) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.exports[e.IQN] = e
	return nil
}

// RemoveTarget forgets a target and its sessions.
func (m *Memory) RemoveTarget(iqn string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.exports, iqn)
	delete(m.sessions, iqn)
	return nil
}

// Sessions returns who logged in.
func (m *Memory) Sessions(iqn string) ([]Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[iqn], nil
}

// Login is an initiator that logs in: refused if there is no such target, or it has as many as it takes.
func (m *Memory) Login(iqn string, s Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.exports[iqn]
	switch {
	case !ok || !e.Enabled:
		return fmt.Errorf("no target %s", iqn)
	case e.MaxSessions > 0 && len(m.sessions[iqn]) >= e.MaxSessions:
		return fmt.Errorf("target %s takes no more than %d sessions", iqn, e.MaxSessions)
	}
	m.sessions[iqn] = append(m.sessions[iqn], s)
	return nil
}

// Export returns a target as it is served.
func (m *Memory) Export(iqn string) (Export, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.exports[iqn]
	return e, ok
}

// Images returns how many images there are, of LUNs and snapshots.
func (m *Memory) Images() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.images)
}

// SetFolder notes a share.
func (m *Memory) SetFolder(f Folder) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.folders[f.ID] = f
	return nil
}

// CopyFolder notes a share, whose source has to be there.
func (m *Memory) CopyFolder(f Folder, from string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.folders[from]; !ok {
		return fmt.Errorf("no folder %s", from)
	}
	m.folders[f.ID] = f
	return nil
}

// RemoveFolder forgets a share.
func (m *Memory) RemoveFolder(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.folders, id)
	return nil
}

// Folder returns a share as it is served.
func (m *Memory) Folder(id string) (Folder, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.folders[id]
	return f, ok
}
