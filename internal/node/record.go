package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// The versions of [record] that this build writes: each record has the oldest that can hold it, so that
// the build before can go on with the others. All up to recordVersion are read.
const (
	plainRecord   = 1
	inlineRecord  = 2 // has Inline
	remoteRecord  = 3 // its Access is to storage outside of the node
	recordVersion = remoteRecord
)

// record is what this node did, or was about to do, to one volume. It is written before anything is
// done and removed after everything is undone.
type record struct {
	Version      int            `json:"version"`
	Volume       string         `json:"volume"`
	Boot         string         `json:"boot"` // the kernel's boot ID: mounts and devices do not outlive it
	Access       backend.Access `json:"access"`
	Staging      string         `json:"staging"`
	MadeStaging  bool           `json:"madeStaging,omitempty"` // its directory is ours to remove
	Block        bool           `json:"block,omitempty"`
	FSType       string         `json:"fsType,omitempty"` // as asked for
	MountOptions []string       `json:"mountOptions,omitempty"`
	ReadOnly     bool           `json:"readOnly,omitempty"`
	Device       string         `json:"device,omitempty"` // where it was connected last; none of a volume that is mounted from a server
	Targets      []target       `json:"targets,omitempty"`
	Inline       *inline        `json:"inline,omitempty"` // the volume is deleted when it is unpublished; Staging is its target
}

// target is a path at which the volume is published, or was about to be.
type target struct {
	Path     string `json:"path"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// maxRecord bounds a record's file, in bytes.
const maxRecord = 1 << 20

// parseRecord reads a record. What cannot be understood is an error and never an absent record: the
// volume may be mounted.
func parseRecord(data []byte) (*record, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, errs.E(errs.Internal, "the stage record is damaged: %w", err)
	}
	if version.Version < 1 || version.Version > recordVersion {
		return nil, errs.E(errs.Unavailable, "the stage record has version %d, this build reads 1 to %d; update Dozo on this node", version.Version, recordVersion)
	}
	var r record
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, errs.E(errs.Internal, "the stage record is damaged: %w", err)
	}
	if r.Volume == "" || !filepath.IsAbs(r.Staging) {
		return nil, errs.E(errs.Internal, "the stage record is damaged: it lacks the volume or the staging path")
	}
	if err := r.Access.Check(); err != nil {
		return nil, errs.E(errs.Internal, "the stage record is damaged: %w", err)
	}
	if r.Inline != nil && r.Access.Local == nil {
		return nil, errs.E(errs.Internal, "the stage record is damaged: a volume that was made for one pod is on the node, and this one is not")
	}
	if len(r.Targets) == 0 { // none is none: records are compared
		r.Targets = nil
	}
	if len(r.MountOptions) == 0 {
		r.MountOptions = nil
	}
	return &r, nil
}

func (n *Node) recordPath(volume string) string {
	return filepath.Join(n.opts.StateDir, string(backend.IDFor(volume))+".json")
}

// load returns a volume's record, or nil if there is none.
func (n *Node) load(volume string) (*record, error) {
	r, err := n.loadFile(n.recordPath(volume))
	if err == nil && r != nil && r.Volume != volume {
		err = errs.E(errs.Internal, "%s is the record of volume %q, not of %q", n.recordPath(volume), r.Volume, volume)
	}
	return r, err
}

func (n *Node) loadFile(path string) (*record, error) {
	data, err := n.host.ReadFile("record.read", path, maxRecord)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "stage record: %w", err)
	}
	r, err := parseRecord(data)
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "%s: %w", path, err)
	}
	return r, nil
}

// save stores a record, unless it is stored already.
func (n *Node) save(op string, r *record) error {
	if old, err := n.load(r.Volume); err == nil && reflect.DeepEqual(old, r) {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return errs.E(errs.Internal, "stage record: %w", err)
	}
	if err := n.host.WriteFile(op, n.recordPath(r.Volume), append(data, '\n'), 0o600); err != nil {
		return errs.E(errs.Unavailable, "stage record: %w", err)
	}
	return nil
}

// forget removes a volume's record, and what a save that was cut short left beside it.
func (n *Node) forget(op, volume string) error {
	if err := n.forgetLeft(op, volume); err != nil {
		return err
	}
	if err := n.host.Remove(op, n.recordPath(volume)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errs.E(errs.Unavailable, "stage record: %w", err)
	}
	return nil
}

// forgetLeft removes what a save that was cut short left.
func (n *Node) forgetLeft(op, volume string) error {
	left := n.recordPath(volume) + ".tmp"
	if _, err := os.Lstat(left); err != nil {
		return nil
	}
	if err := n.host.Remove(op+".left", left); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errs.E(errs.Unavailable, "stage record: %w", err)
	}
	return nil
}

// owner returns the volume, other than the one given, whose record claims a path; "" if none does.
func (n *Node) owner(path, but string) (string, error) {
	boot, err := n.boot()
	if err != nil {
		return "", err
	}
	records, err := n.records()
	if err != nil {
		return "", err
	}
	for _, r := range records {
		if r.Volume != but && r.Boot == boot && r.has(path) {
			return r.Volume, nil
		}
	}
	return "", nil
}

// records returns all records. One that is damaged is left out: it is reported when its volume is
// asked for.
func (n *Node) records() ([]*record, error) {
	all, _, err := n.readRecords()
	return all, err
}

// readRecords returns all records that can be read, and what is wrong with the others.
func (n *Node) readRecords() (all []*record, damaged, err error) {
	entries, err := n.host.ReadDir("record.list", n.opts.StateDir)
	if err != nil {
		return nil, nil, errs.E(errs.Unavailable, "stage records: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		r, err := n.loadFile(filepath.Join(n.opts.StateDir, e.Name()))
		damaged = errors.Join(damaged, err)
		if r != nil {
			all = append(all, r)
		}
	}
	return all, damaged, nil
}

// has reports whether path is one of the record's.
func (r *record) has(path string) bool {
	return r.Staging == path || r.target(path) != nil
}

func (r *record) target(path string) *target {
	i := slices.IndexFunc(r.Targets, func(t target) bool { return t.Path == path })
	if i < 0 {
		return nil
	}
	return &r.Targets[i]
}

func (r *record) drop(path string) {
	r.Targets = slices.DeleteFunc(r.Targets, func(t target) bool { return t.Path == path })
	if len(r.Targets) == 0 {
		r.Targets = nil
	}
}

// boot returns the ID of the time since the kernel started.
func (n *Node) boot() (string, error) {
	id, err := n.host.ReadFile("boot", n.host.Proc("sys", "kernel", "random", "boot_id"), 128)
	if err != nil {
		return "", errs.E(errs.Unavailable, "boot ID: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
