package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

const (
	boardDir = "board"
	// failedKey holds the name of the guest whose test failed.
	failedKey  = "failed"
	boardPause = 50 * time.Millisecond
)

var keyForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)

// board passes small messages between the host and its guests: files in a
// directory of the host that all of them see.
type board struct{ dir string }

// put writes or replaces a message. Readers see the old or the new one whole.
func (b board) put(key, value string) error {
	if !keyForm.MatchString(key) {
		return fmt.Errorf("message key %q: use lower-case letters, digits, dots and dashes", key)
	}
	file, err := os.CreateTemp(b.dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(b.dir, key))
}

// look answers whether the message is there.
func (b board) look(key string) (string, bool) {
	value, err := os.ReadFile(filepath.Join(b.dir, key))
	return string(value), err == nil
}

// wait looks until the message is there. A failed guest ends the wait, since
// it may be the one that would have written.
func (b board) wait(key string, timeout time.Duration) (string, error) {
	for deadline := time.Now().Add(timeout); ; time.Sleep(boardPause) {
		if value, ok := b.look(key); ok {
			return value, nil
		}
		if name, ok := b.look(failedKey); ok {
			return "", fmt.Errorf("guest %s failed while %q was awaited: see its output", name, key)
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("nobody wrote message %q within %v", key, timeout)
		}
	}
}
