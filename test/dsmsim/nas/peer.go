package nas

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
)

// Words of /proc/net/tcp.
const (
	portalPort  = ":0CBC" // 3260
	established = "01"
)

// parsePeer reads an address and port of /proc/net/tcp, whose addresses are 32-bit numbers as this machine has them.
func parsePeer(field string) (string, bool) {
	address, _, _ := strings.Cut(field, ":")
	raw, err := hex.DecodeString(address)
	if err != nil || len(raw) != 4 {
		return "", false
	}
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(raw))
	return netip.AddrFrom4(a).String(), true
}
