package uml

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	// Kernel is the program that a machine is.
	Kernel = "linux.uml"
	// memoryDir, in the directory given to Confine, is where kernels keep their machines' memory.
	memoryDir = "memory"
)

// Machine describes a machine. Its directory holds all that it has and is
// all that it may write to; inside, the host's files are at /host.
type Machine struct {
	Name      string // the host name
	Dir       string
	MemoryMiB int
	Root      string // the image of the root disk, which is left as it is
	Disks     []Disk
	Tap       *Tap // nil: no network
}

// Disk is a file as a block device.
type Disk struct {
	Device string // "ubdb" to "ubdp"
	File   string
	Base   string // what File only has the changes of; "" if it has all
}

// Tap is the interface of the host that the machine's vec0 is connected to.
type Tap struct{ Interface, MAC string }

// DiskDevice names the disk with this index; 0 is the first after the root.
func DiskDevice(index int) string { return fmt.Sprintf("ubd%c", 'b'+index) }

// MakeDisk makes a sparse file for a disk, unless it is there already: a disk
// keeps what it has from boot to boot. The size is in bytes.
func MakeDisk(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Size() < size {
		err = file.Truncate(size)
	}
	return errors.Join(err, file.Close())
}

// Startup is what the first process in a machine, init.sh, is told.
type Startup struct {
	Env   []string // NAME=value
	Args  []string // the program, an absolute path on the host, and its arguments
	Hosts string   // /etc/hosts
}

// WriteStartup hands it over to the next boot.
func (m Machine) WriteStartup(s Startup) error {
	if err := writeLines(filepath.Join(m.Dir, "env"), append([]string{"DOZO_LAB_GUEST=" + m.Name}, s.Env...)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(m.Dir, "hosts"), []byte(s.Hosts), 0o644); err != nil {
		return err
	}
	return writeLines(filepath.Join(m.Dir, "args"), s.Args)
}

// writeLines writes one value a line.
func writeLines(path string, lines []string) error {
	for _, line := range lines {
		if strings.Contains(line, "\n") {
			return fmt.Errorf("%q cannot be handed to a guest: it has a line break", line)
		}
	}
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// Args is the kernel's command line, without the program. Boots counts the
// machine's starts.
func (m Machine) Args(boots int) []string {
	args := []string{
		fmt.Sprintf("mem=%dM", m.MemoryMiB),
		fmt.Sprintf("umid=%s.%d", m.Name, boots), "uml_dir=" + filepath.Join(m.Dir, "umid"),
		"ubd0=" + filepath.Join(m.Dir, "root.cow") + "," + m.Root,
		"root=/dev/ubda", "rw", "init=/usr/sbin/lab-init",
		"con=null", "con0=null,fd:1", "quiet", "noreboot", "panic=-1", "selinux=0", "initcall_blacklist=mmapper_init",
		"LAB_DIR=" + m.Dir,
	}
	for _, d := range m.Disks {
		file := d.File
		if d.Base != "" {
			file += "," + d.Base
		}
		args = append(args, d.Device+"="+file)
	}
	if m.Tap != nil {
		args = append(args, fmt.Sprintf("vec0:transport=tap,ifname=%s,mac=%s,depth=64,gro=1", m.Tap.Interface, m.Tap.MAC))
	}
	return args
}

// KernelEnv is the environment of the kernel's process, for machines below
// the directory given to Confine.
func KernelEnv(confined string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + filepath.Join(confined, memoryDir)}
}
