package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Down ends the lab and removes every trace of it but the cache. It does
// nothing where nothing is left.
func (l *Lab) Down(ctx context.Context) error {
	unlock, err := l.lock(ctx, "lab "+l.Name)
	if err != nil {
		return err
	}
	defer unlock()
	return l.down()
}

// down is Down for a caller that holds the lock.
func (l *Lab) down() error {
	p, err := readProcess(l.pidFile())
	if err != nil {
		return err
	}
	if err := p.kill(30 * time.Second); err != nil {
		return err
	}
	if _, err := os.Stat(l.Run()); err != nil && os.IsNotExist(err) {
		return removeCgroups(l.cgroup())
	}
	// Before the files go: their identity is what loop devices are known by.
	if err := detachLoops(l.nodesDir(), filepath.Join(l.Run(), loopRecordName)); err != nil {
		return err
	}
	if err := removeCgroups(l.cgroup()); err != nil {
		return err
	}
	if err := os.RemoveAll(l.Run()); err != nil {
		return fmt.Errorf("removing the lab's files: %w", err)
	}
	return nil
}
