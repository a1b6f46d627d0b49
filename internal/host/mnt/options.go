package mnt

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Options are mount options by who acts on them.
type Options struct {
	ReadOnly bool
	set      uint64   // MOUNT_ATTR_* of the mount itself, the time-stamp mode among them
	atime    bool     // a time-stamp mode was chosen
	shown    []string // what the mount table must show of them
	data     []param  // for the file system
}

// param is one option of a file system: a flag, or key=value.
type param struct {
	key, value string
	flag       bool
}

func newParam(word string) param {
	key, value, valued := strings.Cut(word, "=")
	return param{key: key, value: value, flag: !valued}
}

// attribute is what a word means for the mount itself.
type attribute struct {
	set, clear uint64
	atime      bool // it chooses the time-stamp mode, one of several
	hidden     bool // the mount table does not show it as this word
}

// attributes are the words of mount(8) that are properties of a mount, so each bind can have its own.
func attributes(word string) (attribute, bool) {
	switch word {
	case "nosuid":
		return attribute{set: unix.MOUNT_ATTR_NOSUID}, true
	case "suid":
		return attribute{clear: unix.MOUNT_ATTR_NOSUID, hidden: true}, true
	case "nodev":
		return attribute{set: unix.MOUNT_ATTR_NODEV}, true
	case "dev":
		return attribute{clear: unix.MOUNT_ATTR_NODEV, hidden: true}, true
	case "noexec":
		return attribute{set: unix.MOUNT_ATTR_NOEXEC}, true
	case "exec":
		return attribute{clear: unix.MOUNT_ATTR_NOEXEC, hidden: true}, true
	case "nosymfollow":
		return attribute{set: unix.MOUNT_ATTR_NOSYMFOLLOW}, true
	case "nodiratime":
		return attribute{set: unix.MOUNT_ATTR_NODIRATIME}, true
	case "diratime":
		return attribute{clear: unix.MOUNT_ATTR_NODIRATIME, hidden: true}, true
	case "noatime":
		return attribute{set: unix.MOUNT_ATTR_NOATIME, atime: true}, true
	case "relatime":
		return attribute{set: unix.MOUNT_ATTR_RELATIME, atime: true}, true
	case "atime":
		return attribute{set: unix.MOUNT_ATTR_RELATIME, atime: true, hidden: true}, true
	case "strictatime":
		// The table shows this mode by showing no other.
		return attribute{set: unix.MOUNT_ATTR_STRICTATIME, atime: true, hidden: true}, true
	}
	return attribute{}, false
}

// refusal says why a key is not taken from a user, or "".
func refusal(key string) string {
	switch key {
	case "bind", "rbind", "move", "remount", "beneath":
		return "changes what is mounted and is not for a volume"
	case "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable":
		return "propagation is Kubernetes' to decide (mountPropagation of the container)"
	case "loop", "offset", "sizelimit", "encryption":
		return "sets up another device and is not for a volume"
	case "logdev", "rtdev", "journal_dev", "journal_path", "device", "source":
		return "names another device; all of a volume is on its own"
	case "user", "users", "nouser", "owner", "group":
		return "means something in /etc/fstab only"
	}
	return ""
}

// maxOption is the longest key or value that the kernel takes, in bytes.
const maxOption = 255

// ParseOptions sorts options as mount(8) takes them after -o, one each. errs.Invalid names the
// field, the option and what is wrong with it.
func ParseOptions(field string, options []string) (Options, error) {
	var o Options
	for _, word := range options {
		if err := checkOption(word); err != "" {
			return Options{}, errs.E(errs.Invalid, "%s: %.80q: %s", field, word, err)
		}
		o.add(word)
	}
	return o, nil
}

func checkOption(word string) string {
	key, value, _ := strings.Cut(word, "=")
	switch {
	case key == "":
		return "is empty"
	case strings.Contains(word, ","):
		return "has a comma; give each option as an element of its own"
	case strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f }):
		return "has a control character"
	case len(key) > maxOption || len(value) > maxOption:
		return "is longer than the kernel takes"
	}
	return refusal(key)
}

func (o *Options) add(word string) {
	if a, ok := attributes(word); ok {
		o.addAttribute(word, a)
		return
	}
	switch word {
	case "ro":
		o.ReadOnly = true
	case "rw":
		o.ReadOnly = false
	case "defaults", "auto", "noauto", "nofail", "_netdev":
		// For those who read /etc/fstab; mount(8) drops them too.
	default:
		if !strings.HasPrefix(word, "x-") && !strings.HasPrefix(word, "X-") {
			o.data = append(o.data, newParam(word))
		}
	}
}

func (o *Options) addAttribute(word string, a attribute) {
	if a.atime {
		o.atime = true
		o.set &^= unix.MOUNT_ATTR__ATIME
		o.drop("noatime", "relatime")
	}
	o.set = o.set&^a.clear | a.set
	switch {
	case a.clear != 0:
		o.drop("no" + word)
	case !a.hidden && !slices.Contains(o.shown, word):
		o.shown = append(o.shown, word)
	}
}

func (o *Options) drop(words ...string) {
	o.shown = slices.DeleteFunc(o.shown, func(w string) bool { return slices.Contains(words, w) })
}
