package dsm

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

func everything(Snapshot) bool { return true }

// stream reads a body as that of a list of LUNs.
func stream(text string) (*lunList, answer, error) {
	l := &lunList{keep: everything}
	a, err := l.parse(&body{from: strings.NewReader(text), most: maxList})
	return l, a, err
}

// listing is a NAS that has so many LUNs with as many snapshots as a schedule of DSM's keeps, each as long as in the simulator's list,
// and counts how often it is asked for them.
func listing(t *testing.T, luns int) (*Client, *int) {
	t.Helper()
	snapshot := `{"create_time":1795427063,"description":"","is_app_consistent":false,"is_user_locked":false,"is_worm_locked":false,"locked_app_keys":[],"mapped_size":0,
		"name":"GMT+08-2025.01.01-00.00.00","parent_lun_id":1,"parent_uuid":"6112b745-b394-4e81-bf79-cabce1e3f37a","root_path":"/volume1","snapshot_id":123,"snapshot_time":1795427063,
		"status":{"progress":{"percent":-1,"step":"waiting"},"type":"Healthy"},"taken_by":"scheduler","total_size":1099511627776,"type":2,"uuid":"24baa810-27b5-4480-9cd7-7bc84ab7ff78",
		"version":"uuid","worm_lock_day":"0"},`
	asked := new(int)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if file := map[string]string{"query": "info", "login": "login"}[r.PostFormValue("method")]; file != "" {
			text, err := os.ReadFile("testdata/" + file + ".json")
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(text)
			return
		}
		*asked++
		_, _ = io.WriteString(w, `{"data":{"luns":[`)
		for i := range luns {
			_, _ = fmt.Fprintf(w, `{"uuid":"u%d","name":"l%d","size":1073741824,"snapshots":[%s{"description":"ours"}]},`, i, i, strings.Repeat(snapshot, 255))
		}
		_, _ = io.WriteString(w, `{"name":"last"}]},"success":true}`)
	}))
	t.Cleanup(server.Close)
	c, err := New(Config{URL: server.URL, Fingerprint: Fingerprint(server.Certificate()), Pause: time.Millisecond, Credentials: Credentials{Account: "u", Password: NewSecret("p")}})
	if err != nil {
		t.Fatal(err)
	}
	return c, asked
}

// TestLongList is read without holding much of it. With DOZO_TEST_LONG=1 it is as many LUNs as any model has, 67 MiB.
func TestLongList(t *testing.T) {
	n := 100
	if os.Getenv("DOZO_TEST_LONG") == "1" {
		n = 512
	}
	c, _ := listing(t, n)
	runtime.GC()
	var memory runtime.MemStats
	seen, most := 0, uint64(0)
	start := time.Now()
	luns, err := c.LUNsWithSnapshots(t.Context(), func(s Snapshot) bool {
		if seen++; seen%4096 == 0 {
			runtime.ReadMemStats(&memory)
			most = max(most, memory.HeapAlloc)
		}
		return s.Description == "ours"
	})
	if err != nil || len(luns) != n+1 || seen != n*256 {
		t.Fatalf("%d LUNs, %d snapshots, %v", len(luns), seen, err)
	}
	for i, l := range luns[:n] {
		if l.Name != fmt.Sprintf("l%d", i) || len(l.Snapshots) != 1 || cap(l.Snapshots) > 1 {
			t.Errorf("LUN %+v", l)
		}
	}
	t.Logf("%d snapshots in %v and %d MiB", seen, time.Since(start), most>>20)
	if most > 10<<20 {
		t.Errorf("%d MiB of memory", most>>20)
	}
}

// TestTooLongList is not asked for again, and says what to do.
func TestTooLongList(t *testing.T) {
	c, asked := listing(t, 70)
	c.maxList = maxBody + 1<<18
	_, err := c.LUNsWithSnapshots(t.Context(), everything)
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "delete some") || !strings.Contains(err.Error(), "more than 8650752 bytes") || *asked != 1 {
		t.Errorf("asked %d times: %v", *asked, err)
	}
	if _, err := c.LUNs(t.Context()); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "more than 8388608 bytes") {
		t.Errorf("another call: %v", err)
	}
}

// TestOddLUN is one that does not fit: a surprise, and no list without it.
func TestOddLUN(t *testing.T) {
	c, _ := captured(t, map[string]string{lunAPI + ".list": "lun_odd"})
	if luns, err := c.LUNsWithSnapshots(t.Context(), everything); !errs.Is(err, errs.Internal) {
		t.Errorf("%+v, %v", luns, err)
	}
	c, _ = captured(t, map[string]string{lunAPI + ".list": "nothing"})
	if luns, err := c.LUNsWithSnapshots(t.Context(), everything); !errs.Is(err, errs.Internal) {
		t.Errorf("%+v, %v", luns, err)
	}
}

// FuzzStream: a list that is read as it comes is the one that it is when it is read at once.
func FuzzStream(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.json")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
		f.Add(string(text[:len(text)/2]))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var data struct{ LUNs *[]LUN }
		a, err := parseAnswer([]byte(text))
		odd := err
		if err == nil && a.code == 0 && !a.empty() {
			odd = decode(call{lunAPI, 1, "list"}, a, &data)
		}
		if data.LUNs != nil {
			for i, l := range *data.LUNs {
				(*data.LUNs)[i].Snapshots = (&lunList{keep: everything}).kept(l.Snapshots)
			}
		}
		l, streamed, broke := stream(text)
		switch {
		case broke == nil && (err != nil || streamed.code != a.code):
			t.Errorf("%q: code %d; at once it is %d, %v", text, streamed.code, a.code, err)
		case a.code != 0 || broke != nil && odd != nil:
		case (broke != nil || l.odd != nil) != (odd != nil):
			t.Errorf("%q: %v, %v; at once it is %v", text, broke, l.odd, odd)
		case odd == nil && !reflect.DeepEqual(l.luns, data.LUNs):
			t.Errorf("%q: %+v; at once it is %+v", text, l.luns, data.LUNs)
		}
	})
}
