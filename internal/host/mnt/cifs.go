package mnt

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// The keys of a secret with a login, as other drivers of SMB have them.
const (
	SecretUser     = "username"
	SecretPassword = "password"
	SecretDomain   = "domain" // may be absent
)

// maxLogin bounds each of them in bytes: a line of what mount.cifs reads, and the kernel, take more.
const maxLogin = 255

// Login is who mounts a file system by SMB. It shows nothing of itself when it is printed.
type Login struct{ user, password, domain string }

// String is [fmt.Stringer].
func (Login) String() string { return "(secret)" }

// GoString is [fmt.GoStringer].
func (Login) GoString() string { return "(secret)" }

// LoginFrom returns what is in a secret. errs.Invalid names what is missing or cannot be, and nothing of its value.
func LoginFrom(secrets map[string]string) (Login, error) {
	value := func(key string) string { return strings.TrimRight(secrets[key], "\r\n") } // of a file that somebody made a Secret of
	for _, key := range []string{SecretUser, SecretPassword, SecretDomain} {
		v := value(key)
		switch {
		case v == "" && key != SecretDomain:
			return Login{}, errs.E(errs.Invalid, "secrets[%q]: missing; the volume is mounted by SMB, so its storage class has to name a Secret with the login: csi.storage.k8s.io/node-stage-secret-name and -namespace", key)
		case len(v) > maxLogin:
			return Login{}, errs.E(errs.Invalid, "secrets[%q]: is longer than %d bytes", key, maxLogin)
		case strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return Login{}, errs.E(errs.Invalid, "secrets[%q]: has a line break or another control character", key)
		case key != SecretPassword && strings.ContainsAny(v, ",%/\\"): // which would be options, or read as two
			return Login{}, errs.E(errs.Invalid, "secrets[%q]: has a comma, a percent sign or a slash; a domain has a key of its own: %s", key, SecretDomain)
		}
	}
	return Login{value(SecretUser), value(SecretPassword), value(SecretDomain)}, nil
}

// credentials is what mount.cifs reads, see mount.cifs(8).
func (l Login) credentials() []byte {
	text := "username=" + l.user + "\npassword=" + l.password + "\n"
	if l.domain != "" {
		text += "domain=" + l.domain + "\n"
	}
	return []byte(text)
}

// cifsDefaults are options that are in force unless others of their keys are asked for:
//
//	vers       the newest, which both sides sign and prove (pre-authentication); an older one is asked for by name
//	hard       a server that is away is waited for, as with NFS; else writes that it has not got are lost
//	file_mode  the server knows one user, so the modes that it keeps say nothing: whoever has the volume may use it, and
//	dir_mode   fsGroup, which cannot be set here, is not needed
//	mfsymlinks symbolic links, which are files on the server
func cifsDefaults() []string {
	return []string{"vers=3.1.1", "hard", "file_mode=0777", "dir_mode=0777", "mfsymlinks"}
}

func withDefaults(words []string) []string {
	key := func(word string) string {
		k, _, _ := strings.Cut(word, "=")
		if k == "soft" {
			return "hard"
		}
		return k
	}
	return slices.DeleteFunc(cifsDefaults(), func(word string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return key(w) == key(word) })
	})
}

// MountCIFS mounts a file system by SMB at the place, an empty directory, and verifies it in the mount table. A program
// does it, which can be killed when the server is away: errs.Unavailable. errs.Invalid if the server refuses the login, or the
// one who logs in.
//
// The program gets the login from its standard input: there is nothing of it in its arguments or its environment, and there is
// no file.
func MountCIFS(ctx context.Context, h *host.Host, op string, p *Place, fs NetFS, l Login) (*host.MountInfo, error) {
	options, err := ParseOptions("mount_options", fs.Words)
	if err != nil {
		return nil, err
	}
	words := append([]string{"credentials=/proc/self/fd/0"}, withDefaults(options.words())...)
	words = withReadOnly(append(words, options.words()...), fs.ReadOnly || options.ReadOnly)
	_, err = p.mountNet(ctx, h, fs.Source, "cifs", host.Cmd{Op: op, Name: "mount.cifs", Stdin: l.credentials()}, words)
	if err == nil {
		return p.FinishCIFS(op+".attributes", fs)
	}
	if _, ran := host.ExitCode(err); !ran {
		return nil, err
	}
	switch mountErrno(err) {
	case unix.EACCES, unix.EPERM, unix.ENOKEY, unix.EKEYEXPIRED, unix.EKEYREVOKED, unix.EKEYREJECTED:
		return nil, errs.E(errs.Invalid, "secrets[%q], secrets[%q]: mount %s: %w: the password is wrong, the account is disabled or blocked, or it has no permission for the share; "+
			"the Secret is the one that the storage class names as csi.storage.k8s.io/node-stage-secret-name: %w", SecretUser, SecretPassword, fs.Source, errRefused, err)
	case unix.EINVAL:
		return nil, errs.E(errs.Invalid, "mount_options: %q: mount.cifs or the kernel refuses them (the kernel's log says which): %w", fs.Words, err)
	}
	return nil, errs.E(errs.Unavailable, "mount %s at %s: %w", fs.Source, p.path, err)
}

// FinishCIFS does the last step of MountCIFS again, which the end of the process may have prevented: properties of the mount
// itself, such as noatime, mount.cifs passes over or refuses.
func (p *Place) FinishCIFS(op string, fs NetFS) (*host.MountInfo, error) {
	options, err := ParseOptions("mount_options", fs.Words)
	if err != nil {
		return nil, err
	}
	err = p.host.Do(op, func() error {
		at, err := p.open()
		if err != nil {
			return err
		}
		defer at.Close()
		return setAttributes(at, options, false)
	})
	if err != nil {
		return nil, errs.E(errs.Internal, "%s: %s: mount options %q: %w", p.field, p.path, fs.Words, err)
	}
	m, err := p.Mounted()
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, p.notInTable()
	}
	return m, options.verify(p, m, fs.ReadOnly || options.ReadOnly)
}

// words are those for the file system, as they were given.
func (o Options) words() (all []string) {
	for _, d := range o.data {
		if d.flag {
			all = append(all, d.key)
		} else {
			all = append(all, d.key+"="+d.value)
		}
	}
	return all
}

// errRefused is in the error about a login that the server does not let in.
var errRefused = errors.New("the server refuses this login")

var mountError = regexp.MustCompile(`mount error\((\d+)\)`)

// mountErrno is what the kernel answered to mount.cifs, 0 if that cannot be read.
func mountErrno(err error) unix.Errno {
	found := mountError.FindStringSubmatch(err.Error())
	if found == nil {
		return 0
	}
	n, _ := strconv.Atoi(found[1])
	return unix.Errno(n)
}
