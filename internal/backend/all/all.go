// Package all is the list of the kinds of backend that there are. A new one adds a line.
package all

import (
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/loopfile"
	"github.com/dozo-dev/dozo/internal/backend/lvm"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/host"
)

// Kinds returns every kind, working on a host.
func Kinds(h *host.Host) []backend.Kind {
	return []backend.Kind{
		loopfile.Kind(h),
		lvm.Kind(h),
		synology.Kind(),
	}
}
