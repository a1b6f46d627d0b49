package dsmsim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What these tests ask and expect was measured on real machines, unless it says otherwise.

func TestNames(t *testing.T) {
	n := newNAS(t, Config{})
	create := func(code int, name string) {
		n.want(code, lunAPI+"create", "name="+name, "size=1", "type=BLUN", "location=/volume1")
	}
	for _, bad := range []string{`"with space"`, `"under_score"`, `"plus+"`, `"at@"`, `""`, `"` + strings.Repeat("x", 256) + `"`, `123`} {
		create(18990503, bad)
	}
	create(0, `"a.b:c-D\\9"`)
	create(0, `bare`)
	create(0, `"`+strings.Repeat("y", 200)+`"`)
	create(18990538, `"bare"`)
	long := strings.Repeat("z", 255)
	create(18990068, `"`+long+`"`)
	if l, _ := n.want(0, lunAPI+"get", `uuid="`+long+`"`)["lun"].(map[string]any); l["name"] != long {
		t.Error("the 255-character create is refused, and creates")
	}
	for params, code := range map[string]int{"size=0,type=BLUN,location=/volume1": 18990502, "size=1,type=X,location=/volume1": 18990500,
		"size=1,type=BLUN,location=/volume9": 18990501, "size=1,type=BLUN,location=/volume2": 18990318, "size=1,type=BLUN_THICK,location=/volume1": 0} {
		n.want(code, lunAPI+"create", append([]string{`name="p` + fmt.Sprint(code) + `"`}, strings.Split(params, ",")...)...)
	}
}

func TestDefaultsThatHurt(t *testing.T) {
	n := newNAS(t, Config{})
	n.want(0, lunAPI+"create", `name="plain"`, "size=1", "type=BLUN", "location=/volume1")
	l, _ := n.want(0, lunAPI+"get", `uuid="plain"`)["lun"].(map[string]any)
	attrs := fmt.Sprint(l["dev_attribs"])
	for _, off := range []string{"map[dev_attrib:can_snapshot enable:0]", "map[dev_attrib:emulate_tpu enable:0]"} {
		if !strings.Contains(attrs, off) {
			t.Errorf("attributes %s, want %s", attrs, off)
		}
	}
	if _, ok := l["is_action_locked"]; ok {
		t.Error("is_action_locked is there, though nobody asked for it")
	}
	n.want(0, targetAPI+"create", `name="t"`, `iqn="iqn.t"`, "auth_type=0")
	g, _ := n.want(0, targetAPI+"get", `target_id="t"`)["target"].(map[string]any)
	if g["max_sessions"] != 1.0 {
		t.Errorf("max_sessions %v, want 1", g["max_sessions"])
	}
}

// TestNumbersAsStrings: a bare number is no identity, but in a list it is one.
func TestNumbersAsStrings(t *testing.T) {
	n := newNAS(t, Config{})
	uuid := n.newLUN("a")
	n.want(0, targetAPI+"create", `name="t"`, `iqn="iqn.t"`)
	n.want(18990710, targetAPI+"get", "target_id=1")
	n.want(0, targetAPI+"get", `target_id="1"`)
	n.want(0, targetAPI+"get", `target_id=t`)
	n.want(0, lunAPI+"map_target", `uuid="`+uuid+`"`, "target_ids=[1]")
	n.want(0, lunAPI+"map_target", `uuid=`+uuid, `target_ids=["1"]`)
	n.want(18990710, lunAPI+"map_target", `uuid="a"`, `target_ids=["9"]`)
}

// TestIndexIsReused: the first is 1, and a freed one is the next LUN's.
func TestIndexIsReused(t *testing.T) {
	n := newNAS(t, Config{})
	for i := range 4 {
		n.newLUN(fmt.Sprintf("l%d", i))
	}
	n.want(0, targetAPI+"create", `name="t"`, `iqn="iqn.t"`)
	index := func(name string) any {
		list, _ := n.call(targetAPI+"get", `target_id="t"`, `additional=["mapped_lun"]`).data.(map[string]any)["target"].(map[string]any)["mapped_luns"].([]any)
		l, _ := n.want(0, lunAPI+"get", `uuid="`+name+`"`)["lun"].(map[string]any)
		for _, m := range list {
			if m.(map[string]any)["lun_uuid"] == l["uuid"] {
				return m.(map[string]any)["mapping_index"]
			}
		}
		return nil
	}
	for i := range 3 {
		n.want(0, lunAPI+"map_target", fmt.Sprintf(`uuid="l%d"`, i), `target_ids=["1"]`)
	}
	n.want(0, lunAPI+"unmap_target", `uuid="l1"`, `target_ids=["1"]`)
	n.want(0, lunAPI+"map_target", `uuid="l3"`, `target_ids=["1"]`)
	for name, want := range map[string]any{"l0": 1.0, "l1": nil, "l2": 3.0, "l3": 2.0} {
		if got := index(name); got != want {
			t.Errorf("%s: index %v, want %v", name, got, want)
		}
	}
}

// TestSlowWork: a new LUN is locked for a while, and a deleted one stays for a while.
func TestSlowWork(t *testing.T) {
	n := newNAS(t, Config{CreateLock: 2 * time.Second, DeleteLag: 5 * time.Second})
	uuid := n.newLUN("a")
	n.want(codeLocked, lunAPI+"set", `uuid="a"`, "new_size=2147483648")
	n.clock.pass(3 * time.Second)
	n.want(0, lunAPI+"set", `uuid="a"`, "new_size=2147483648")
	n.want(0, lunAPI+"take_snapshot", `src_lun_uuid="a"`, `snapshot_name="s"`)
	n.want(0, targetAPI+"create", `name="t"`, `iqn="iqn.t"`)
	n.want(0, lunAPI+"map_target", `uuid="a"`, `target_ids=["1"]`)
	n.want(0, lunAPI+"delete", `uuid=""`, `uuids=["`+uuid+`"]`, "is_soft_feas_ignored=true")
	l, _ := n.want(0, lunAPI+"get", `uuid="a"`, `additional=["is_action_locked"]`)["lun"].(map[string]any)
	if l["is_action_locked"] != true {
		t.Error("a LUN that is being deleted is not locked")
	}
	n.want(18990538, lunAPI+"create", `name="a"`, "size=1", "type=BLUN", "location=/volume1")
	n.clock.pass(6 * time.Second)
	n.want(18990531, lunAPI+"get", `uuid="a"`)
	if m := n.plane.(*Memory); m.Images() != 0 {
		t.Errorf("%d images are left", m.Images())
	}
}

// TestAnswersOfOddShape: no data, a bare array, a bare string, sizes as strings, failures inside a success.
func TestAnswersOfOddShape(t *testing.T) {
	n := newNAS(t, Config{})
	n.newLUN("a")
	if a := n.call(lunAPI+"set", `uuid="a"`, "description=x"); a.data != nil {
		t.Errorf("data %v, want none", a.data)
	}
	if _, ok := n.call("SYNO.Core.Network.Interface.list").data.([]any); !ok {
		t.Error("interfaces are no array")
	}
	v, _ := n.want(0, "SYNO.Core.Storage.Volume.get", `volume_path="/volume1"`)["volume"].(map[string]any)
	if v["size_total_byte"] != "1099511627776" {
		t.Errorf("size %v", v["size_total_byte"])
	}
	n.want(117, "SYNO.Core.Storage.Volume.get", `volume_path="/volume9"`)
	if d := n.want(0, "SYNO.Core.Storage.Volume.get", `volume_path="nonsense"`); d["volume"] != nil {
		t.Errorf("volume %v of a path that is none", d["volume"])
	}
	n.want(0, "SYNO.Core.Share.create", `name="s"`, `shareinfo={"name":"s","vol_path":"/volume1","name_org":""}`)
	at, ok := n.call("SYNO.Core.Share.Snapshot.create", `name="s"`, `snapinfo={"desc":"d"}`).data.(string)
	if !ok || !strings.HasPrefix(at, "GMT") {
		t.Errorf("a snapshot of a share: %q", at)
	}
	list := fmt.Sprint(n.want(0, "SYNO.Core.Share.Snapshot.list/2", `name="s"`))
	if !strings.Contains(list, "lock:true") {
		t.Errorf("%s: locked is the default", list)
	}
	for _, failed := range []int{0, 1} {
		if a, _ := n.call("SYNO.Core.Share.Snapshot.delete", `name="s"`, `snapshots=["`+at+`"]`).data.([]any); len(a) != failed {
			t.Errorf("%v failed, want %d", a, failed)
		}
	}
}

// TestTypesHideVirtualDisks, which count towards the ceiling all the same.
func TestTypesHideVirtualDisks(t *testing.T) {
	n := newNAS(t, Config{VirtualDisks: 2, Model: Model{LUNs: 3}})
	n.newLUN("a")
	n.want(18990541, lunAPI+"create", `name="b"`, "size=1", "type=BLUN", "location=/volume1")
	for filter, want := range map[string]int{"": 3, `types=["BLUN","BLUN_THICK"]`: 1} {
		if list, _ := n.want(0, lunAPI+"list", filter)["luns"].([]any); len(list) != want {
			t.Errorf("%d LUNs with %q, want %d", len(list), filter, want)
		}
	}
}

// TestShortText: a description is cut off wherever it is given, and nothing says so.
func TestShortText(t *testing.T) {
	n := newNAS(t, Config{ShortText: 3})
	uuid := n.newLUN("a", `description="abcde"`)
	n.want(0, lunAPI+"take_snapshot", `src_lun_uuid="a"`, `snapshot_name="s"`, `description="abcde"`)
	n.want(0, lunAPI+"clone_snapshot", `src_lun_uuid="`+uuid+`"`, `snapshot_uuid="`+n.state.Snapshots[0].UUID+`"`, `cloned_lun_name="b"`, `description="abcde"`)
	info := `shareinfo={"name":"s","vol_path":"/volume1","name_org":"","desc":"abcde"}`
	n.want(0, "SYNO.Core.Share.create", `name="s"`, info)
	for range 2 {
		if got, want := n.state.contents(n.clock.Now()), []string{"LUN a: abc", "LUN b: abc", "snapshot s: abc", "share s: abc"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		n.want(0, lunAPI+"set", `uuid="a"`, `description="abcd"`)
		n.want(0, "SYNO.Core.Share.set", `name="s"`, info)
	}
}

// TestRefusals are the codes of what cannot be made.
func TestRefusals(t *testing.T) {
	n := newNAS(t, Config{Model: Model{LUNs: 4, Targets: 2, SnapshotsPerLUN: 1, Shares: 1}})
	share := func(code int, name, volume string) {
		n.want(code, "SYNO.Core.Share.create", `name="`+name+`"`, `shareinfo={"name":"`+name+`","vol_path":"`+volume+`","name_org":""}`)
	}
	share(403, strings.Repeat("x", 33), "/volume1")
	share(403, "s", "/volume9")
	share(0, strings.Repeat("x", 32), "/volume1")
	share(3301, strings.Repeat("x", 32), "/volume1")
	share(3309, "s", "/volume1")
	n.want(402, "SYNO.Core.Share.get", `name="none"`)
	for _, c := range []struct {
		code   int
		params string
	}{
		{18990700, `name=5 iqn="iqn.t"`}, {18990702, `name="t" iqn="iqn.t" auth_type=3`}, {18990708, `name="t" iqn="iqn.t" auth_type=1 user="u"`},
		{0, `name="t" iqn="iqn.t"`}, {18990744, `name="t" iqn="iqn.u"`}, {18990745, `name="u" iqn="iqn.t"`}, {0, `name="u" iqn="iqn.u"`},
		{18990542, `name="v" iqn="iqn.v"`},
	} {
		n.want(c.code, targetAPI+"create", strings.Fields(c.params)...)
	}
	n.newLUN("a")
	n.want(0, lunAPI+"take_snapshot", `src_lun_uuid="a"`, `snapshot_name="s"`)
	n.want(18990513, lunAPI+"take_snapshot", `src_lun_uuid="a"`, `snapshot_name="s"`)
	n.want(18990543, lunAPI+"take_snapshot", `src_lun_uuid="a"`, `snapshot_name="t"`)
	n.want(18990531, lunAPI+"take_snapshot", `src_lun_uuid="none"`, `snapshot_name="t"`)
	n.want(18990532, lunAPI+"get_snapshot", `snapshot_uuid="none"`)
	n.want(18990505, lunAPI+"get", `uuid=5`)
}

// TestNFSSettings are set one by one, on DSM 7.3 all at once.
func TestNFSSettings(t *testing.T) {
	api := "SYNO.Core.FileServ.NFS."
	for whole, code := range map[bool]int{false: 0, true: 2001} {
		n := newNAS(t, Config{WholeNFS: whole})
		n.want(code, api+"set/2", "enable_nfs=true", "enable_nfs_v4=false", "enabled_minor_ver=1")
		if s := n.want(0, api+"get/2"); s["enable_nfs"] != true || s["enable_nfs_v4"] != whole {
			t.Errorf("whole %v: %v", whole, s)
		}
		n.want(0, api+"set/2", "enable_nfs=false", "enable_nfs_v4=true", `nfs_v4_domain=""`, "read_size=8192", "write_size=8192", "unix_pri_enable=true")
		if s := n.want(0, api+"get/2"); s["enable_nfs"] != false || s["enable_nfs_v4"] != true {
			t.Errorf("whole %v: %v", whole, s)
		}
	}
}

func TestNFSRules(t *testing.T) {
	n := newNAS(t, Config{})
	n.want(0, "SYNO.Core.Share.create", `name="s"`, `shareinfo={"name":"s","vol_path":"/volume1","name_org":""}`)
	api := "SYNO.Core.FileServ.NFS.SharePrivilege."
	rule := `{"client":"*","privilege":"rw","root_squash":"root","async":true,"insecure":true,"crossmnt":true,"security_flavor":{"sys":true}}`
	n.want(2301, api+"load", `name="s"`)
	n.want(2370, api+"load", `share_name="none"`)
	n.want(0, api+"save", `share_name="s"`, "rule=["+rule+","+rule+"]")
	n.want(0, api+"save", `share_name="s"`, "rule=["+rule+"]")
	if rules, _ := n.want(0, api+"load", `share_name="s"`)["rule"].([]any); len(rules) != 1 {
		t.Errorf("%d rules: a save replaces them all", len(rules))
	}
	n.want(2301, api+"save", `share_name="s"`, `rule=[{"client":"*"}]`)
	n.want(2301, api+"save", `share_name="s"`, "rule=["+strings.Replace(rule, `"root_squash":"root"`, `"root_squash":"no_root_squash"`, 1)+"]")
	n.want(3300, "SYNO.Core.Share.clone", `name="c"`, `snapshot="GMT+00-1970.01.01-00.00.00"`, `shareinfo={"name":"c","vol_path":"/volume1","name_org":"s"}`)
	n.want(102, "SYNO.Core.Share.NFS.load", `name="s"`)
}
