package synology

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// KindName is the kind's name.
const KindName = "synology"

// Protocols, as in options and parameters.
const (
	iscsi = "iscsi"
	nfs   = "nfs"
	smb   = "smb"
)

// isShared reports whether volumes that are reached so are shares.
func isShared(protocol string) bool { return protocol == nfs || protocol == smb }

// Keys of a pool's secret. Those of CHAP are Kubernetes' own: the node reads the same ones.
const (
	keyUsername   = "username"
	keyPassword   = "password"
	keyDevice     = "deviceToken"
	keyCA         = "ca.crt"
	keyCHAPUser   = "node.session.auth.username"
	keyCHAPPass   = "node.session.auth.password"
	keyMutualUser = "node.session.auth.username_in"
	keyMutualPass = "node.session.auth.password_in"
)

const (
	portalPort = "3260" // of iSCSI, as registered
	leastCHAP  = 12     // characters of a password: RFC 3720, 8.2.1
	mib        = 1 << 20
)

// Kind describes the backend: LUNs and shares of a NAS, which every node reaches.
func Kind() backend.Kind {
	here := newProcess()
	return backend.Kind{
		Name:        KindName,
		Options:     poolOptions(),
		Parameters:  classParameters(),
		Granularity: mib, // as quotas of shares; LUNs have any size
		MinSize:     mib,
		MaxSize:     1 << 50,
		Shares: func(options, parameters map[string]string) bool {
			return isShared(cmp.Or(parameters["protocol"], options["protocol"]))
		},
		Mask: func(map[string]string) backend.Mask {
			return backend.Mask{Expander: true, Cloner: true, Snapshotter: true, Attacher: true, Checker: true, Gauger: true, Importer: true}
		},
		Open: func(_ context.Context, c backend.Config) (backend.Backend, error) {
			b, err := open(c, 0, here)
			if err != nil {
				return nil, err
			}
			return b, nil
		},
	}
}

func poolOptions() []backend.Parameter {
	return []backend.Parameter{
		{Name: "url", Required: true, Help: "where DSM answers, such as https://nas.example.org:5001; always https. The account is in the secret: " +
			keyUsername + ", " + keyPassword + ", " + keyDevice + " with two-factor authentication, " + keyCHAPUser + " and the like for CHAP"},
		{Name: "ca", Default: "", Help: "certificates in PEM format that signed the NAS's, in place of the system's; may also be " + keyCA + " in the secret"},
		{Name: "fingerprint", Default: "", Help: "SHA-256 of the NAS's own certificate, in place of ca: its certificate is trusted, whatever name is in it"},
		{Name: "deviceName", Default: "dozo", Help: "the name that the token " + keyDevice + " was given under"},
		{Name: "protocol", Default: iscsi, Check: backend.OneOf(iscsi, nfs, smb), Help: "what volumes are if the class does not say: iscsi for LUNs, nfs or smb for shared folders, which many nodes can write to"},
		{Name: "location", Default: "", Check: isLocation, Help: "the volume of the NAS to use, such as /volume1 (default: for each new volume the one with most room)"},
		{Name: "portals", Default: "", Check: isPortals, Help: "addresses of the NAS for iSCSI, host or host:port, with commas between them; with several, disks are multipath (default: the host in url)"},
		{Name: "server", Default: "", Check: isHost, Help: "address of the NAS for NFS and SMB (default: the host in url)"},
		{Name: "targets", Default: "node", Check: backend.OneOf("node", "volume"),
			Help: "node: each node reaches its LUNs by a target of its own; volume: by a target for each LUN, of which a NAS allows few"},
		{Name: "allow", Default: "", Check: isNetworks, Help: "networks of the nodes, such as 10.0.0.0/24, to which shares are served while attached, with commas between them (default: just the addresses of the node)"},
		{Name: "users", Default: "", Check: isUsers, Help: "users of DSM to whom shares are served by SMB while attached, with commas between them: those in the Secrets of nodes; best not of the group administrators, who may always"},
		{Name: "clusterID", Default: "", Check: isClusterID, Help: "what tells this cluster from others that use the same NAS: letters, digits and -; never change it, or the volumes are somebody else's"},
	}
}

func classParameters() []backend.Parameter {
	yesNo := backend.OneOf("true", "false")
	return []backend.Parameter{
		{Name: "protocol", Default: "", Check: backend.OneOf("", iscsi, nfs, smb), Help: "iscsi for a LUN, nfs or smb for a shared folder (default: the pool's)"},
		{Name: "location", Default: "", Check: isLocation, Help: "the volume of the NAS, such as /volume1 (default: the pool's)"},
		{Name: "type", Default: "thin", Check: backend.OneOf("thin", "thick", dsm.TypeThin, dsm.TypeThick, dsm.TypeThinExt4, dsm.TypeThickExt4),
			Help: "of a LUN: thin takes room as it is written to, thick has it from the start; snapshots and clones are of thin ones on btrfs (BLUN, BLUN_THICK, THIN and FILE, DSM's own words, will do too)"},
		{Name: "fua", Default: "false", Check: yesNo, Help: "of a LUN: writes that have to be on disk before they are answered (FUA) are"},
		{Name: "sync", Default: "true", Check: yesNo,
			Help: "true: what a pod has flushed is on the NAS's disks, and outlives a power cut of the NAS; false, DSM's own default, is faster: it is in the NAS's memory (a LUN's cache flushes, a share's async)"},
		{Name: "quota", Default: "true", Check: yesNo, Help: "of a share: it cannot have more than its size; false where the volume is ext4, which has no quotas of shares"},
		{Name: "allow", Default: "", Check: isNetworks, Help: "of a share: as the pool's option (default: the pool's)"},
		{Name: "users", Default: "", Check: isUsers, Help: "of a share by SMB: as the pool's option (default: the pool's)"},
		{Name: "recycleBin", Default: "false", Check: yesNo, Help: "of a share: deleted files go to #recycle, and take room until somebody empties it"},
		{Name: "checksum", Default: "false", Check: yesNo, Help: "of a share on btrfs: data has checksums, which makes small writes slower; cannot be changed later"},
	}
}

// options are a pool's, read.
type options struct {
	dsm       dsm.Config
	chap      dsm.CHAP
	protocol  string
	location  string
	portals   []string
	server    string // as in the source of a mount by NFS
	perVolume bool
	allow     []string
	users     []string
	cluster   string
}

// read takes options that their declarations have checked, and the secret.
func read(c backend.Config) (options, error) {
	secret := func(key string) string { return string(c.Secrets[key]) }
	o := options{
		protocol: c.Options["protocol"], location: c.Options["location"], perVolume: c.Options["targets"] == "volume",
		allow: fields(c.Options["allow"]), users: names(c.Options["users"]), cluster: c.Options["clusterID"],
		dsm: dsm.Config{URL: c.Options["url"], CA: []byte(c.Options["ca"]), Fingerprint: c.Options["fingerprint"], Credentials: dsm.Credentials{
			Account: secret(keyUsername), Password: dsm.NewSecret(secret(keyPassword)),
			Device: dsm.NewSecret(secret(keyDevice)), DeviceName: c.Options["deviceName"],
		}},
	}
	if len(o.dsm.CA) == 0 && o.dsm.Fingerprint == "" {
		o.dsm.CA = c.Secrets[keyCA]
	}
	for _, key := range []string{keyUsername, keyPassword} {
		if secret(key) == "" {
			return o, errs.E(errs.Invalid, "secrets[%q]: missing: the account of DSM, one of the group administrators", key)
		}
	}
	u, err := url.Parse(o.dsm.URL)
	if err != nil {
		return o, errs.E(errs.Invalid, "options[\"url\"]: is none: use https://HOST:5001") // the error would quote it
	}
	o.server = bracketed(cmp.Or(c.Options["server"], u.Hostname()))
	portals := fields(c.Options["portals"])
	if len(portals) == 0 {
		portals = []string{u.Hostname()}
	}
	for _, p := range portals {
		o.portals = append(o.portals, withPort(p))
	}
	o.chap, err = readCHAP(secret)
	return o, err
}

// readCHAP takes what the targets ask of nodes, and what they say of themselves if that is asked of them.
func readCHAP(secret func(string) string) (dsm.CHAP, error) {
	c := dsm.CHAP{
		User: secret(keyCHAPUser), Password: dsm.NewSecret(secret(keyCHAPPass)),
		MutualUser: secret(keyMutualUser), MutualPassword: dsm.NewSecret(secret(keyMutualPass)),
	}
	for _, pair := range [][2]string{{keyCHAPUser, keyCHAPPass}, {keyMutualUser, keyMutualPass}} {
		user, password := secret(pair[0]), secret(pair[1])
		switch {
		case (user == "") != (password == ""):
			return c, errs.E(errs.Invalid, "secrets[%q], secrets[%q]: there is only one of them, and CHAP needs both", pair[0], pair[1])
		case user != "" && len(password) < leastCHAP:
			return c, errs.E(errs.Invalid, "secrets[%q]: has %d characters, and a password of CHAP has at least %d", pair[1], len(password), leastCHAP)
		}
	}
	switch {
	case c.MutualUser != "" && c.User == "":
		return c, errs.E(errs.Invalid, "secrets[%q]: the NAS can only prove itself to nodes that prove themselves: set %s too", keyMutualUser, keyCHAPUser)
	case c.User != "" && c.Password.Equal(c.MutualPassword):
		return c, errs.E(errs.Invalid, "secrets[%q]: has to differ from %s: who has the one could pose as the other", keyMutualPass, keyCHAPPass)
	}
	return c, nil
}

// fields splits a list at commas and spaces.
func fields(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
}

// names splits a list at commas.
func names(list string) (all []string) {
	for n := range strings.SplitSeq(list, ",") {
		if n = strings.TrimSpace(n); n != "" {
			all = append(all, n)
		}
	}
	return all
}

// withPort completes a portal.
func withPort(p string) string {
	if _, _, err := net.SplitHostPort(p); err == nil {
		return p
	}
	return net.JoinHostPort(strings.Trim(p, "[]"), portalPort)
}

var (
	locationForm = regexp.MustCompile(`^/volume[A-Z]*[0-9]+$`)
	clusterForm  = regexp.MustCompile(`^[A-Za-z0-9-]{0,64}$`)
)

func isLocation(v string) error {
	if v != "" && !locationForm.MatchString(v) {
		return fmt.Errorf("%.80q is no volume of a NAS, such as /volume1", v)
	}
	return nil
}

func isClusterID(v string) error {
	if !clusterForm.MatchString(v) {
		return fmt.Errorf("%.80q is more than letters, digits and -, or longer than 64", v)
	}
	return nil
}

// isHost leaves it to the contract what a server can be.
func isHost(v string) error {
	if v == "" {
		return nil
	}
	return backend.MountAccess(backend.Mount{Type: backend.NFS, Source: bracketed(v) + ":/x"}).Check()
}

// bracketed is a host as it is in the source of a mount.
func bracketed(host string) string {
	if host = strings.Trim(host, "[]"); strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func isPortals(v string) error {
	portals := fields(v)
	if len(portals) == 0 {
		return nil
	}
	for i := range portals {
		portals[i] = withPort(portals[i])
	}
	wwid := dsm.WWID("00000000-0000-0000-0000-000000000000")
	return backend.ISCSIAccess(wwid, &backend.ISCSITarget{IQN: iqnPrefix + "x", Portals: portals}).Check()
}

// userForm is that of DSM's users, which is the same for SMB: at most 64 characters, few of them special.
var userForm = regexp.MustCompile(`^[^\x00-\x1f\x7f"/\\\[\]:;|=,+*?<>@%]{1,64}$`)

func isUsers(v string) error {
	for _, n := range names(v) {
		if !userForm.MatchString(n) {
			return fmt.Errorf("%.80q is not the name of a user of DSM itself (those of a domain cannot be given permission here)", n)
		}
	}
	return nil
}

func isNetworks(v string) error {
	for _, n := range fields(v) {
		_, err := netip.ParsePrefix(n)
		if _, errAddr := netip.ParseAddr(n); err != nil && errAddr != nil {
			return fmt.Errorf("%.80q is neither an address nor a network such as 10.0.0.0/24", n)
		}
	}
	return nil
}
