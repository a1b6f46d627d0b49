package synology

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
)

// lunName is what a volume's LUN is called. IDs and pools are DNS labels, so it reads one way only, and has just what DSM
// takes in names of LUNs: letters, digits, '.', ':' and '-'.
func (b *Backend) lunName(id backend.ID) string { return "dozo." + b.pool + "." + string(id) }

// snapshotName is the same for a snapshot; DSM takes any.
func (b *Backend) snapshotName(id backend.ID) string { return b.lunName(id) }

// copyName is that of the snapshot from which a volume is cloned.
func (b *Backend) copyName(id backend.ID) string { return "dozo." + b.pool + ":copy." + string(id) }

const (
	sharePrefix = "dz-"
	// A share's name has 32 characters at most, in either case. 60 bits of a hash make it unique; as much of the ID as
	// fits is for people.
	maxShareSlug = 32 - len(sharePrefix) - 1 - shareHash
	shareHash    = 12
)

var lowerBase32 = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// shareName is what a volume's share is called.
func (b *Backend) shareName(id backend.ID) string {
	sum := sha256.Sum256([]byte(b.lunName(id)))
	slug := strings.TrimRight(string(id[:min(len(id), maxShareSlug)]), "-")
	return sharePrefix + slug + "-" + lowerBase32.EncodeToString(sum[:])[:shareHash]
}

const (
	// iqnPrefix is that of all targets of a Synology.
	iqnPrefix = "iqn.2000-01.com.synology:"
	// maxTarget keeps the IQN, which has iqnSuffix digits more, within 128 characters, to which other drivers cut it off.
	maxTarget = 90
	iqnSuffix = 8
)

// newIQN is that of a target that is made now. No two are the same: a node whose session outlived a target must not come
// back to the next one of that name, where its numbers are other LUNs'.
func newIQN(name string) string {
	random := make([]byte, iqnSuffix/2)
	rand.Read(random) // which never fails
	return iqnPrefix + strings.ToLower(name) + "." + hex.EncodeToString(random)
}

// wornMark is before the identity of a worn target in its name; no name of a node or volume has a capital. See
// [Backend.wear].
const wornMark = ".W"

var wornPart = regexp.MustCompile(`\.W[0-9]+(:|$)`)

// wornName is what a target is called that gets no more LUNs.
func (b *Backend) wornName(t dsm.Target) string {
	return strings.TrimSuffix(t.Name, b.targetTail()) + wornMark + strconv.FormatInt(int64(t.ID), 10) + b.targetTail()
}

// baseName is what a target was called before it was worn.
func baseName(target string) string { return wornPart.ReplaceAllString(target, "$1") }

// targetName is that of the target by which a node reaches its volumes, or one of them. With a cluster's ID a hash of it
// is in the name: a target has no description, and nodes of two clusters may have one name.
func (b *Backend) targetName(node string, id backend.ID) string {
	name := "dozo." + b.pool + "." + node
	if id != "" {
		name = "dozo." + b.pool + ":" + string(id) + "." + node
	}
	tail := b.targetTail()
	if len(name)+len(tail) > maxTarget {
		sum := sha256.Sum256([]byte(name))
		name = "dozo." + b.pool + ".:" + hex.EncodeToString(sum[:7])
	}
	return name + tail
}

func (b *Backend) targetTail() string {
	if b.opts.cluster == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(b.opts.cluster))
	return ":" + hex.EncodeToString(sum[:4])
}

// targetNames are those of the targets that a node may reach a volume by: its own and the volume's for it. The first is the
// one that is used.
func (b *Backend) targetNames(node string, id backend.ID) []string {
	names := []string{b.targetName(node, ""), b.targetName(node, id)}
	if b.opts.perVolume {
		names[0], names[1] = names[1], names[0]
	}
	return names
}

// isOfOneVolume reports whether a target is for one volume only, so that its number is that volume's for good.
func (b *Backend) isOfOneVolume(target string) bool {
	return strings.HasPrefix(target, "dozo."+b.pool+":")
}

// isOurTarget reports whether a target is of this pool, and of this cluster.
func (b *Backend) isOurTarget(name string) bool {
	rest, ours := strings.CutPrefix(name, "dozo."+b.pool)
	rest, here := strings.CutSuffix(rest, b.targetTail())
	if !ours || !here || rest == "" || !strings.ContainsRune(".:", rune(rest[0])) {
		return false
	}
	return !strings.Contains(strings.TrimLeft(rest, ".:"), ":")
}

// nodeOf says for people whose a target is: the node's name, or the target's if it cannot be read from it.
func (b *Backend) nodeOf(target string) string {
	target = baseName(target)
	rest, ours := strings.CutPrefix(strings.TrimSuffix(target, b.targetTail()), "dozo."+b.pool)
	if !ours || strings.HasPrefix(rest, ".:") {
		return "target " + target
	}
	if node, ok := strings.CutPrefix(rest, "."); ok {
		return "node " + node
	}
	_, node, _ := strings.Cut(rest, ".")
	return "node " + node
}
