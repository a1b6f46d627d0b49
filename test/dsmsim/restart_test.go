package dsmsim

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestStateSurvives a restart, and the death of the simulator's process.
func TestStateSurvives(t *testing.T) {
	dir := t.TempDir()
	files, err := NewFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := newNAS(t, Config{Dir: dir, Plane: files})
	uuid := n.newLUN("a")
	if err := os.WriteFile(files.image(uuid), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.want(0, lunAPI+"set", `uuid="a"`, "new_size=2147483648")
	snap, _ := n.want(0, lunAPI+"take_snapshot", `src_lun_uuid="a"`, `snapshot_name="s"`)["snapshot_uuid"].(string)
	clone, _ := n.want(0, lunAPI+"clone_snapshot", `src_lun_uuid="a"`, `snapshot_uuid="`+snap+`"`, `cloned_lun_name="b"`)["cloned_lun_uuid"].(string)
	n.want(0, targetAPI+"create", `name="t"`, `iqn="iqn.t"`, "max_sessions=0", "auth_type=1", `user="u"`, `password="twelve-chars"`)
	n.want(0, lunAPI+"map_target", `uuid="a"`, `target_ids=["1"]`)
	n.want(0, "SYNO.Core.Share.create", `name="s"`, `shareinfo={"name":"s","vol_path":"/volume1","name_org":"","share_quota":5}`)

	again, err := NewFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := newNAS(t, Config{Dir: dir, Plane: again})
	e, ok := again.Export("iqn.t")
	if !ok || len(e.LUNs) != 1 || e.LUNs[0].Index != 1 || e.LUNs[0].Image != uuid || e.Password != "twelve-chars" {
		t.Errorf("exported after the restart: %+v", e)
	}
	if f, ok := again.Folder("s"); !ok || f.QuotaMB != 5 {
		t.Errorf("served after the restart: %+v", f)
	}
	for id, size := range map[string]int64{uuid: 2 << 30, snap: 2 << 30, clone: 2 << 30} {
		data, err := os.Open(again.image(id))
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 4)
		_, _ = data.Read(head)
		if info, err := data.Stat(); err != nil || string(head) != "data" || info.Size() != size {
			t.Errorf("image %s: %q, %v", id, head, err)
		}
		_ = data.Close()
	}
	if got := b.newLUN("c"); got == "" || b.state.lun("c").ID != 3 {
		t.Errorf("the next LUN after two has number %d", b.state.lun("c").ID)
	}
	b.want(0, lunAPI+"delete", `uuid="a"`)
	if left, _ := filepath.Glob(filepath.Join(dir, "images", "*")); len(left) != 2 {
		t.Errorf("images %v, want those of b and c", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestFaultsAreCounted: skipping, a number of times, for one method, and only known actions.
func TestFaultsAreCounted(t *testing.T) {
	n := newNAS(t, Config{})
	if err := n.SetFaults(Fault{Action: "typo"}); err == nil {
		t.Error("an unknown action is taken")
	}
	if err := n.SetFaults(Fault{API: "SYNO.Core.ISCSI.LUN", Method: "list", Action: Refuse, Code: 100, Skip: 1, Times: 2}); err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{0, 100, 100, 0} {
		n.want(code, lunAPI+"list")
		n.want(0, targetAPI+"list")
	}
	if got := n.Calls()["SYNO.Core.ISCSI.LUN.list"]; got != 4 {
		t.Errorf("%d calls counted, want 4", got)
	}
}

// TestFaultsAreWhatTheySay tries each on a create, without any client of ours: whether it was answered, and whether it
// was done.
func TestFaultsAreWhatTheySay(t *testing.T) {
	for _, action := range Actions() {
		n := newNAS(t, Config{})
		if err := n.SetFaults(Fault{Method: "create", Action: action, Code: 18990002, Delay: 1, Times: 1}); err != nil {
			t.Fatal(err)
		}
		a, err := n.from("", lunAPI+"create", "_sid="+n.sid, `name="a"`, "size=1", "type=BLUN", "location=/volume1")
		answered := err == nil && a.code == 0 && a.data != nil
		if want := action == Delay || action == HangDone || action == TrickleDone; answered != want {
			t.Errorf("%s: answer %v, %v", action, a, err)
		}
		if done := n.state.lun("a") != nil; done != action.Done() {
			t.Errorf("%s: done %v, want %v", action, done, action.Done())
		}
	}
}

// TestTrickle: the half of an answer comes with how long it is to be, and the rest when it is time, if the caller is still there.
func TestTrickle(t *testing.T) {
	n := newNAS(t, Config{})
	for delay, whole := range map[time.Duration]bool{time.Millisecond: true, time.Hour: false, 0: false} {
		if err := n.SetFaults(Fault{Action: TrickleDone, Delay: delay}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/webapi/entry.cgi?api=SYNO.API.Info&version=1&method=query&query=SYNO.API.Auth", nil)
		came := httptest.NewRecorder()
		func() {
			defer func() { _ = recover() }() // as a server does
			n.ServeHTTP(came, r)
		}()
		length, _ := strconv.Atoi(came.Header().Get("Content-Length"))
		if got := came.Body.Len(); !came.Flushed || length == 0 || whole && got != length || !whole && got != length/2 {
			t.Errorf("delay %v: %d bytes of %d", delay, got, length)
		}
	}
}

// TestContents: a LUN that is deleted is there until it has gone, whether anybody asks or not.
func TestContents(t *testing.T) {
	dir := t.TempDir()
	if _, err := Contents(dir); err == nil {
		t.Error("a directory without a NAS has one that is empty")
	}
	n := newNAS(t, Config{Dir: dir, DeleteLag: time.Minute})
	n.newLUN("a")
	n.newLUN("b")
	n.want(0, lunAPI+"take_snapshot", `src_lun_uuid="a"`, `snapshot_name="s"`)
	n.want(0, targetAPI+"create", `name="t"`, `iqn="iqn.t"`, "max_sessions=0", "auth_type=0")
	n.want(0, lunAPI+"map_target", `uuid="b"`, `target_ids=["1"]`)
	n.want(0, "SYNO.Core.Share.create", `name="f"`, `shareinfo={"name":"f","vol_path":"/volume1","name_org":"","desc":"whose"}`)
	n.want(0, lunAPI+"delete", `uuid="a"`)
	for when, want := range map[time.Duration][]string{
		0:           {"LUN a: ", "LUN b: ", "snapshot s: ", "share f: whose", "target t: 1 LUNs"},
		time.Minute: {"LUN b: ", "share f: whose", "target t: 1 LUNs"},
	} {
		if got := n.state.contents(n.clock.Now().Add(when)); !slices.Equal(got, want) {
			t.Errorf("after %v: %q, want %q", when, got, want)
		}
	}
	if got, err := Contents(dir); err != nil || len(got) == 0 {
		t.Errorf("Contents: %q, %v", got, err)
	}
}
