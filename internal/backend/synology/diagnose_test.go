package synology_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

func refuse(api, method string, code int) func(*bed) {
	return func(b *bed) {
		b.faults(dsmsim.Fault{API: "SYNO." + api, Method: method, Action: dsmsim.Refuse, Code: code})
	}
}

// TestDiagnose: for each thing that can be wrong there is a finding with the words that help.
func TestDiagnose(t *testing.T) {
	t.Parallel()
	account := func(a dsmsim.Account) dsmsim.Config {
		a.Name, a.Password = "dozo", password
		return dsmsim.Config{Accounts: []dsmsim.Account{a}}
	}
	option := func(name, value string) func(*backend.Config) {
		return func(c *backend.Config) { c.Options[name] = value }
	}
	one := func(v dsmsim.Volume) dsmsim.Config { return dsmsim.Config{Volumes: []dsmsim.Volume{v}} }
	model := func(change func(*dsmsim.Model)) dsmsim.Config {
		m := dsmsim.Models()["value"]
		change(&m)
		return dsmsim.Config{Model: m}
	}
	for name, c := range map[string]struct {
		nas     dsmsim.Config
		arrange func(*bed)
		config  func(*backend.Config)
		want    string // "what verdict: text"
	}{
		"all is well":         {want: "login ok: as dozo"},
		"no secret":           {config: func(c *backend.Config) { c.Secrets = nil }, want: `configuration wrong: secrets["username"]: missing`},
		"one CHAP key":        {config: func(c *backend.Config) { c.Secrets["node.session.auth.username"] = []byte("u") }, want: "configuration wrong: CHAP needs both"},
		"no https":            {config: option("url", "http://nas:5000"), want: "configuration wrong: has to be https"},
		"down":                {arrange: func(b *bed) { fine(b.t, b.server.Stop()) }, want: "reachable wrong: Is the NAS on"},
		"a proxy":             {arrange: func(b *bed) { b.faults(dsmsim.Fault{Action: dsmsim.BadGateway}) }, want: "reachable wrong: HTTP 502"},
		"not DSM":             {arrange: func(b *bed) { b.faults(dsmsim.Fault{Action: dsmsim.Page}) }, want: "reachable wrong: not DSM's port"},
		"unknown certificate": {config: option("ca", ""), want: "certificate wrong: fingerprint to its SHA-256"},
		"other certificate": {config: func(c *backend.Config) { c.Options["ca"], c.Options["fingerprint"] = "", strings.Repeat("ab", 32) },
			want: "certificate wrong: somebody is between"},
		"wrong password":       {config: func(c *backend.Config) { c.Secrets["password"] = []byte("wrong") }, want: "login wrong: in the secret"},
		"not an administrator": {nas: account(dsmsim.Account{Guest: true}), want: "login wrong: group administrators"},
		"disabled":             {nas: account(dsmsim.Account{Disabled: true}), want: "login wrong: disabled"},
		"second factor":        {nas: account(dsmsim.Account{OTP: "123456"}), want: "login wrong: dozo synology enroll"},
		"blocked":              {arrange: refuse("API.Auth", "login", 407), want: "login wrong: list of blocked ones"},
		"second factor unset":  {arrange: refuse("API.Auth", "login", 406), want: "login wrong: set up its second factor"},
		"rights":               {arrange: refuse("Core.ISCSI.LUN", "list", 105), want: "rights wrong: group administrators"},
		"DSM 6":                {nas: model(func(m *dsmsim.Model) { m.Firmware = "DSM 6.2.4-25556" }), want: "DSM wrong: DSM 7 is needed"},
		"version":              {want: "DSM ok: DS918+ with DSM 7.1.1-42962 Update 9"},
		"no SAN Manager":       {arrange: refuse("Core.ISCSI.LUN", "list", 102), want: "SAN Manager wrong: Package Center"},
		"no more LUNs":         {nas: dsmsim.Config{Model: dsmsim.Models()["value"], VirtualDisks: 4}, want: "ceilings wrong: all 4 LUNs of this model are in use"},
		"nearly no more LUNs":  {nas: dsmsim.Config{Model: dsmsim.Models()["small"], VirtualDisks: 9}, want: "ceilings warning: 9 of 10 LUNs"},
		"room for LUNs":        {want: "ceilings ok: 0 of 128 LUNs"},
		"no more targets": {nas: dsmsim.Config{Model: dsmsim.Models()["value"]}, arrange: func(b *bed) {
			for _, n := range []string{"x", "y"} {
				_, err := b.nas.CreateTarget(b.t.Context(), dsm.NewTarget{Name: n, IQN: "iqn." + n})
				fine(b.t, err)
			}
		}, want: "ceilings wrong: all 2 targets"},
		"targets":           {want: "ceilings ok: 0 of 64 targets of this model are in use. Each node that uses a LUN needs one, and 0 are worn"},
		"worn targets":      {arrange: wearTwo, want: "ceilings ok: 2 of 64 targets of this model are in use. Each node that uses a LUN needs one, and 2 are worn"},
		"worn, per volume":  {arrange: wearTwo, config: option("targets", "volume"), want: "ceilings ok: needs one (with targets: node each node that uses one), and 2 are worn"},
		"all targets worn":  {nas: dsmsim.Config{Model: dsmsim.Models()["value"]}, arrange: wearTwo, want: "ceilings wrong: drain nodes that have worn ones, or use another NAS. Each node that uses a LUN needs one, and 2 are worn"},
		"no such volume":    {config: option("location", "/volume7"), want: "volumes wrong: it has: /volume1, /volume2"},
		"volume crashed":    {nas: one(dsmsim.Volume{Path: "/volume1", FileSystem: "btrfs", Total: 1 << 40, Status: "crashed"}), want: "volumes wrong: it has crashed"},
		"volume read-only":  {nas: one(dsmsim.Volume{Path: "/volume1", FileSystem: "btrfs", Total: 1 << 40, Status: "read_only"}), want: "volumes wrong: it is read-only"},
		"volume degraded":   {nas: one(dsmsim.Volume{Path: "/volume1", FileSystem: "btrfs", Total: 1 << 40, Status: "degrade"}), want: "volumes warning: its status is \"degrade\""},
		"ext4":              {config: option("location", "/volume2"), want: "volumes warning: those need btrfs"},
		"USB disk":          {nas: one(dsmsim.Volume{Path: "/volumeUSB1", FileSystem: "btrfs", Total: 1 << 40, External: true}), want: "volumes wrong: external disk"},
		"room":              {want: "volumes ok: /volume1: btrfs, 1Ti of 1Ti left"},
		"full":              {arrange: fillNAS, want: "volumes warning: when it is full"},
		"snapshots":         {want: "snapshots ok: up to 256"},
		"NFS":               {want: "NFS ok: up to version 4.1"},
		"NFS off":           {arrange: noNFS, want: "NFS warning: File Services"},
		"NFS off, needed":   {arrange: noNFS, config: option("protocol", "nfs"), want: "NFS wrong: File Services"},
		"NFS 3":             {arrange: nfs3, want: "NFS warning: Maximum NFS protocol to NFSv4.1"},
		"NFS 3, by SMB":     {arrange: nfs3, config: smbFor("k8s"), want: "NFS warning: version 3 only"},
		"NFS 3, needed":     {arrange: nfs3, config: option("protocol", "nfs"), want: "NFS wrong: Maximum NFS protocol to NFSv4.1 in Control Panel, File Services, NFS"},
		"SMB":               {config: smbFor("k8s"), want: "SMB ok: served to k8s"},
		"SMB for nobody":    {config: smbFor(""), want: "SMB warning: each class"},
		"SMB off":           {arrange: noSMB, config: smbFor("k8s"), want: "SMB wrong: File Services"},
		"portal":            {want: "portals ok: 127.0.0.1:3260 is the NAS's"},
		"another's portal":  {config: func(c *backend.Config) { c.Options["portals"] = "127.0.0.9" }, want: "portals warning: none of the NAS's addresses (127.0.0.1)"},
		"unknown portal":    {config: func(c *backend.Config) { c.Options["portals"] = "nas.invalid" }, want: "portals warning: finds no address"},
		"pool":              {want: "pool ok: pool nas has 0 LUNs"},
		"another's volumes": {arrange: theirs, want: "pool warning: is clusterID right"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, c.nas)
			config := b.config(nil)
			if c.arrange != nil {
				c.arrange(b)
			}
			if c.config != nil {
				c.config(&config)
			}
			found := synology.Diagnose(t.Context(), config)
			says(t, found, c.want)
			if name == "all is well" {
				for _, f := range found {
					if f.Verdict == synology.Bad {
						t.Errorf("%+v", f)
					}
				}
			}
		})
	}
}

// says fails unless there is a finding of a kind and with words.
func says(t *testing.T, found []synology.Finding, want string) {
	t.Helper()
	head, words, _ := strings.Cut(want, ": ")
	for _, f := range found {
		if fmt.Sprintf("%s %s", f.What, f.Verdict) == head && strings.Contains(f.Text, words) {
			return
		}
	}
	t.Errorf("no finding %q in %d:", want, len(found))
	for _, f := range found {
		t.Errorf("%s %s: %s", f.What, f.Verdict, f.Text)
	}
}

// fillNAS leaves a twentieth of /volume1.
func fillNAS(b *bed) {
	_, err := b.nas.CreateLUN(b.t.Context(), dsm.NewLUN{Name: "x", Location: "/volume1", Type: dsm.TypeThick, Size: 1 << 40 / 20 * 19})
	fine(b.t, err)
}

// wearTwo has one of two LUNs leave the target of a node, in each of two clusters.
func wearTwo(b *bed) {
	for cluster, ids := range map[string][]string{"": {"a", "b"}, "c2": {"c", "d"}} {
		p := b.open(map[string]string{"clusterID": cluster})
		for _, id := range ids {
			b.create(p, id)
			b.attach(p, backend.ID(id), node)
		}
		fine(b.t, p.Detach(b.t.Context(), backend.ID(ids[0]), node.Node))
	}
}

func theirs(b *bed) {
	_, err := b.nas.CreateLUN(b.t.Context(), dsm.NewLUN{Name: "dozo.nas.x", Location: "/volume1", Type: dsm.TypeThin, Size: 1 << 20, Description: `{"dozo":1,"cluster":"c2","pool":"nas","id":"x"}`})
	fine(b.t, err)
}

// noNFS is a NAS whose administrator has switched it off.
func noNFS(b *bed) { fine(b.t, b.sim.SetNFS(false)) }

// nfs3 is a NAS whose maximum is version 3.
func nfs3(b *bed) { b.leaveOut("enable_nfs_v4") }

func noSMB(b *bed) { fine(b.t, b.sim.SetSMB(false)) }

func smbFor(users string) func(*backend.Config) {
	return func(c *backend.Config) { c.Options["protocol"], c.Options["users"] = "smb", users }
}
