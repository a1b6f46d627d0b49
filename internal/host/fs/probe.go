// Package fs makes, checks, grows and recognises file systems on block devices. It formats a device
// only if that is blank and, where the storage remembers such things, was never formatted before:
// everything it cannot tell for sure is a refusal.
package fs

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// content is what a probe found on a device.
type content struct {
	name string // as blkid calls it, "" for none or several things
	kind string // the file system's type; "" for none
	what string // anything else that is there, in words
	zero bool   // the first block is all zeros
}

// probeTimeout bounds a look at a device. A disk that answers later than that is not well.
const probeTimeout = 2 * time.Minute

// block is how much is read at a time to see whether the device answers at all.
const block = 64 << 10

// probe looks at what is on a device. An error means that it could not be told; it is never "blank".
func probe(ctx context.Context, h *host.Host, device string) (content, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// blkid says "nothing found" for a device that is missing or cannot be read, so it is read first,
	// from the medium, at the places where signatures are.
	first, err := readAround(ctx, h, device)
	if err != nil {
		return content{}, err
	}
	zero := strings.Trim(string(first[:4096]), "\x00") == ""
	out, err := h.Run(ctx, host.Cmd{
		Op: "probe.blkid", Reads: true, Name: "blkid", Args: []string{"-p", "-o", "export", "--", device}, Timeout: probeTimeout,
	})
	code, ran := host.ExitCode(err)
	switch {
	case !ran:
		return content{}, err
	case code == 2:
		return content{zero: zero}, nil
	case code == 8:
		return content{what: "signatures of several things at once (blkid: ambivalent)"}, nil
	case code != 0:
		return content{}, errs.E(errs.Unavailable, "probe %s: %w", device, err)
	}
	return parseProbe(string(out.Stdout)), nil
}

// Identity is what is on a device, for those who put something else there than a file system.
type Identity struct {
	Type  string // as blkid calls it, or in words; "": nothing that it knows
	Blank bool   // nothing is known there, and the first block is all zeros
}

// Identify looks at what is on a device, without changing it. An error means that it could not be told.
func Identify(ctx context.Context, h *host.Host, device string) (Identity, error) {
	c, err := probe(ctx, h, device)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{Type: c.name, Blank: c.zero && c.kind == "" && c.what == ""}
	if id.Type == "" {
		id.Type = c.what
	}
	return id, nil
}

func readAround(ctx context.Context, h *host.Host, device string) (first []byte, err error) {
	size, err := h.DeviceSize("probe.size", device)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "probe %s: %w", device, err)
	}
	if size < 2*block {
		return nil, errs.E(errs.Unavailable, "probe %s: it has %d bytes only", device, size)
	}
	last := (size - block) &^ 4095
	for _, off := range []int64{0, block, min(1<<20, last), size / 2 &^ 4095, last} {
		data, err := h.ReadDevice(ctx, "probe.read", device, off, block)
		if err != nil {
			return nil, err
		}
		if len(data) < 4096 {
			return nil, errs.E(errs.Unavailable, "probe %s: read %d bytes at %d", device, len(data), off)
		}
		if off == 0 {
			first = data
		}
	}
	return first, nil
}

func parseProbe(export string) content {
	found := map[string]string{}
	for line := range strings.Lines(export) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		found[key] = value
	}
	switch {
	case found["PTTYPE"] != "":
		return content{what: fmt.Sprintf("a partition table (%s)", found["PTTYPE"])}
	case found["USAGE"] == "filesystem" && found["TYPE"] != "":
		return content{name: found["TYPE"], kind: found["TYPE"]}
	case found["TYPE"] != "":
		return content{name: found["TYPE"], what: fmt.Sprintf("%s (%s)", found["TYPE"], found["USAGE"])}
	default:
		return content{what: "something that blkid has no type for"}
	}
}
