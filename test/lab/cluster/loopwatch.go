package cluster

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// loopWatch remembers which loop devices the lab's files are attached to. A
// driver that crashes can leave a device on a file that has been deleted, and
// nothing then tells whose it was: so it is noted while the file is there.
type loopWatch struct {
	nodes  string            // the directory with the nodes' files
	record string            // the file with the list
	seen   map[string]string // device to backing file, as last read
	ours   map[string]fileID // devices known to be the lab's
}

func newLoopWatch(nodes, record string) *loopWatch {
	return &loopWatch{nodes: nodes, record: record, seen: map[string]string{}, ours: map[string]fileID{}}
}

// run looks twice a second, which costs a few reads of sysfs, for as long as
// the lab is up.
func (w *loopWatch) run(failed func(error)) {
	for {
		if err := w.look(); err != nil {
			failed(err)
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// look updates the record. Devices are opened only when what sysfs says of
// them has changed: an open device cannot be detached by its owner.
func (w *loopWatch) look() error {
	now, err := loopBackings()
	if err != nil {
		return err
	}
	changed := false
	for device := range w.ours {
		if _, attached := now[device]; !attached {
			delete(w.ours, device)
			changed = true
		}
	}
	var fresh []string
	for device, backing := range now {
		// The same file, deleted, is nothing new.
		if strings.TrimSuffix(w.seen[device], deletedMark) != strings.TrimSuffix(backing, deletedMark) {
			fresh = append(fresh, device)
		}
	}
	w.seen = now
	if len(fresh) > 0 {
		found, err := w.claim(fresh)
		if err != nil {
			return err
		}
		changed = changed || found
	}
	if !changed {
		return nil
	}
	return w.write()
}

// deletedMark is what the kernel appends to the path of a deleted file.
const deletedMark = " (deleted)"

// claim notes those of the devices whose files are the lab's.
func (w *loopWatch) claim(devices []string) (found bool, err error) {
	files, err := filesBelow(w.nodes)
	if err != nil {
		return false, err
	}
	for _, device := range devices {
		delete(w.ours, device)
		id, err := loopFile(device)
		if err == nil && files[id] {
			w.ours[device] = id
			found = true
		}
	}
	return found, nil
}

func (w *loopWatch) write() error {
	data, err := json.Marshal(w.ours)
	if err != nil {
		return err
	}
	// By renaming, so that a kill in the middle leaves the old list.
	if err := os.WriteFile(w.record+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(w.record+".new", w.record)
}

// readLoopRecord returns nothing when there is no record.
func readLoopRecord(file string) (map[string]fileID, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var record map[string]fileID
	return record, json.Unmarshal(data, &record)
}

// loopBackings maps each attached loop device to its file, as sysfs has it.
func loopBackings() (map[string]string, error) {
	attributes, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	backings := make(map[string]string, len(attributes))
	for _, attribute := range attributes {
		data, err := os.ReadFile(attribute)
		if err != nil {
			continue // detached meanwhile
		}
		device := filepath.Join("/dev", filepath.Base(filepath.Dir(filepath.Dir(attribute))))
		backings[device] = strings.TrimSpace(string(data))
	}
	return backings, nil
}
