// Package iscsi is the initiator of this machine: open-iscsi's records, its sessions as the kernel shows them, and
// the disks in them. It knows targets and disks, and not what they are for.
//
// open-iscsi is told by iscsiadm to log in and out; everything else is read from sysfs. A record is a file that
// is written here, because iscsiadm takes a password only as an argument, which every process of the machine
// can see.
package iscsi

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// Initiator is open-iscsi on this machine. It is safe for concurrent use, one call at a time for one target.
type Initiator struct{ host *host.Host }

// New returns the initiator of a machine.
func New(h *host.Host) *Initiator { return &Initiator{host: h} }

// The exit statuses of iscsiadm that mean something to us; see iscsiadm(8) and iscsi_err.h.
const (
	exitDatabase = 6  // a record cannot be read, written or removed
	exitTimeout  = 8  // no answer, or a target that there is not
	exitExists   = 15 // there is such a session, or iscsid is at it
	exitDaemon   = 18 // could not talk to iscsid
	exitTarget   = 19 // the target said no
	exitNoDaemon = 20
	exitNone     = 21 // no such record, or session
	exitAuth     = 24
)

const (
	// adminTimeout bounds iscsiadm. One that was killed leaves the lock of open-iscsi's records behind, which the
	// next one takes away after 30 seconds.
	adminTimeout = 75 * time.Second
	// settleTimeout is how long a login that iscsid is at may take: longer than the record lets it.
	settleTimeout = 45 * time.Second
	// goneTimeout is how long a session may stay after its logout.
	goneTimeout = 15 * time.Second

	poll = 20 * time.Millisecond
)

func (i *Initiator) admin(ctx context.Context, op string, args ...string) (code int, err error) {
	_, err = i.host.Run(ctx, host.Cmd{Op: op, Name: "iscsiadm", OfNode: true, Args: args, Timeout: adminTimeout})
	code, ran := host.ExitCode(err)
	if !ran {
		code = -1
	}
	return code, err
}

// Login logs in to a target by one of its portals, with the record that is there, and returns once the kernel
// has the session. errs.Invalid if the target refuses user name or password, errs.Unavailable if it cannot be reached.
func (i *Initiator) Login(ctx context.Context, iqn, portal string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout+adminTimeout)
	defer cancel()
	for {
		code, err := i.admin(ctx, "iscsi.login", "-m", "node", "-T", iqn, "-p", spelled(portal), "--login")
		if code != 0 && code != exitExists {
			return explain(iqn, portal, code, err)
		}
		done, err := i.awaitSession(ctx, iqn, portal, code == exitExists)
		if err != nil || done {
			return err
		}
		// It said that there is a session, and there is none: iscsid was still at a login that somebody began
		// and did not wait for, and has given up by now.
	}
}

// awaitSession waits until the session of a portal is there. atIt says that it may not come after all: done is
// false if a while passed without it.
func (i *Initiator) awaitSession(ctx context.Context, iqn, portal string, atIt bool) (done bool, err error) {
	const while = time.Second
	for end := time.Now().Add(while); ; {
		all, err := i.Sessions(iqn)
		if err != nil {
			return false, err
		}
		for _, s := range all {
			if s.By(portal) {
				return true, nil
			}
		}
		if atIt && time.Now().After(end) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, errs.E(errs.Unavailable, "iSCSI target %s at %s: logged in, and there is no session", iqn, portal)
		case <-time.After(poll):
		}
	}
}

func explain(iqn, portal string, code int, err error) error {
	switch code {
	case exitAuth:
		return errs.E(errs.Invalid, "secrets[%q], secrets[%q]: iSCSI target %s at %s refuses the login; the Secret is the one that the storage class names as csi.storage.k8s.io/node-stage-secret-name",
			SecretUser, SecretPassword, iqn, portal)
	case exitDaemon:
		return errs.E(errs.Unavailable, "iSCSI: iscsid on this node and this iscsiadm do not understand each other; are they of one version? %w", err)
	case exitNoDaemon:
		return errs.E(errs.Unavailable, "iSCSI: iscsid does not answer on this node; install open-iscsi there and start iscsid: %w", err)
	case exitTimeout, exitTarget:
		return errs.E(errs.Unavailable, "iSCSI target %s at %s: no login; is the portal right, and reached from this node (TCP)? %w", iqn, portal, err)
	case -1:
		return err
	}
	return errs.E(errs.Unavailable, "iSCSI target %s at %s: %w", iqn, portal, err)
}

// Logout ends all sessions with a target, alive or not, and returns once the kernel has none. Their disks go with them.
func (i *Initiator) Logout(ctx context.Context, iqn string) error {
	all, err := i.Sessions(iqn)
	if err != nil || len(all) == 0 {
		return err
	}
	code, err := i.admin(ctx, "iscsi.logout", "-m", "node", "-T", iqn, "--logout")
	if code != 0 && code != exitNone {
		return explain(iqn, "any portal", code, err)
	}
	for end := time.Now().Add(goneTimeout); ; {
		all, err := i.Sessions(iqn)
		if err != nil || len(all) == 0 {
			return err
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return errs.E(errs.Unavailable, "iSCSI target %s: logged out, and %s is still there; call again", iqn, all[0].name)
		}
		time.Sleep(poll)
	}
}

// spelled is a portal as open-iscsi is told it: it names records by that, and an IPv6 address can be written in many ways.
func spelled(portal string) string { return net.JoinHostPort(splitPortal(portal)) }

// splitPortal returns the parts of "host:port" with IP addresses in their one canonical form.
func splitPortal(portal string) (address, port string) {
	address, port, err := net.SplitHostPort(portal)
	if err != nil {
		return portal, ""
	}
	return canonical(address), port
}

func canonical(address string) string {
	if a, err := netip.ParseAddr(address); err == nil {
		return a.Unmap().String()
	}
	return address
}
