package iscsi

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Disk is a disk in a session.
type Disk struct {
	LUN     int
	Name    string // "sda", "" as long as the kernel is still looking at it
	WWID    string // that it had when the kernel last looked, which may be long ago; "" if it has none
	session Session
	dir     string // in sysfs
}

// Disks returns the disks that the kernel has in a session, whether they answer or not. errs.Unavailable if that cannot be
// told: whoever took it for none would end a session under disks that are in use.
func (i *Initiator) Disks(s Session) (all []Disk, err error) {
	targets, err := i.list(s.dir, "target")
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		found, err := i.list(target, "")
		if err != nil {
			return nil, err
		}
		for _, dir := range found {
			address := strings.Split(filepath.Base(dir), ":")
			lun, err := strconv.Atoi(address[len(address)-1])
			if err != nil || len(address) != 4 {
				continue
			}
			d, err := i.disk(Disk{LUN: lun, dir: dir, session: s})
			if err != nil {
				return nil, err
			}
			all = append(all, d)
		}
	}
	return all, nil
}

// disk completes what the kernel says of a disk.
func (i *Initiator) disk(d Disk) (Disk, error) {
	blocks, err := i.list(filepath.Join(d.dir, "block"), "")
	if err != nil {
		return d, err
	}
	if len(blocks) == 1 {
		d.Name = filepath.Base(blocks[0])
	}
	page, err := i.host.ReadFile("sysfs.read", filepath.Join(d.dir, "vpd_pg83"), 4096)
	if err != nil && !isGone(err) && !errors.Is(err, unix.EINVAL) { // which a disk without the page answers
		return d, errs.E(errs.Unavailable, "iSCSI: %w", err)
	}
	d.WWID = parseIdentification(page)
	return d, nil
}

// Path is its device file.
func (i *Initiator) Path(d Disk) string { return i.host.Dev(d.Name) }

// Alive reports whether the session of the disk works.
func (d Disk) Alive() bool { return d.session.Alive() }

// State is that of the disk as the kernel has it: "running", or a reason why it does not answer.
func (i *Initiator) State(d Disk) string { return i.attribute(d.dir, "state") }

// scanTimeout is how long a disk may take to be seen after its session was told to look for it.
const scanTimeout = 20 * time.Second

// Scan makes the kernel look for the disk of one number in a session, and returns it: errs.Unavailable if the
// target has none of that number for us.
func (i *Initiator) Scan(ctx context.Context, s Session, lun int) (Disk, error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	where := "0 " + i.targetID(s) + " " + strconv.Itoa(lun)
	if err := i.write(ctx, "iscsi.scan", i.host.Sys("class", "scsi_host", "host"+s.host, "scan"), where); err != nil {
		return Disk{}, err
	}
	for {
		d, there, err := i.find(s, lun)
		if err != nil {
			return Disk{}, err
		}
		if there && d.Name != "" {
			if i.opens(ctx, d) {
				return d, nil
			}
		}
		if !there { // it is looked at before the scan is over
			return Disk{}, errs.E(errs.Unavailable, "iSCSI %v: the target has no disk of number %d for this node", s, lun)
		}
		select {
		case <-ctx.Done():
			return Disk{}, errs.E(errs.Unavailable, "iSCSI %v: the disk of number %d cannot be opened as %s yet", s, lun, i.Path(d))
		case <-time.After(poll):
		}
	}
}

// opens reports whether a disk can be opened: it has its names a moment before that.
func (i *Initiator) opens(ctx context.Context, d Disk) bool {
	return i.unhurried(ctx, func() error {
		return i.host.Ask("iscsi.disk.open", func() error {
			f, err := os.OpenFile(i.Path(d), os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err == nil {
				f.Close()
			}
			return err
		})
	}) == nil
}

func (i *Initiator) find(s Session, lun int) (Disk, bool, error) {
	all, err := i.Disks(s)
	for _, d := range all {
		if d.LUN == lun {
			return d, true, err
		}
	}
	return Disk{}, false, err
}

// Rescan makes the kernel look at a disk anew, at its size for one.
func (i *Initiator) Rescan(ctx context.Context, d Disk) error {
	return i.write(ctx, "iscsi.rescan", filepath.Join(d.dir, "rescan"), "1")
}

// Delete takes a disk away from the kernel. One that is gone is no error. Whoever has it open is not asked: see
// [Initiator.InUse].
func (i *Initiator) Delete(ctx context.Context, d Disk) error {
	err := i.write(ctx, "iscsi.disk.delete", filepath.Join(d.dir, "delete"), "1")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Flush makes what the kernel holds of a disk durable.
func (i *Initiator) Flush(ctx context.Context, d Disk) error {
	return i.unhurried(ctx, func() error {
		return i.host.Do("iscsi.disk.flush", func() error {
			f, err := os.OpenFile(i.Path(d), os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Sync()
		})
	})
}

// InUse says in words who has a disk, or a device on it, in exclusive use; "" if nobody is seen to. A disk that
// does not answer cannot be opened to find out: then mounts, also of its file, and the devices on it are all that can be seen.
func (i *Initiator) InUse(ctx context.Context, d Disk) (by string, err error) {
	if d.Name == "" {
		return "", nil
	}
	mounts, err := i.host.MountsOf(i.Path(d))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", errs.E(errs.Unavailable, "disk %s: who has it mounted: %w", d.Name, err)
	}
	if len(mounts) == 0 {
		if mounts, err = i.host.BindsOf(i.Path(d)); err != nil {
			return "", errs.E(errs.Unavailable, "disk %s: who has its file mounted: %w", d.Name, err)
		}
	}
	if len(mounts) > 0 {
		return "it is mounted at " + mounts[0].MountPoint, nil
	}
	above, err := i.host.Holders(i.Path(d))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", errs.E(errs.Unavailable, "disk %s: what is on it: %w", d.Name, err)
	}
	if len(above) > 0 {
		return above[0] + " is on it", nil
	}
	if !d.session.Alive() {
		return "", nil
	}
	err = i.unhurried(ctx, func() error {
		return i.host.Ask("iscsi.disk.open", func() error {
			f, err := os.OpenFile(i.Path(d), os.O_RDONLY|os.O_EXCL|unix.O_NONBLOCK, 0)
			if err == nil {
				f.Close()
			}
			return err
		})
	})
	switch {
	case errors.Is(err, unix.EBUSY):
		return "something on the node has it open", nil
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM): // that is about us, and not about the disk
		return "", errs.E(errs.Unavailable, "disk %s: who has it open: %w", d.Name, err)
	}
	return "", nil
}

// write writes to a file of sysfs, which for a disk that does not answer may take long: then errs.Unavailable
// is returned when ctx ends, and the write is left behind.
func (i *Initiator) write(ctx context.Context, op, path, text string) error {
	err := i.unhurried(ctx, func() error {
		return i.host.Do(op, func() error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString(text)
			return err
		})
	})
	if err != nil {
		return errs.E(errs.Unavailable, "iSCSI: %s: %w", path, err)
	}
	return nil
}

// unhurried waits for something that may never end, until ctx does.
func (i *Initiator) unhurried(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errs.E(errs.Unavailable, "no answer: %w", ctx.Err())
	}
}

// The parts of a page of device identification (SPC-4, 7.8.6).
const (
	identificationPage = 0x83
	naaDesignator      = 3
	ofLogicalUnit      = 0
)

// parseIdentification returns the WWID in a page 0x83, as udev and multipath write it: "3" and the NAA identifier of
// the disk itself, the longest if there are several. "" if there is none.
func parseIdentification(page []byte) (wwid string) {
	if len(page) < 4 || page[1] != identificationPage {
		return ""
	}
	end := min(len(page), 4+(int(page[2])<<8|int(page[3])))
	for at := 4; at+4 <= end; {
		kind, of, size := page[at+1]&0x0f, page[at+1]>>4&3, int(page[at+3])
		if at+4+size > end {
			break
		}
		if found := "3" + hex.EncodeToString(page[at+4:at+4+size]); kind == naaDesignator && of == ofLogicalUnit && len(found) > max(len(wwid), 1) {
			wwid = found
		}
		at += 4 + size
	}
	return wwid
}
