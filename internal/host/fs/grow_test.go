package fs

import (
	"testing"

	"github.com/dozo-dev/dozo/internal/host"
)

func TestGrowing(t *testing.T) {
	for said, want := range map[string]bool{
		"xfs_growfs: growfs operation in progress already":                                true,
		"ERROR: unable to start resize, another exclusive operation 'resize' in progress": true,
		"resize2fs: Device or resource busy While trying to extend the last group":        true,
		"resize2fs: Permission denied to resize filesystem":                               false,
		"xfs_growfs: XFS_IOC_FSGROWFSDATA xfsctl failed: No space left on device":         false,
	} {
		if got := growing(&host.ExitError{Name: "x", Code: 1, Stderr: said}); got != want {
			t.Errorf("%q: %v", said, got)
		}
	}
}
