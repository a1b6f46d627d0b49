package iscsi

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
)

// request is struct sg_io_hdr of scsi/sg.h.
type request struct {
	interfaceID                                       int32
	direction                                         int32
	commandLength, maxSense                           uint8
	vectors                                           uint16
	length                                            uint32
	data, command, sense                              unsafe.Pointer
	timeout                                           uint32 // milliseconds
	flags                                             uint32
	packet                                            int32
	user                                              unsafe.Pointer
	status, maskedStatus, messageStatus, senseWritten uint8
	hostStatus, driverStatus                          uint16
	rest                                              int32
	duration, info                                    uint32
}

const (
	sgIO       = 0x2285
	fromDevice = -3

	checkCondition = 2
	// inquiryTimeout is for a disk that works. One that does not is not waited for.
	inquiryTimeout = 10 * time.Second
)

// Identify asks a disk itself who it is: its WWID, "" if the target has no such disk any more. What the kernel
// has of it is from when it found the disk: the number may have been given to another one since.
// errs.Unavailable if there is no answer.
func (i *Initiator) Identify(ctx context.Context, d Disk) (wwid string, err error) {
	ctx, cancel := context.WithTimeout(ctx, inquiryTimeout)
	defer cancel()
	type answer struct {
		page []byte
		gone bool
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		a.err = i.host.Ask("iscsi.inquiry", func() error {
			a.page, a.gone, a.err = inquire(i.Path(d))
			return a.err
		})
		done <- a
	}()
	select {
	case a := <-done:
		if a.err != nil {
			return "", errs.E(errs.Unavailable, "disk %s: who it is: %w", d.Name, a.err)
		}
		if a.gone {
			return "", nil
		}
		return parseIdentification(a.page), nil
	case <-ctx.Done():
		return "", errs.E(errs.Unavailable, "disk %s: who it is: no answer: %w", d.Name, ctx.Err())
	}
}

// refuses reports whether sense data says that there is no such disk or page (SPC-4, 4.5: the key ILLEGAL REQUEST). All else,
// such as a target that is not ready yet, says nothing of who the disk is.
func refuses(sense []byte) bool {
	const fixed, descriptors, illegal = 0x70, 0x72, 5
	switch {
	case len(sense) > 2 && sense[0]&0x7e == fixed:
		return sense[2]&0x0f == illegal
	case len(sense) > 1 && sense[0]&0x7e == descriptors:
		return sense[1]&0x0f == illegal
	}
	return false
}

// inquire reads page 0x83. gone: the target answered that it has no such page, or no such disk.
func inquire(device string) (page []byte, gone bool, err error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	page = make([]byte, 1024)
	command := []byte{0x12, 1, identificationPage, byte(len(page) >> 8), byte(len(page)), 0} // INQUIRY, of a page
	sense := make([]byte, 32)
	r := request{
		interfaceID: 'S', direction: fromDevice, commandLength: uint8(len(command)), maxSense: uint8(len(sense)), length: uint32(len(page)),
		data: unsafe.Pointer(&page[0]), command: unsafe.Pointer(&command[0]), sense: unsafe.Pointer(&sense[0]), timeout: uint32(inquiryTimeout.Milliseconds()),
	}
	var pin runtime.Pinner // the kernel follows the pointers in it
	defer pin.Unpin()
	for _, p := range []unsafe.Pointer{r.data, r.command, r.sense} {
		pin.Pin(p)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), sgIO, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return nil, false, errno
	}
	const absent = 3 << 5 // the qualifier of a number that no disk has
	switch {
	case r.hostStatus != 0:
		return nil, false, errors.New("the target was not reached")
	case r.status == checkCondition && refuses(sense[:r.senseWritten]), r.status == 0 && page[0]&0xe0 == absent:
		return nil, true, nil
	case r.status != 0:
		return nil, false, errors.New("the target is not ready")
	}
	return page[:len(page)-int(r.rest)], false, nil
}
