package host

import (
	"strconv"
	"strings"
)

// HasCapability reports whether this process has a capability in effect, by its number (unix.CAP_…).
// Root in a container or sandbox lacks some. If the kernel does not say, it is assumed to be there.
func (h *Host) HasCapability(number int) bool {
	status, err := h.ReadFile("capability.read", h.Proc("self", "status"), 64<<10)
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(status), "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	bits, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return err != nil || bits&(1<<number) != 0
}
