package uml

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maximalSlots bounds how many guests of all processes are spread over cores.
const maximalSlots = 64

// LeaseCore picks the core with the fewest guests; release gives the place
// back. A guest's kernel and its processes wake each other all the time: on one
// core they run two to three times as fast as when they wander.
//
// Places are locked files in the cache, so that test packages which run at the
// same time spread too: place 0 is on the first core, place 1 on the second,
// and so on around.
func LeaseCore(cache string) (core int, release func(), err error) {
	cores, err := AllowedCores()
	if err != nil {
		return 0, nil, err
	}
	for slot := range maximalSlots {
		file, err := os.OpenFile(filepath.Join(cache, fmt.Sprintf("core-%d.lock", slot)), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return 0, nil, err
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			file.Close()
			continue
		}
		return cores[slot%len(cores)], func() { file.Close() }, nil
	}
	return 0, nil, errors.New("too many guests run on this machine: use a smaller go test -p")
}

// AllowedCores are the cores that the test's process may use.
func AllowedCores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(unix.Getpid(), &set); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	var cores []int
	for core := 0; len(cores) < set.Count(); core++ {
		if set.IsSet(core) {
			cores = append(cores, core)
		}
	}
	return cores, nil
}

// Pin lets the calling thread, and what it starts, run on the given cores only.
func Pin(cores ...int) error {
	var set unix.CPUSet
	for _, core := range cores {
		set.Set(core)
	}
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &set))
}
