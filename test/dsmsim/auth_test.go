package dsmsim

import (
	"fmt"
	"testing"
	"time"
)

func TestCSRFToken(t *testing.T) {
	n := newNAS(t, Config{CSRF: true})
	n.want(105, lunAPI+"list")
	n.want(105, lunAPI+"list", "SynoToken=wrong")
	n.want(0, lunAPI+"list", "SynoToken="+n.token)
	n.SetCSRF(false)
	n.want(0, lunAPI+"list")
}

func TestSessions(t *testing.T) {
	n := newNAS(t, Config{})
	n.want(0, lunAPI+"list")
	if a := n.ask(lunAPI+"list", `_sid="`+n.sid+`"`); a.code != 119 {
		t.Errorf("a quoted session: code %d, want 119", a.code)
	}
	if a, err := n.from("127.0.0.2", lunAPI+"list", "_sid="+n.sid); err != nil || a.code != 119 {
		t.Errorf("from another address: code %d, %v, want 119", a.code, err)
	}
	n.clock.pass(14 * time.Minute)
	n.want(0, lunAPI+"list")
	n.clock.pass(16 * time.Minute)
	n.want(106, lunAPI+"list")
	n.want(119, lunAPI+"list")
	n.login()
	n.want(0, lunAPI+"list")
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	n.want(119, lunAPI+"list")
	cookie := newNAS(t, Config{NeedCookie: true})
	cookie.want(119, lunAPI+"list")
}

// TestAutoBlock blocks an address after three failures, with the right password too, and no other address.
func TestAutoBlock(t *testing.T) {
	n := newNAS(t, Config{})
	login := func(ip, account, password string) int {
		a, err := n.from(ip, "SYNO.API.Auth.login/6", "account="+account, "passwd="+password)
		if err != nil {
			t.Fatal(err)
		}
		return a.code
	}
	var codes []int
	for range 3 {
		codes = append(codes, login("127.0.0.1", "admin", "wrong"))
	}
	codes = append(codes, login("127.0.0.1", "admin", "right"), login("127.0.0.3", "admin", "right"), login("127.0.0.3", "guest", "right"))
	n.want(0, lunAPI+"list")
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	codes = append(codes, login("127.0.0.1", "admin", "right"))
	n.clock.pass(25 * time.Hour)
	codes = append(codes, login("127.0.0.1", "admin", "right"))
	if got, want := fmt.Sprint(codes), "[400 400 400 407 0 402 407 0]"; got != want {
		t.Errorf("codes %s, want %s", got, want)
	}
}

func TestInfo(t *testing.T) {
	n := newNAS(t, Config{})
	a := n.ask("SYNO.API.Info.query", "query=SYNO.API.Auth,SYNO.Core.ISCSI.LUN,SYNO.None")
	if got, want := fmt.Sprint(a.data), "map[SYNO.API.Auth:map[maxVersion:7 minVersion:1 path:entry.cgi] SYNO.Core.ISCSI.LUN:map[maxVersion:1 minVersion:1 path:entry.cgi requestFormat:JSON]]"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	n.want(102, "SYNO.None.get")
	n.want(103, "SYNO.Core.ISCSI.LUN.load_snapshot")
	n.want(104, "SYNO.Core.ISCSI.LUN.list/2")
}
