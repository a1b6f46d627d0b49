package host

import (
	"os"
	"path/filepath"
	"strings"
)

// LoopDevice is a loop device that is attached.
type LoopDevice struct {
	Path string // of the device
	File string // what it is made of, as the kernel writes it: with " (deleted)" at the end if it is
}

// LoopDevices lists the attached loop devices. One that is detached meanwhile is left out.
func (h *Host) LoopDevices() ([]LoopDevice, error) {
	attributes, err := filepath.Glob(h.Sys("block", "loop*", "loop", "backing_file"))
	if err != nil {
		return nil, err
	}
	var all []LoopDevice
	for _, a := range attributes {
		if file, err := os.ReadFile(a); err == nil {
			name := filepath.Base(filepath.Dir(filepath.Dir(a)))
			all = append(all, LoopDevice{Path: h.Dev(name), File: strings.TrimSpace(string(file))})
		}
	}
	return all, nil
}
