package lio

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

func deviceDir(name string) string { return "core/" + adapter + "/" + name }

// setDevice makes a device known to LIO. Its serial number is written last and says that the rest was: what a process that
// died has left is finished by the next one.
func (l *LIO) setDevice(d LUN) error {
	at := deviceDir(d.Name)
	done, err := l.root.read(at + "/wwn/vpd_unit_serial")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !strings.HasSuffix(strings.TrimSpace(done), ": "+d.Serial) {
		if err := l.makeDevice(at, d); err != nil {
			return err
		}
	}
	// LIO's default is to promise writes that are durable when they are answered (FUA), and then it asks that only of devices that have it, which
	// loop devices have not (iblock_execute_rw): what a journal had flushed was lost with the machine. Without, initiators flush instead.
	return errors.Join(l.root.set(at+"/attrib/emulate_fua_write", "0"), l.root.set(at+"/attrib/emulate_tpu", digit(d.Discard)))
}

func (l *LIO) makeDevice(at string, d LUN) error {
	if err := l.root.mkdir(at); err != nil {
		return err
	}
	if on, err := l.root.read(at + "/enable"); err != nil || strings.TrimSpace(on) != "1" {
		if err := errors.Join(l.root.write(at+"/control", "udev_path="+d.Device), l.root.write(at+"/enable", "1")); err != nil {
			return err
		}
	}
	for _, s := range [...]struct{ name, value string }{
		{"alua/default_tg_pt_gp/alua_access_type", "1"}, // implicit only: TPGS=1, as a Synology has
		{"wwn/vendor_id", d.Vendor}, {"wwn/product_id", d.Product}, {"wwn/revision", d.Revision}, {"wwn/vpd_unit_serial", d.Serial}} {
		if err := l.root.write(at+"/"+s.name, s.value); err != nil {
			return err
		}
	}
	return nil
}

// Devices lists what LIO has open, in targets or not.
func (l *LIO) Devices() ([]string, error) {
	dirs, err := l.root.list("core/" + adapter)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return dirs, err
}

// Release closes a device unless a target has it: then it says so and is no error.
func (l *LIO) Release(name string) (released bool, err error) {
	err = l.root.remove(deviceDir(name))
	if errors.Is(err, unix.EBUSY) {
		return false, nil
	}
	return err == nil, err
}

// Close removes what LIO leaves when there is no device any more. It is no error if there are some.
func (l *LIO) Close() error {
	err := l.root.remove("core/" + adapter)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}
