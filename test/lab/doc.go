// Package lab runs a Go test as root inside guests with a Linux kernel of
// their own, so that device-mapper, LVM, DRBD, iSCSI and NFS are tested for
// real on any machine, a container included.
//
// A guest is a User-Mode Linux kernel: a plain process of the host. The test
// asks for one, and its own test binary is run again inside it:
//
//	func TestVolumeGrows(t *testing.T) {
//		if !lab.Run(t, lab.Guest{
//			Disks:    []lab.Disk{{Size: 1 << 30}},
//			Modules:  []string{"dm-mod"},
//			Programs: []string{"lvcreate"},
//		}) {
//			return // the host: the guest's result is already this test's result
//		}
//		lab.Output(t, "pvcreate", lab.DiskPath(0)) // the guest, as root
//	}
//
// Several guests share a private network. Each of them runs the same test and
// asks who it is; the host's side cuts power and boots again:
//
//	func TestMirrorSurvives(t *testing.T) {
//		n := lab.Network(t, lab.Guest{Name: "left"}, lab.Guest{Name: "right"})
//		switch n.Self() {
//		case lab.Host:
//			n.Get("written", time.Minute)
//			n.Cut("left")
//			n.Put("left-is-off", "")
//			n.Wait()
//		case "left":
//			n.Put("written", "17 blocks")
//			n.Halt() // wait for the power cut
//		case "right":
//			n.Get("left-is-off", time.Minute)
//		}
//	}
//
// Nothing stays behind: guests, their network and their mounts live in
// namespaces that end with the test's process, however it ends. A guest sees
// the host's files at /host, read-only but for the test's own directory.
//
// A missing program, module or package fails the test and is named. Only
// DOZO_LAB=off skips, and says so.
package lab
