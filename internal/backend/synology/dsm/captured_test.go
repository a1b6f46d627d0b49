package dsm

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

// captured serves bodies that real NASes were seen to send, without the simulator, so that it and the
// client cannot share a misreading. It keeps the last form of each method.
func captured(t *testing.T, bodies map[string]string) (*Client, map[string]*http.Request) {
	t.Helper()
	seen := map[string]*http.Request{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		key := r.PostForm.Get("api") + "." + r.PostForm.Get("method")
		seen[key] = r
		file, ok := bodies[key]
		if !ok {
			file = map[string]string{infoAPI + ".query": "info", authAPI + ".login": "login"}[key]
		}
		body, err := os.ReadFile("testdata/" + file + ".json")
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	c, err := New(Config{URL: server.URL, Fingerprint: Fingerprint(server.Certificate()), Pause: time.Millisecond,
		Credentials: Credentials{Account: "u", Password: NewSecret("p&ss w=rd")}})
	if err != nil {
		t.Fatal(err)
	}
	return c, seen
}

func TestCapturedAnswers(t *testing.T) {
	c, _ := captured(t, map[string]string{
		lunAPI + ".get": "lun_get", lunAPI + ".create": "lun_create", lunAPI + ".list_snapshot": "list_snapshot", lunAPI + ".list": "lun_list", lunAPI + ".set": "nothing",
		targetAPI + ".get": "target_get", targetAPI + ".create": "target_create", volumeAPI + ".list": "volume_list", volumeAPI + ".get": "volume_get",
		interfaceAPI + ".list": "interfaces", nodeAPI + ".list": "nodes", systemAPI + ".info": "define", shareAPI + ".get": "share_get",
		shareSnapshotAPI + ".create": "sharesnapshot_create", shareSnapshotAPI + ".list": "sharesnapshot_list", shareSnapshotAPI + ".delete": "sharesnapshot_delete",
		nfsRulesAPI + ".load": "nfs_load", nfsAPI + ".get": "nfs_get",
	})
	ctx := t.Context()
	same := func(name string, got any, err error, want any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", name, got, err, want)
		}
	}
	l, err := c.LUN(ctx, "k8s-csi-pvc-1")
	same("LUN", []any{l.UUID, l.Type, int64(l.Size), l.Status, *l.IsMapped, l.IsActionLocked, l.HasAttr(AttrSnapshot), l.HasAttr(AttrUnmap)}, err,
		[]any{"fd993a34-1111-4222-8333-444455556666", TypeThin, int64(50 << 30), Status("normal"), Flag(true), Flag(false), true, false})
	uuid, err := c.CreateLUN(ctx, NewLUN{Name: "x", Size: 1})
	same("CreateLUN", uuid, err, "ac36dabc-0b0c-4f2e-9d3c-5a8f2d7e1b00")
	snaps, err := c.Snapshots(ctx, l.UUID)
	same("Snapshots", []any{len(snaps), snaps[0].Status, snaps[1].Status, snaps[0].Created, snaps[0].Locked}, err,
		[]any{2, Status("Healthy"), Status("Healthy"), Number(1742739365), Flag(true)})
	luns, err := c.LUNsWithSnapshots(ctx, everything)
	same("LUNsWithSnapshots", []any{len(luns), luns[0].Snapshots, len(luns[1].Snapshots)}, err, []any{2, []Snapshot{{"fb388ec7-1111-4222-8333-444455556666", "SnapShot-1", l.UUID, "test", "user", "Healthy", 1 << 30, 1742739365, true}}, 0})
	same("ResizeLUN", nil, c.ResizeLUN(ctx, l.UUID, 1), nil)
	g, err := c.Target(ctx, "12")
	same("Target", []any{g.IQN, g.MaxSessions, g.Mapped, g.Sessions[0].IP, g.Portals[0].Port}, err,
		[]any{"iqn.2000-01.com.synology:nas2.pvc-1", Number(1), []Mapping{{"7a9121bc-0000-4000-8000-000000000000", 1}}, "10.0.0.5", Number(3260)})
	id, err := c.CreateTarget(ctx, NewTarget{Name: "x", IQN: "iqn.x"})
	same("CreateTarget", id, err, int64(3))
	volumes, err := c.Volumes(ctx)
	same("Volumes", []any{len(volumes), volumes[0].Free, volumes[0].Total}, err, []any{1, Number(3738590121984), Number(7676309151744)})
	v, err := c.Volume(ctx, "/volume1")
	same("Volume", v, err, volumes[0])
	limits, err := c.Limits(ctx)
	same("Limits", limits, err, Limits{256, 128, 256, 128, 1024, true, true, true, "lio4x"})
	nics, err := c.Interfaces(ctx)
	same("Interfaces", nics, err, []Interface{{"ovs_eth0", "10.0.0.2", "255.255.255.0", 1000, "connected", "ovseth"}})
	nodes, err := c.NodeUUIDs(ctx)
	same("NodeUUIDs", nodes, err, []string{"5a0c1d2e-0000-4000-8000-000000000000"})
	capturedShares(ctx, c, same)
}

func capturedShares(ctx context.Context, c *Client, same func(string, any, error, any)) {
	share, err := c.Share(ctx, "s")
	same("Share", []any{share.VolumePath, share.QuotaMB, share.RecycleBin, share.Checksums, share.Snapshots}, err,
		[]any{"/volume1", Number(1024), Flag(true), Flag(false), Flag(true)})
	at, err := c.TakeShareSnapshot(ctx, "s", "d", false)
	same("TakeShareSnapshot", at, err, "GMT+08-2022.01.14-19.18.29")
	taken, err := c.ShareSnapshots(ctx, "s")
	same("ShareSnapshots", taken, err, []ShareSnapshot{{at, "(Do not change)snap-1", false, "r1"}})
	same("DeleteShareSnapshot", nil, c.DeleteShareSnapshot(ctx, "s", at), nil)
	rules, err := c.NFSRules(ctx, "s")
	same("NFSRules", rules, err, []NFSRule{{"10.0.0.0/24", "rw", SquashNone, true, true, true, SecurityFlavor{Sys: true}}})
	nfs, err := c.NFS(ctx)
	same("NFS", nfs, err, NFS{true, true, "", 4, 1})
}

func TestCapturedRefusals(t *testing.T) {
	c, _ := captured(t, map[string]string{authAPI + ".login": "login_otp"})
	if _, err := c.LUNs(t.Context()); CodeOf(err) != codeOTPNeeded || !errs.Is(err, errs.Unavailable) {
		t.Errorf("a login without its second factor: %v", err)
	}
}

// TestRequests holds what is sent to what was measured: POST, identities as JSON strings, the session
// as a cookie and as a parameter without quotes, the token twice.
func TestRequests(t *testing.T) {
	c, seen := captured(t, map[string]string{targetAPI + ".delete": "nothing", lunAPI + ".map_target": "nothing", lunAPI + ".create": "lun_create", shareAPI + ".clone": "nothing"})
	ctx := t.Context()
	_, err := c.CreateLUN(ctx, NewLUN{Name: "123", Location: "/volume1", Type: TypeThin, Size: 5, Description: "<a&b>", Attrs: []string{AttrSnapshot}})
	for _, err := range []error{err, c.DeleteTarget(ctx, 4), c.MapLUN(ctx, "u", 4, 5), c.CloneShare(ctx, "old", "", NewShare{Name: "new", VolumePath: "/volume1"})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	session := url.Values{"_sid": {"xxx"}, "SynoToken": {"yyy"}}
	for key, want := range map[string]url.Values{
		authAPI + ".login": {"version": {"7"}, "account": {"u"}, "passwd": {"p&ss w=rd"}, "format": {"sid"}, "session": {"dsm"}, "enable_syno_token": {"yes"}},
		lunAPI + ".create": {"version": {"1"}, "name": {`"123"`}, "location": {`"/volume1"`}, "type": {`"BLUN"`}, "size": {"5"},
			"description": {`"<a&b>"`}, "dev_attribs": {`[{"dev_attrib":"can_snapshot","enable":1}]`}},
		targetAPI + ".delete":  {"version": {"1"}, "target_id": {`"4"`}},
		lunAPI + ".map_target": {"version": {"1"}, "uuid": {`"u"`}, "target_ids": {`["4","5"]`}},
		shareAPI + ".clone": {"version": {"1"}, "name": {`"new"`}, "shareinfo": {
			`{"name":"new","name_org":"old","vol_path":"/volume1","desc":"","enable_share_cow":false,"enable_recycle_bin":false,"recycle_bin_admin_only":true,"encryption":0,"share_quota":0}`}},
	} {
		r := seen[key]
		got := r.PostForm
		got.Del("api")
		got.Del("method")
		if key != authAPI+".login" {
			for name, value := range session {
				want[name] = value
			}
			if r.Header.Get("Cookie") != "id=xxx" || r.Header.Get("X-SYNO-TOKEN") != "yyy" {
				t.Errorf("%s: Cookie %q, X-SYNO-TOKEN %q", key, r.Header.Get("Cookie"), r.Header.Get("X-SYNO-TOKEN"))
			}
		}
		if r.Method != "POST" || r.URL.String() != "/webapi/entry.cgi" || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s %s\n got %v\nwant %v", key, r.Method, r.URL, got, want)
		}
	}
}

// TestWWID is the identity that was measured on a DS918+, of which the digits after the 25th are not known.
func TestWWID(t *testing.T) {
	if got, want := WWID("13a3cd1e-f296-4d4b-b712-a00000000000"), "3"+"600140513a3cd1edf296d4d4bdb712da"; got != want {
		t.Errorf("WWID %s, want %s", got, want)
	}
}
