package pool

import "github.com/dozo-dev/dozo/internal/errs"

// headerSize is what the LUKS2 header of an encrypted volume takes of it, in bytes.
const headerSize = 16 << 20

// leastFor is what a file system needs at least, in bytes. On a smaller volume no pod would ever start.
func leastFor(fileSystem string) int64 {
	switch fileSystem {
	case "", "ext4":
		return 4 << 20 // mkfs.ext4 makes none without room for a journal, and one without is not safe to crash
	case "xfs":
		return 300 << 20 // mkfs.xfs refuses less since 5.19
	case "btrfs":
		return 128 << 20 // mkfs.btrfs refuses less than 109 MiB
	}
	return 0
}

// leastForAll is what the file system that needs most of all needs, and which that is.
func leastForAll(fileSystems []string) (least int64, which string) {
	for _, fileSystem := range fileSystems {
		if n := leastFor(fileSystem); n > least {
			least, which = n, fileSystem
		}
	}
	return least, which
}

// required is what is asked for, or more if what is to be on the volume needs more. errs.OutOfRange if the limit does
// not allow that.
func (r VolumeRequest) required(encrypted bool) (int64, error) {
	least, what := leastForAll(r.FileSystems)
	if encrypted {
		least = max(least+headerSize, 2*headerSize)
	}
	switch {
	case r.Limit > 0 && r.Limit < least && r.Required >= 0:
		return 0, errs.E(errs.OutOfRange, "capacity_range.limit_bytes: %d is less than the %d that a volume needs for %s", r.Limit, least, need(what, encrypted))
	case r.Required <= 0: // as large as its source, or the default, which is enough
		return r.Required, nil
	}
	return max(r.Required, least), nil
}

// Smallest is the least limit with which Create finds a size for a volume with file systems, in bytes.
func (p *Pool) Smallest(fileSystems []string) int64 {
	least, _ := leastForAll(fileSystems)
	least = max(least, p.kind.MinSize, 1)
	unit := p.kind.Granularity
	return (least + unit - 1) / unit * unit
}

// need names what a volume is for.
func need(fileSystem string, encrypted bool) string {
	switch {
	case fileSystem == "" && encrypted:
		return "encryption"
	case fileSystem == "":
		return "ext4"
	case encrypted:
		return fileSystem + " and encryption"
	}
	return fileSystem
}
