// Package synology makes volumes on a Synology NAS: LUNs, which nodes reach by iSCSI, and shared folders, which they
// reach by NFS or SMB. A pool is an account of one NAS and any of its volumes; a volume's ID is either a LUN's or a share's.
//
// A volume is known by its name on the NAS, which its ID gives (names.go), and whose it is by one line of JSON in
// its description (mark.go), which comes with the object where the API can. What has our name and not our mark is somebody
// else's: it is not there for us, is in the way of a create, and is never changed.
//
// An answer may be lost, so whoever creates looks the name up after any error, and every operation can be done again
// after having been interrupted between any two calls. How many calls an operation takes does not depend on how much there is
// on the NAS.
//
// Attaching is fencing: a node reaches a LUN by a target of its own, into which the LUN is mapped, and a share by a rule
// for its addresses. A node that was detached can change nothing any more.
package synology
