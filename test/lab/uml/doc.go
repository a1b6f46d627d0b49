// Package uml makes and starts machines with a Linux kernel of their own:
// Debian's User-Mode Linux, a plain process of the host. It builds their root
// file system, starts their kernel and keeps it awake; what runs in them is
// the caller's. test/lab runs tests in them, test/lab/cluster whole nodes.
package uml
