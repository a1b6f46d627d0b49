package lvm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// The sorts of LV that a pool has.
const (
	volumeSort   = "volume"
	snapshotSort = "snapshot"
	copySort     = "copy" // a classic snapshot of LVM's, for as long as something is copied from it
)

// key says whose an LV is and what: the value of its tag "dozo".
type key struct {
	sort string
	pool string
	id   backend.ID
}

func (k key) tag() string { return k.sort + "/" + k.pool + "/" + string(k.id) }

func (k key) String() string { return k.tag() }

func parseKey(tag string) (key, bool) {
	part := strings.Split(tag, "/")
	if len(part) != 3 || !slices.Contains([]string{volumeSort, snapshotSort, copySort}, part[0]) {
		return key{}, false
	}
	id, err := backend.ParseID(part[2])
	return key{part[0], part[1], id}, err == nil
}

// maxMapperName is the longest name that the device mapper takes in bytes, less what LVM adds for parts
// of an LV ("_rimage_10_iorig-real").
const maxMapperName = 127 - 24

// lvName is the name of an LV in a group: a pure function, so that two who make the same meet. It is for
// people; who owns the LV is in its tags. The prefix keeps it off names that LVM reserves. The device
// mapper doubles hyphens and limits the length, so a long one is hashed.
func (k key) lvName(group string) string {
	name := "dozo." + k.pool + "." + string(k.id)
	if k.sort != volumeSort {
		name += "." + k.sort
	}
	if mapperLength(group)+1+mapperLength(name) <= maxMapperName {
		return name
	}
	sum := sha256.Sum256([]byte(k.tag()))
	return "dozo." + hex.EncodeToString(sum[:16])
}

func mapperLength(name string) int { return len(name) + strings.Count(name, "-") }

// maxGroupName leaves room for a hashed name beside it.
const maxGroupName = maxMapperName - 1 - len("dozo.") - 32

// facts are what tags say of an LV beside its key.
type facts struct {
	name     string
	source   backend.Source
	mark     backend.Mark
	group    backend.ID
	created  time.Time // of a snapshot: its instant
	limits   backend.Limits
	building bool   // it does not exist yet
	deleting bool   // it does not exist any more
	from     string // the name that it had before it was imported
}

// tags are those of an LV.
func (f facts) tags(k key) []string {
	tags := []string{vg.Tag + "=" + k.tag()}
	add := func(key, value string) { tags = append(tags, vg.Tag+"."+key+"="+value) }
	if f.name != "" && f.name != string(k.id) {
		add("name", encode(f.name))
	}
	switch {
	case f.source.Volume != "":
		add("source", volumeSort+"/"+string(f.source.Volume))
	case f.source.Snapshot != "":
		add("source", snapshotSort+"/"+string(f.source.Snapshot))
	}
	if f.mark != (backend.Mark{}) {
		add("mark", markText(f.mark))
	}
	if f.group != "" {
		add("group", string(f.group))
	}
	if !f.created.IsZero() {
		add("created", strconv.FormatInt(f.created.UnixNano(), 10))
	}
	if !f.limits.IsZero() {
		add("limits", limitsText(f.limits))
	}
	if f.from != "" {
		add("from", encode(f.from))
	}
	if f.building {
		add("building", "1")
	}
	if f.deleting {
		add("deleting", "1")
	}
	return tags
}

// markOf takes over the mark of what is copied, as it is in s: a node may have formatted it since it was looked up.
func (f *facts) markOf(from item, s *vg.State) {
	if l := s.LVs[from.lv.Name]; l != nil {
		copied := f.mark.Copied
		f.mark = parseFacts(l).mark
		f.mark.Copied = f.mark.Copied || copied
	}
}

// parseFacts reads what tags wrote. A tag that cannot be read counts as absent; for one that keeps an LV
// from being used (building, deleting) its presence is what counts.
func parseFacts(l *metadata.LV) facts {
	get := func(key string) string { v, _ := l.Tag(vg.Tag + "." + key); return v }
	f := facts{building: get("building") != "", deleting: get("deleting") != "", group: backend.ID(get("group")), from: decode(get("from"))}
	if k, ok := l.Tag(vg.Tag); ok {
		if parsed, ok := parseKey(k); ok {
			f.name = string(parsed.id)
		}
	}
	if n := get("name"); n != "" {
		f.name = decode(n)
	}
	sort, id, _ := strings.Cut(get("source"), "/")
	switch sort {
	case volumeSort:
		f.source.Volume = backend.ID(id)
	case snapshotSort:
		f.source.Snapshot = backend.ID(id)
	}
	f.mark, f.limits = parseMark(get("mark")), parseLimits(get("limits"))
	if n, err := strconv.ParseInt(get("created"), 10, 64); err == nil {
		f.created = time.Unix(0, n).UTC()
	}
	return f
}

// markText writes a mark as "ext4:done:copied", each part there or not.
func markText(m backend.Mark) string {
	s := encode(m.FS)
	if m.Done {
		s += ":done"
	}
	if m.Copied {
		s += ":copied"
	}
	return s
}

func parseMark(s string) (m backend.Mark) {
	part := strings.Split(s, ":")
	m.FS = decode(part[0])
	m.Done, m.Copied = slices.Contains(part[1:], "done"), slices.Contains(part[1:], "copied")
	return m
}

// limitsText writes limits as "read:write:reads:writes", the first two in bytes a second.
func limitsText(l backend.Limits) string {
	return fmt.Sprintf("%d:%d:%d:%d", l.ReadBPS, l.WriteBPS, l.ReadIOPS, l.WriteIOPS)
}

func parseLimits(s string) (l backend.Limits) {
	part := strings.Split(s, ":")
	for i, n := range []*int64{&l.ReadBPS, &l.WriteBPS, &l.ReadIOPS, &l.WriteIOPS} {
		if len(part) == 4 {
			*n, _ = strconv.ParseInt(part[i], 10, 64)
		}
	}
	return l
}

// encode writes any text in what LVM allows in tags (letters, digits and _+.-/=!:&#), with every other
// byte, and those that mean something here, as "#" and two hexadecimal digits.
func encode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_+.-/=", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "#%02x", c)
		}
	}
	return b.String()
}

func decode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '#' && i+2 < len(s) {
			if c, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.Write(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// addTags are the arguments that give a new LV its tags.
func addTags(tags []string) (args []string) {
	for _, t := range tags {
		args = append(args, "--addtag", t)
	}
	return args
}

// changes are the arguments of lvchange that make one set of tags another.
func changes(from, to []string) (args []string) {
	for _, t := range from {
		if !slices.Contains(to, t) {
			args = append(args, "--deltag", t)
		}
	}
	for _, t := range to {
		if !slices.Contains(from, t) {
			args = append(args, "--addtag", t)
		}
	}
	return args
}

// lockName is what [keylock] calls the lock of an LV of ours. That of a temporary snapshot is in no other name's way.
func (k key) lockName() string {
	switch k.sort {
	case volumeSort:
		return keylock.Volume(k.id).Alone[0]
	case snapshotSort:
		return keylock.Snapshot(k.id)
	default:
		return k.sort + " " + string(k.id)
	}
}

// lockAll takes locks of a pool in one order for everybody.
func lockAll(ctx context.Context, locks *host.LockFile, pool string, keys keylock.Keys) (unlock func(), err error) {
	take := map[string]func(context.Context, string) (func(), error){}
	for _, k := range keys.Shared {
		take[k] = locks.LockShared
	}
	for _, k := range keys.Alone {
		take[k] = locks.Lock
	}
	var unlocks []func()
	unlock = func() {
		for _, u := range slices.Backward(unlocks) {
			u()
		}
	}
	for _, k := range slices.Sorted(maps.Keys(take)) {
		u, err := take[k](ctx, pool+"/"+k)
		if err != nil {
			unlock()
			return nil, err
		}
		unlocks = append(unlocks, u)
	}
	return unlock, nil
}
