package synology

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
)

// markFormat is the format of marks that this build writes, and the only one there is.
const markFormat = 1

// mark is what the description of a LUN, a snapshot or a share says: one line of JSON. It is short, since how much a
// description holds is not known; what is as usual is left out.
type mark struct {
	Format  int    `json:"dozo"`
	Cluster string `json:"cluster,omitempty"`
	Pool    string `json:"pool"`
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"` // if it is not the ID
	Copy    bool   `json:"copy,omitempty"` // a snapshot that lasts as long as volume ID is being copied from it

	backend.Source       // of a snapshot: the volume it is of
	Size           int64 `json:"size,omitempty"` // bytes, the least that it has to have: a copy begins with its source's

	Quota    string              `json:"quota,omitempty"` // "none": a share without; its size is just a number then
	Sync     bool                `json:"sync,omitempty"`  // of a share: writes are on disk before they are answered
	Allow    []string            `json:"allow,omitempty"` // networks that are admitted in place of nodes' addresses
	Users    []string            `json:"users,omitempty"` // of a share by SMB, who is served; empty: it is one by NFS
	Admitted map[string]admitted `json:"nodes,omitempty"` // nodes that a share is attached to
	From     string              `json:"from,omitempty"`  // what it was called before it was imported
	Raw      bool                `json:"raw,omitempty"`   // of a LUN: it was used as a block device, or what it is a copy of is raw
}

// admitted is how a node is admitted to a share.
type admitted struct {
	Addresses []string `json:"ip,omitempty"`
	ReadOnly  bool     `json:"ro,omitempty"`
}

const noQuota = "none"

// text is the mark as a description.
func (m mark) text() string {
	m.Format = markFormat
	if m.Name == m.ID {
		m.Name = ""
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return "" // of these types there is no value that cannot be encoded
	}
	return string(bytes.TrimSpace(b.Bytes()))
}

// parseMark reads a description. One that is none of ours, or of a later format, says nothing.
func parseMark(description string) (mark, bool) {
	var m mark
	if json.Unmarshal([]byte(description), &m) != nil || m.Format != markFormat {
		return mark{}, false
	}
	if _, err := backend.ParseID(m.ID); err != nil {
		return mark{}, false
	}
	if m.Name == "" {
		m.Name = m.ID
	}
	return m, true
}

// protocol is by what a volume with the mark is reached.
func (t thing) protocol() string {
	switch {
	case t.share == nil:
		return iscsi
	case len(t.mark.Users) > 0:
		return smb
	}
	return nfs
}

// isRaw reports whether what a LUN holds is its user's own business, so that it is never formatted.
func (m mark) isRaw() bool { return m.Raw || m.From != "" }

// with returns the mark with a node admitted.
func (m mark) with(node string, a admitted) mark {
	m.Admitted = maps.Clone(m.Admitted)
	if m.Admitted == nil {
		m.Admitted = map[string]admitted{}
	}
	m.Admitted[node] = a
	return m
}

// without returns the mark without a node, or without any if none is named.
func (m mark) without(node string) mark {
	if node == "" {
		m.Admitted = nil
		return m
	}
	m.Admitted = maps.Clone(m.Admitted)
	delete(m.Admitted, node)
	return m
}

// nodes are those that are admitted, sorted.
func (m mark) nodes() []string { return slices.Sorted(maps.Keys(m.Admitted)) }

// mark is that of a new volume.
func (b *Backend) mark(r backend.Request) mark {
	return mark{Cluster: b.opts.cluster, Pool: b.pool, ID: string(r.ID), Name: r.Name, Source: r.Source, Size: r.Size}
}

// owns reads the mark of what has the name of a volume or snapshot of this pool; false if it is somebody else's.
func (b *Backend) owns(description string) (mark, bool) {
	m, ok := parseMark(description)
	return m, ok && m.Pool == b.pool && m.Cluster == b.opts.cluster
}
