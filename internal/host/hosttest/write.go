package hosttest

import (
	"errors"
	"os"
)

// WriteThrough makes a file what data says, and does not return before the storage has it.
func WriteThrough(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
