package mnt

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
)

func TestParseOptions(t *testing.T) {
	o, err := ParseOptions("f", []string{
		"noatime", "ro", "nosuid", "nodev", "noexec", "exec", "relatime", "data=ordered", "discard", "x-systemd.x=1", "_netdev", "rw", "defaults",
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_RELATIME); o.set != want || !o.atime || o.ReadOnly {
		t.Errorf("attributes %#x, want %#x: %+v", o.set, want, o)
	}
	if want := []string{"nosuid", "nodev", "relatime"}; !slices.Equal(o.shown, want) {
		t.Errorf("shown: %q, want %q", o.shown, want)
	}
	if want := []param{{"data", "ordered", false}, {"discard", "", true}}; !slices.Equal(o.data, want) {
		t.Errorf("data: %+v, want %+v", o.data, want)
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "=x", "bind", "rbind", "remount", "move", "shared", "rslave", "private", "loop", "loop=/dev/loop0", "noatime,ro",
		"device=/dev/sda", "logdev=/dev/sda", "journal_path=/dev/sda", "source=/dev/sda", "user", "a\nb", "a\x00", strings.Repeat("x", 300),
	} {
		_, err := ParseOptions("mount_options", []string{"noatime", bad})
		if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), "mount_options: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzParseOptions checks that whatever is accepted can be handed to the kernel one by one, and
// names nothing but options.
func FuzzParseOptions(f *testing.F) {
	for _, s := range []string{"ro", "noatime\nnodiratime", "data=ordered", "loop", "a,b", "k=", "=v", "nosuid\nsuid", "strictatime\nnoatime"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		words := strings.Split(lines, "\n")
		o, err := ParseOptions("f", words)
		if err != nil {
			if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), "f: ") {
				t.Errorf("error %v (%v)", err, errs.KindOf(err))
			}
			return
		}
		for _, d := range o.data {
			if d.key == "" || strings.ContainsAny(d.key+d.value, ",\x00\n") || len(d.key) > maxOption || len(d.value) > maxOption || refusal(d.key) != "" {
				t.Errorf("accepted %+v", d)
			}
			if _, attribute := attributes(d.key); attribute && d.flag || d.flag && (d.key == "ro" || d.key == "rw") {
				t.Errorf("%q went to the file system", d.key)
			}
		}
		if o.set&^uint64(unix.MOUNT_ATTR__ATIME|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC|
			unix.MOUNT_ATTR_NODIRATIME|unix.MOUNT_ATTR_NOSYMFOLLOW) != 0 {
			t.Errorf("attributes %#x", o.set)
		}
		if slices.Contains(o.shown, "noatime") && slices.Contains(o.shown, "relatime") {
			t.Errorf("two modes of time stamps: %q", o.shown)
		}
	})
}
