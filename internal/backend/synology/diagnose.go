package synology

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Verdict grades a [Finding].
type Verdict string

// The verdicts, worst last.
const (
	Good    Verdict = "ok"
	Warning Verdict = "warning" // works, or is not needed by this pool
	Bad     Verdict = "wrong"   // volumes cannot be made or used
)

// Finding is one thing about a NAS that was looked at.
type Finding struct {
	What    string // "login"
	Verdict Verdict
	Text    string // for people: what there is, or what is wrong and what to do
}

// Diagnose looks at all of a NAS that a pool with this configuration depends on, and changes nothing. What cannot be looked at because of
// something that is wrong is left out.
func Diagnose(ctx context.Context, c backend.Config) []Finding {
	d := &diagnosis{}
	b, err := open(c, 0, nil)
	if err != nil {
		d.add("configuration", Bad, "%v", err)
		return d.findings
	}
	defer b.Close()
	d.Backend = b
	if d.entrance(ctx) {
		for _, look := range []func(context.Context){d.sanManager, d.places, d.nfs, d.smb, d.portals, d.others} {
			look(ctx)
		}
	}
	return d.findings
}

type diagnosis struct {
	*Backend
	findings []Finding
}

func (d *diagnosis) add(what string, v Verdict, format string, args ...any) {
	d.findings = append(d.findings, Finding{what, v, fmt.Sprintf(format, args...)})
}

// fail adds what a call failed at.
func (d *diagnosis) fail(what string, err error) {
	if dsm.ObstacleOf(err) == dsm.Forbidden {
		d.add("rights", Bad, "%v. Put the account into the group administrators (Control Panel, User & Group): DSM lets nobody else manage storage", err)
		return
	}
	d.add(what, Bad, "%v", err)
}

// entrance is the way up to the first answer.
func (d *diagnosis) entrance(ctx context.Context) bool {
	s, err := d.nas.System(ctx)
	obstacle := dsm.ObstacleOf(err)
	host := strings.TrimPrefix(d.opts.dsm.URL, "https://")
	if obstacle == dsm.Unreachable {
		d.add("reachable", Bad, "%v. Is the NAS on, is url DSM's own address and port (HTTPS, 5001), and does the NAS's firewall let this machine in?", err)
		return false
	}
	d.add("reachable", Good, "%s answers", host)
	if obstacle == dsm.Distrusted {
		d.add("certificate", Bad, "%v", err)
		return false
	}
	d.add("certificate", Good, "is trusted")
	if obstacle == dsm.Rejected {
		d.add("login", Bad, "%v. %s", err, remedy(dsm.CodeOf(err)))
		return false
	}
	d.add("login", Good, "as %s", d.opts.dsm.Credentials.Account)
	if err != nil {
		d.fail("DSM", err)
		return false
	}
	if !strings.HasPrefix(s.Firmware, "DSM 7") {
		d.add("DSM", Bad, "%s with %s: DSM 7 is needed", s.Model, s.Firmware)
		return true
	}
	d.add("DSM", Good, "%s with %s", s.Model, s.Firmware)
	return true
}

// remedy is what to do about a login that was refused.
func remedy(code int) string {
	switch code {
	case dsm.CodeOTPNeeded, dsm.CodeOTPWrong:
		return "The account has two-factor authentication: get a token with `dozo synology enroll` and put it into the secret as " + keyDevice
	case dsm.CodeOTPNotSet:
		return "Log in to DSM once as this account and set up its second factor, or take it out of those that need one (Control Panel, Security, Account)"
	case dsm.CodeNotAllowed:
		return "Put the account into the group administrators (Control Panel, User & Group)"
	case dsm.CodeBlocked:
		return "Take this machine's address off the list of blocked ones (Control Panel, Security, Protection), and correct the secret first, or it is blocked again"
	}
	return "Correct " + keyUsername + " and " + keyPassword + " in the secret; Dozo does not try them again until they change, so that the NAS blocks nobody"
}

// sanManager is about LUNs and targets, and how many there can be.
func (d *diagnosis) sanManager(ctx context.Context) {
	worst := Bad
	if isShared(d.opts.protocol) {
		worst = Warning
	}
	luns, err := d.nas.LUNs(ctx)
	if errs.Is(err, errs.Unsupported) {
		d.add("SAN Manager", worst, "%v. Install SAN Manager from Package Center", err)
		return
	}
	if err != nil {
		d.fail("SAN Manager", err)
		return
	}
	targets, err := d.nas.Targets(ctx)
	if err != nil {
		d.fail("SAN Manager", err)
		return
	}
	d.add("SAN Manager", Good, "is there")
	limits, err := d.ceilings(ctx)
	if err != nil {
		d.fail("ceilings", err)
		return
	}
	ceiling := func(what string, n int, most dsm.Number, why, remedy string) {
		switch {
		case most == 0:
			d.add("ceilings", Warning, "the NAS does not say how many %s it allows; there are %d", what, n)
		case n >= int(most):
			d.add("ceilings", worst, "all %d %s of this model are in use: %s, or use another NAS. %s", most, what, remedy, why)
		case n*10 >= int(most)*9:
			d.add("ceilings", Warning, "%d of %d %s of this model are in use. %s", n, most, what, why)
		default:
			d.add("ceilings", Good, "%d of %d %s of this model are in use. %s", n, most, what, why)
		}
	}
	ceiling("LUNs", len(luns), limits.LUNs, "Each volume is one", "delete some")
	ceiling("targets", len(targets), limits.Targets, d.whyTargets(targets), "delete some that are not Dozo's, drain nodes that have worn ones")
}

// whyTargets says what targets are for: nodes, or volumes, and besides those that wait for their last LUN to leave.
func (d *diagnosis) whyTargets(targets []dsm.Target) string {
	worn := 0
	for _, t := range targets {
		if strings.HasPrefix(t.Name, "dozo.") && baseName(t.Name) != t.Name {
			worn++
		}
	}
	each := "Each node that uses a LUN needs one"
	if d.opts.perVolume {
		each = "Each LUN that is attached needs one (with targets: node each node that uses one)"
	}
	return fmt.Sprintf("%s, and %d are worn (.W and digits in the name): a LUN left them, so that they get no other, and they go with their last", each, worn)
}

// places is about the volumes of the NAS.
func (d *diagnosis) places(ctx context.Context) {
	all, err := d.nas.Volumes(ctx)
	if err != nil {
		d.fail("volumes", err)
		return
	}
	use := slices.DeleteFunc(slices.Clone(all), func(v dsm.Volume) bool { return d.opts.location != "" && v.Path != d.opts.location })
	var paths []string
	for _, v := range all {
		paths = append(paths, v.Path)
	}
	if len(use) == 0 {
		d.add("volumes", Bad, "the NAS has no volume %s (it has: %s): correct location, or make one in Storage Manager", d.opts.location, strings.Join(paths, ", "))
	}
	worst := Warning
	if len(use) == 1 {
		worst = Bad
	}
	for _, v := range use {
		text := fmt.Sprintf("%s: %s, %s of %s left", v.Path, v.FileSystem, backend.FormatSize(int64(v.Free)), backend.FormatSize(int64(v.Total)))
		switch why := unusable(v); {
		case why != "":
			d.add("volumes", worst, "%s: %s; look at it in Storage Manager", v.Path, why)
		case v.Status != "normal":
			d.add("volumes", Warning, "%s; its status is %q: look at it in Storage Manager", text, v.Status)
		case v.Free < v.Total/10:
			d.add("volumes", Warning, "%s: thin LUNs on it cannot be written to any more when it is full", text)
		case v.FileSystem != "btrfs":
			d.add("volumes", Warning, "%s: no snapshots, no clones and no quotas of shares; those need btrfs", text)
		default:
			d.add("volumes", Good, "%s", text)
		}
	}
	d.snapshotsThere(ctx)
}

func (d *diagnosis) snapshotsThere(ctx context.Context) {
	if l, err := d.ceilings(ctx); err == nil && !bool(l.SupportSnapshots) {
		d.add("snapshots", Warning, "this model has none: neither snapshots nor clones of volumes will work")
	} else if err == nil {
		d.add("snapshots", Good, "up to %d of a LUN", l.SnapshotsPerLUN)
	}
}

// nfs is about the service for shares. It is the administrator's to switch on.
func (d *diagnosis) nfs(ctx context.Context) {
	worst := Warning
	if d.opts.protocol == nfs {
		worst = Bad
	}
	n, err := d.nas.NFS(ctx)
	switch {
	case err != nil && worst == Bad:
		d.fail("NFS", err)
	case err != nil:
		d.add("NFS", Warning, "%v", err)
	case !bool(n.Enabled):
		d.add("NFS", worst, "is off: volumes with protocol nfs need it; switch it on in Control Panel, File Services, NFS")
	case !bool(n.EnabledV4):
		d.add("NFS", worst, "is on with version 3 only, and nodes ask for version 4: set Maximum NFS protocol to NFSv4.1 in Control Panel, File Services, NFS")
	default:
		d.add("NFS", Good, "is on, up to version %d.%d", n.Major, n.Minor)
	}
}

// smb is about the service for shares by SMB, which is looked at where it is used.
func (d *diagnosis) smb(ctx context.Context) {
	if d.opts.protocol != smb && len(d.opts.users) == 0 {
		return
	}
	s, err := d.nas.SMB(ctx)
	switch {
	case err != nil:
		d.fail("SMB", err)
	case !bool(s.Enabled):
		d.add("SMB", Bad, "is off: switch it on in Control Panel, File Services, SMB")
	case len(d.opts.users) == 0:
		d.add("SMB", Warning, "is on; each class has to name the users that nodes log in as (users), since the pool does not")
	default:
		d.add("SMB", Good, "is on; shares are served to %s while nodes have them", strings.Join(d.opts.users, ", "))
	}
}

// lookupPatience is how long a name server has to answer.
const lookupPatience = 5 * time.Second

// portals is about whether the addresses that nodes are given are the NAS's.
func (d *diagnosis) portals(ctx context.Context) {
	nics, err := d.nas.Interfaces(ctx)
	if err != nil {
		d.fail("portals", err)
		return
	}
	var have []string
	for _, n := range nics {
		if n.Status == "connected" && n.IP != "" {
			have = append(have, n.IP)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	for _, p := range d.opts.portals {
		host, _, _ := net.SplitHostPort(p) // was checked
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		switch {
		case err != nil:
			d.add("portals", Warning, "%s: this machine finds no address of it (%v); nodes have to", p, err)
		case !slices.ContainsFunc(ips, func(ip string) bool { return slices.Contains(have, ip) }):
			d.add("portals", Warning, "%s: %s is none of the NAS's addresses (%s), unless something forwards to it; set portals", p, strings.Join(ips, ", "), strings.Join(have, ", "))
		default:
			d.add("portals", Good, "%s is the NAS's", p)
		}
	}
}

// others is about what has names of this pool and is not its.
func (d *diagnosis) others(ctx context.Context) {
	luns, err := d.nas.LUNs(ctx)
	if err != nil {
		return // was said before
	}
	ours, theirs := 0, []string{}
	for _, l := range luns {
		if !strings.HasPrefix(l.Name, "dozo."+d.pool+".") {
			continue
		}
		if _, ok := d.owns(l.Description); ok {
			ours++
		} else {
			theirs = append(theirs, l.Name)
		}
	}
	if len(theirs) > 0 {
		d.add("pool", Warning, "%d LUNs are named as those of pool %s and are not its, by their descriptions (%.200s): is clusterID right? If another cluster has a pool of this name, give this one another", len(theirs), d.pool, strings.Join(theirs, ", "))
		return
	}
	d.add("pool", Good, "pool %s has %d LUNs", d.pool, ours)
}

// Enroll logs in with a one-time code and returns the token by which DSM knows Dozo from then on, for the secret's deviceToken.
func Enroll(ctx context.Context, c backend.Config, code dsm.Secret) (dsm.Secret, error) {
	b, err := open(c, 0, nil)
	if err != nil {
		return dsm.Secret{}, err
	}
	defer b.Close()
	return b.nas.Enroll(ctx, b.opts.dsm.Credentials, code)
}
