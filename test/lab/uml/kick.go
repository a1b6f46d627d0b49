package uml

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// KeepDiskAwake and KeepNetworkAwake, called in a machine, keep it from waiting
// for ever, until it ends. The kernel (6.1 to 7.3 at least) may lose the signal
// for a finished disk or network request when signals nest; the next request is
// answered together with the lost one. So there is one small read and one
// packet to everybody in each period: so long does a lost signal last.
func KeepDiskAwake(period time.Duration) error {
	root, err := unix.Open("/dev/ubda", unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the root disk: %w", err)
	}
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("map a page: %w", err)
	}
	reads := make(chan struct{}, 8) // a read may itself be the lost one: the next ones wake it
	go func() {
		for range time.Tick(period) {
			select {
			case reads <- struct{}{}:
				go func() {
					_, _ = unix.Pread(root, page, 0)
					<-reads
				}()
			default:
			}
		}
	}()
	return nil
}

// KeepNetworkAwake is for the network that the machine's own address is in;
// see KeepDiskAwake.
func KeepNetworkAwake(own netip.Prefix, period time.Duration) error {
	conn, err := net.Dial("udp", broadcast(own))
	if err != nil {
		return fmt.Errorf("reach the other guests: %w", err)
	}
	go func() {
		for range time.Tick(period) {
			_, _ = conn.Write([]byte{0})
		}
	}()
	return nil
}

// broadcast is the address of everybody on a network of 256, at the discard port.
func broadcast(network netip.Prefix) string {
	ip := network.Addr().As4()
	ip[3] = 255
	return netip.AddrPortFrom(netip.AddrFrom4(ip), 9).String()
}
