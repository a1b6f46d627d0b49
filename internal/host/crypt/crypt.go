// Package crypt puts LUKS2 between a block device and those who use it. A device is encrypted only if
// it is blank and was never formatted before, by the same rule as a file system is made; a key that does
// not open a device changes nothing.
//
// The volume key is handed to the kernel in the mapping itself and not in its keyring
// (--disable-keyring): so a mapping can be resized, and closed, without the passphrase, from what the node
// remembers. It gives nothing away: who can read the mapping is root, and can read the kernel's memory.
package crypt

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/fs"
)

// Timeout bounds each call of cryptsetup. A passphrase takes a second to be tried, by design.
const Timeout = 2 * time.Minute

// The exit statuses of cryptsetup that mean something to us; see cryptsetup(8).
const (
	exitNoKey    = 2 // no key slot opens with this passphrase
	exitNoDevice = 4
	exitBusy     = 5 // it is open, or a mapping of that name exists
)

// luksType is what blkid calls a LUKS header.
const luksType = "crypto_LUKS"

// Volume is a device with what is to be known about its encryption.
type Volume struct {
	Device   string
	Name     string // of the mapping: see [Name]
	Discard  bool   // pass discards on to the device
	ReadOnly bool   // change nothing: neither format, nor the passphrases
}

// Name is the name of a volume's mapping in /dev/mapper, a pure function of the volume's handle.
func Name(handle string) string { return "dozo-" + string(backend.IDFor(handle)) }

// Open makes what is behind a device's encryption a block device of its own and returns its path. It
// encrypts the device first if that is blank and was never formatted. It may be killed at any point and
// called again; one that is open already is found. errs.Invalid if the key does not open it,
// errs.InUse if there is something else on the device.
func Open(ctx context.Context, h *host.Host, v Volume, k Key, marks fs.Marks) (path string, err error) {
	path, err = Opened(h, v.Name, v.Device)
	if err != nil {
		return "", err
	}
	if path != "" { // it may have been opened before the device grew
		return path, Resize(ctx, h, v.Name)
	}
	backend.Progress(ctx, "open the encryption")
	if err := ensure(ctx, h, v, k, marks); err != nil {
		return "", err
	}
	if err := unlock(ctx, h, v, k); err != nil {
		return "", err
	}
	path, err = Opened(h, v.Name, v.Device)
	if err == nil && path == "" {
		err = errs.E(errs.Internal, "device %s: cryptsetup said that it opened it, and there is no mapping %s", v.Device, v.Name)
	}
	return path, err
}

// Opened returns the path of an open mapping, "" if there is none. errs.InUse if one of that name is of
// another device.
func Opened(h *host.Host, name, device string) (string, error) {
	path := h.Dev("mapper", name)
	number, err := h.DeviceNumber(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	below, err := h.DeviceNumber(device)
	if err != nil {
		return "", err
	}
	at := strconv.Itoa(number.Major) + ":" + strconv.Itoa(number.Minor)
	uuid, err := h.ReadFile("luks.uuid", h.Sys("dev", "block", at, "dm", "uuid"), 256)
	if err != nil {
		return "", errs.E(errs.Unavailable, "mapping %s: what it is cannot be told: %w", name, err)
	}
	slaves, err := h.ReadDir("luks.slaves", h.Sys("dev", "block", at, "slaves"))
	if err != nil {
		return "", errs.E(errs.Unavailable, "mapping %s: what is below it cannot be told: %w", name, err)
	}
	if !strings.HasPrefix(string(uuid), "CRYPT-LUKS2-") || len(slaves) != 1 || slaves[0].Name() != fs.DeviceName(h, below) {
		return "", errs.E(errs.InUse, "mapping %s: there is one of that name that is not LUKS2 on device %s; close it by hand: cryptsetup close %s", name, device, name)
	}
	return path, nil
}

// Resize makes an open mapping as large as its device is by now. It takes no key.
func Resize(ctx context.Context, h *host.Host, name string) error {
	_, err := cryptsetup(ctx, h, "luks.resize", nil, "resize", "--", name)
	return failed("mapping "+name, err)
}

// Close undoes Open; one that is not open is no error. errs.InUse while something has it open.
func Close(ctx context.Context, h *host.Host, name string) error {
	code, err := cryptsetup(ctx, h, "unstage.luks.close", nil, "close", "--", name)
	switch code {
	case exitNoDevice:
		return nil
	case exitBusy:
		return errs.E(errs.InUse, "mapping %s: it is mounted or open; see: lsblk /dev/mapper/%s; fuser -v /dev/mapper/%s", name, name, name)
	}
	return failed("mapping "+name, err)
}

// ensure makes a device one that is encrypted, if it is blank and never was anything else.
func ensure(ctx context.Context, h *host.Host, v Volume, k Key, marks fs.Marks) error {
	m, known, err := marks.Mark(ctx)
	if err != nil {
		return err
	}
	if !known {
		return errs.E(errs.Unsupported, "parameters[\"encryption\"]: its pool does not remember what was formatted, and without that encryption is not safe; use a pool of another kind")
	}
	c, err := fs.Identify(ctx, h, v.Device)
	if err != nil {
		return err
	}
	switch here := c.Type == luksType; {
	case m.FS == markLUKS && !m.Done: // begun, so nothing was ever in it
		if c.Type != "" && !here {
			return errs.E(errs.InUse, "device %s: its encryption was begun, and it holds %s, which Dozo did not make; it is left as it is", v.Device, c.Type)
		}
	case encrypted(m):
		if !here {
			return errs.E(errs.Internal, "device %s: was encrypted before and now shows no LUKS header; it will not be formatted again. Restore the header (cryptsetup luksHeaderRestore) or the volume from a snapshot, or delete the volume", v.Device)
		}
		return nil
	case m.FS == fs.Raw && !here:
		return errs.E(errs.InUse, "device %s: was used as a block device before, or imported, or is a copy of such a one, and shows no LUKS header; it is left as it is. Make a new volume, and copy the data", v.Device)
	case m.FS != "" && m.FS != fs.Raw:
		return errs.E(errs.InUse, "device %s: was used as %s without encryption before; it is left as it is. Make a new volume, and copy the data", v.Device, m.FS)
	case here:
		return nil // brought from elsewhere: the key has to open it
	case c.Type != "" || !c.Blank:
		return errs.E(errs.InUse, "device %s: is not encrypted, and is not blank (%s); it is left as it is. A copy of a volume that is not encrypted cannot be encrypted in place", v.Device, what(c.Type))
	default:
		if v.ReadOnly {
			break
		}
		if err := marks.SetMark(ctx, backend.Mark{FS: markLUKS}); err != nil {
			return err
		}
	}
	if v.ReadOnly {
		return errs.E(errs.InUse, "device %s: is blank, and is to be only read; use it once for writing", v.Device)
	}
	return format(ctx, h, v, k, marks)
}

func what(kind string) string {
	if kind == "" {
		return "its first 4 KiB are not zeros"
	}
	return kind
}

// format writes a LUKS header, whose mark is begun.
//
// The parameters keep a passphrase hard to guess and leave room for it where we run: cryptsetup takes up
// to 1 GiB of memory by default, of which a container has less.
func format(ctx context.Context, h *host.Host, v Volume, k Key, marks fs.Marks) error {
	backend.Progress(ctx, "encrypt")
	args := append([]string{"luksFormat", "--type", "luks2"}, derivation()...)
	if _, err := cryptsetup(ctx, h, "stage.luks.format", k.passphrase, append(args, "--key-file=-", "--", v.Device)...); err != nil {
		return failed("device "+v.Device, err)
	}
	if err := h.Do("stage.luks.sync", func() error { return syncDevice(v.Device) }); err != nil {
		return errs.E(errs.Unavailable, "device %s: sync: %w", v.Device, err)
	}
	c, err := fs.Identify(ctx, h, v.Device)
	if err != nil {
		return err
	}
	if c.Type != luksType {
		return errs.E(errs.Internal, "device %s: cryptsetup said it was done, and the device shows %q", v.Device, c.Type)
	}
	return marks.SetMark(ctx, backend.Mark{FS: markLUKS, Done: true})
}

// derivation is how a passphrase becomes a key: a second of work, 64 MiB of memory.
func derivation() []string {
	return []string{"--pbkdf", "argon2id", "--pbkdf-memory", "65536", "--pbkdf-parallel", "1", "--iter-time", "1000"}
}

func syncDevice(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// unlock opens the device with the passphrase. One that only the previous passphrase opens gets the new
// one first; where both open, the previous one is taken away.
func unlock(ctx context.Context, h *host.Host, v Volume, k Key) error {
	code, err := open(ctx, h, v, k.passphrase)
	if code == exitNoKey && k.previous != nil {
		if v.ReadOnly {
			code, err = open(ctx, h, v, k.previous)
		} else if code, err = addKey(ctx, h, v, k); err == nil {
			code, err = open(ctx, h, v, k.passphrase)
		}
	}
	if code == exitNoKey {
		return k.wrong(v.Device)
	}
	if err != nil || k.previous == nil || v.ReadOnly {
		return failed("device "+v.Device, err)
	}
	return removeKey(ctx, h, v, k)
}

func open(ctx context.Context, h *host.Host, v Volume, passphrase []byte) (code int, err error) {
	args := []string{"open", "--type", "luks2", "--disable-keyring"}
	if v.Discard {
		args = append(args, "--allow-discards")
	}
	if v.ReadOnly {
		args = append(args, "--readonly")
	}
	return cryptsetup(ctx, h, "stage.luks.open", passphrase, append(args, "--key-file=-", "--", v.Device, v.Name)...)
}

// addKey gives the device the new passphrase beside the previous one. Both go through one stream, which
// cryptsetup reads by their lengths.
func addKey(ctx context.Context, h *host.Host, v Volume, k Key) (code int, err error) {
	both := append(append([]byte(nil), k.previous...), k.passphrase...)
	args := append([]string{"luksAddKey"}, derivation()...)
	return cryptsetup(ctx, h, "stage.luks.addkey", both, append(args, "--key-file=-", "--keyfile-size", strconv.Itoa(len(k.previous)),
		"--new-keyfile-size", strconv.Itoa(len(k.passphrase)), "--", v.Device, "-")...)
}

// removeKey takes the previous passphrase away, of a device that the new one has opened.
func removeKey(ctx context.Context, h *host.Host, v Volume, k Key) error {
	code, err := cryptsetup(ctx, h, "stage.luks.removekey", k.previous, "luksRemoveKey", "--key-file=-", "--", v.Device)
	if code == exitNoKey {
		return nil // it is gone already
	}
	return failed("device "+v.Device, err)
}

// cryptsetup runs it and returns its exit status too, -1 if it did not end by itself. It takes no lock of
// its own, for which it wants to write below /run, that a container need not let it: whoever calls holds
// the volume's.
func cryptsetup(ctx context.Context, h *host.Host, op string, stdin []byte, args ...string) (code int, err error) {
	args = append([]string{"--batch-mode", "--disable-locks"}, args...)
	_, err = h.Run(ctx, host.Cmd{Op: op, Name: "cryptsetup", Args: args, Stdin: stdin, Timeout: Timeout})
	code, ran := host.ExitCode(err)
	if !ran {
		code = -1
	}
	return code, err
}

// failed is an error of cryptsetup that has no meaning of its own.
func failed(what string, err error) error {
	if _, ran := host.ExitCode(err); err == nil || !ran {
		return err
	}
	return errs.E(errs.Internal, "%s: %w", what, err)
}
