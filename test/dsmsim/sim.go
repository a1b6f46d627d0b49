package dsmsim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Config says what kind of NAS to simulate. The zero value of each field is what a NAS has out of the box.
type Config struct {
	Dir      string // where its state is kept; empty: in memory
	Plane    Plane  // where its data is; nil: a Memory
	Hostname string // "nas"
	Address  string // of its network interface: "127.0.0.1"
	Model    Model  // the zero value: a DS918+
	Accounts []Account
	Volumes  []Volume // none: /volume1, btrfs, and /volume2, ext4, of 1 TiB each
	Now      func() time.Time

	CSRF          bool          // "Improve protection against cross-site request forgery": calls need the SynoToken
	NeedCookie    bool          // as DSM 7.1.1: _sid alone is no session
	AnyAddress    bool          // sessions are not bound to the address that logged in
	IdleTimeout   time.Duration // 0: 15 minutes
	BlockAfter    int           // failed logins within five minutes; 0: 3
	CreateLock    time.Duration // how long a new LUN is action-locked
	CloneLock     time.Duration // and a copy
	DeleteLag     time.Duration // how long a deleted LUN is still there
	VirtualDisks  int           // LUNs of virtual machines that are there from the start, and count
	Scheduled     int           // snapshots of each of them that a schedule of DSM's took
	ForgetQuota   bool          // a cloned share has no quota
	WholeNFS      bool          // as DSM 7.3: settings of NFS are set all at once
	ShortText     int           // bytes that descriptions are cut off after; 0: they are not. Assumed: how long one may be is not known
	LoginVersions [2]int        // lowest and highest; 0: 1 and 7
}

// Model is what a NAS allows.
type Model struct {
	Name, Firmware, Serial             string
	LUNs, Targets                      int
	SnapshotsPerLUN, SnapshotsPerShare int
	Shares                             int
}

// Models are classes of NAS by what they allow, which is how models differ most. The ceilings are Synology's; which model has
// which is assumed, except for the DS218play and the DS425+.
func Models() map[string]Model {
	model := func(name string, luns, targets int) Model {
		return Model{Name: name, Firmware: "DSM 7.1.1-42962 Update 9", Serial: "1780PDN000000", LUNs: luns, Targets: targets,
			SnapshotsPerLUN: 256, SnapshotsPerShare: 1024, Shares: 512}
	}
	return map[string]Model{"top": model("top", 512, 256), "large": model("large", 256, 128), "medium": model("DS918+", 128, 64),
		"small": model("DS218play", 10, 10), "value": model("DS425+", 4, 2)}
}

// Account is a user of the NAS.
type Account struct {
	Name, Password string
	Guest          bool   // not in the group administrators: may not even log in
	Disabled       bool   //
	OTP            string // the one-time code that is right now; empty: no second factor
	Devices        map[string]string
}

// Sim is one simulated NAS.
type Sim struct {
	cfg   Config
	plane Plane
	apis  map[string]api

	mu       sync.Mutex
	state    *state
	sessions map[string]*session
	faults   []*Fault
	calls    map[string]int
	given    []string // sessions, tokens and devices
}

// New returns a NAS with the state that is in the directory, if there is one.
func New(cfg Config) (*Sim, error) {
	s := &Sim{cfg: cfg.complete(), sessions: map[string]*session{}, calls: map[string]int{}}
	s.plane = s.cfg.Plane
	s.apis = apis()
	return s, s.boot()
}

func (c Config) complete() Config {
	if c.Plane == nil {
		c.Plane = NewMemory()
	}
	if c.Hostname == "" {
		c.Hostname = "nas"
	}
	if c.Address == "" {
		c.Address = "127.0.0.1"
	}
	if c.Model == (Model{}) {
		c.Model = Models()["medium"]
	}
	if len(c.Volumes) == 0 {
		c.Volumes = []Volume{{Path: "/volume1", FileSystem: "btrfs", Total: 1 << 40}, {Path: "/volume2", FileSystem: "ext4", Total: 1 << 40}}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 15 * time.Minute
	}
	if c.BlockAfter == 0 {
		c.BlockAfter = 3
	}
	if c.LoginVersions == [2]int{} {
		c.LoginVersions = [2]int{1, 7}
	}
	return c
}

// Restart is a reboot: sessions are gone, and everything else is as it was kept.
func (s *Sim) Restart() error { return errors.Join(s.PowerOff(), s.PowerOn()) }

// PowerOff ends what the NAS serves, iSCSI and NFS. The port of its Web API is the Server's to stop.
func (s *Sim) PowerOff() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
	if p, ok := s.plane.(Power); ok {
		return p.PowerOff()
	}
	return nil
}

// PowerOn is the boot after a PowerOff.
func (s *Sim) PowerOn() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.plane.(Power); ok {
		if err := p.PowerOn(); err != nil {
			return err
		}
	}
	return s.boot()
}

// boot reads the state, and exports again what was exported.
func (s *Sim) boot() error {
	clear(s.sessions)
	state, err := loadState(s.cfg.Dir, s.state)
	if err != nil {
		return err
	}
	s.state = state
	for len(state.LUNs) < s.cfg.VirtualDisks {
		state.addVirtualDisk(s.cfg.Volumes[0].Path, s.cfg.Scheduled)
	}
	for _, t := range state.Targets {
		if err := s.export(t); err != nil {
			return fmt.Errorf("export target %s: %w", t.Name, err)
		}
	}
	for _, f := range state.Shares {
		if err := s.plane.SetFolder(s.folder(f)); err != nil {
			return fmt.Errorf("export share %s: %w", f.Name, err)
		}
	}
	if p, ok := s.plane.(Settler); ok {
		if err := p.Settle(); err != nil {
			return err
		}
	}
	return state.save(s.cfg.Dir)
}

// Calls returns how often each "API.method" was called since the start or ResetCalls, refused ones
// and those with a fault too.
func (s *Sim) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// ResetCalls begins to count anew.
func (s *Sim) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.calls)
}

// Things lists what is on the NAS: LUNs with their snapshots, targets with what is mapped into them, and shares.
func (s *Sim) Things() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.state.LUNs {
		all = append(all, "LUN "+l.Name)
	}
	for _, n := range s.state.Snapshots {
		all = append(all, "snapshot "+n.Name+" of LUN "+n.LUN)
	}
	for _, t := range s.state.Targets {
		all = append(all, fmt.Sprintf("target %s with %d LUNs", t.Name, len(t.Mapped)))
	}
	for _, f := range s.state.Shares {
		all = append(all, "share "+f.Name)
		for _, n := range f.Snapshots {
			all = append(all, "snapshot "+n.Time+" of share "+f.Name)
		}
	}
	return all
}

// SetCSRF switches the protection against cross-site requests, as an administrator does.
func (s *Sim) SetCSRF(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.CSRF = on
}

// SetPassword changes an account's password.
func (s *Sim) SetPassword(account, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.cfg.Accounts {
		if s.cfg.Accounts[i].Name == account {
			s.cfg.Accounts[i].Password = password
		}
	}
}

// ExpireSessions ends all sessions, as a restart of DSM's web server does.
func (s *Sim) ExpireSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
}

// Sessions returns how many sessions there are.
func (s *Sim) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Secrets returns all sessions, tokens and devices that were ever given, for a test to look for.
func (s *Sim) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.given)
}
