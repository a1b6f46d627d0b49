package scheduler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/internal/errs"
)

// newServer has a pod's annotations for its volumes: pool: size.
func newServer(s *Scheduler) *Server {
	return &Server{
		Scheduler: s,
		Volumes: func(_ context.Context, pod *corev1.Pod) ([]claims.Volume, error) {
			if pod.Name == "claimless" {
				return nil, errs.E(errs.NotFound, "claim ns/a: not found")
			}
			return []claims.Volume{volume(pod.Name, "ssd", 6*gib)}, nil
		},
		Ready:   func() error { return nil },
		Log:     slog.New(slog.DiscardHandler),
		Observe: func(string, time.Duration, int) {},
	}
}

func post(h http.Handler, path string, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
	return w
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func threeNodes(t testing.TB) *Scheduler {
	s := newScheduler(t)
	has(s, "n1", map[string]int64{"ssd": 5 * gib})
	has(s, "n2", map[string]int64{"ssd": 10 * gib})
	has(s, "n3", map[string]int64{"ssd": 40 * gib})
	return s
}

// args are the arguments that kube-scheduler sends, with names or with whole nodes.
func args(full bool, nodes ...string) extenderv1.ExtenderArgs {
	a := extenderv1.ExtenderArgs{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-0", UID: "u"}}}
	if !full {
		a.NodeNames = &nodes
		return a
	}
	a.Nodes = &corev1.NodeList{}
	for _, n := range nodes {
		a.Nodes.Items = append(a.Nodes.Items, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n, Labels: map[string]string{"a": `b"\{[`}}})
	}
	return a
}

func TestServerFilters(t *testing.T) {
	for _, full := range []bool{false, true} {
		for _, nodes := range [][]string{{"n1", "n2", "n3", "n4"}, {"n1"}, {"n3"}, {}} {
			t.Run(fmt.Sprintf("full=%v,nodes=%d", full, len(nodes)), func(t *testing.T) {
				in := args(full, nodes...)
				w := post(newServer(threeNodes(t)).Handler(), "/filter", marshal(t, in))
				var got extenderv1.ExtenderFilterResult
				if err := json.Unmarshal(w.Body.Bytes(), &got); w.Code != 200 || err != nil {
					t.Fatalf("status %d, %v: %s", w.Code, err, w.Body)
				}
				var names []string
				if full {
					if got.NodeNames != nil {
						t.Errorf("names were not asked for: %v", *got.NodeNames)
					}
					for _, n := range got.Nodes.Items {
						names = append(names, n.Name)
						if n.Labels["a"] != `b"\{[` {
							t.Errorf("node %s did not come back as it was: %v", n.Name, n.Labels)
						}
					}
				} else {
					names = *got.NodeNames // never nil, or kube-scheduler would take it for an answer in nodes
				}
				for _, n := range nodes {
					fits := n == "n2" || n == "n3"
					if fits != slices.Contains(names, n) || fits == (got.FailedAndUnresolvableNodes[n] != "") {
						t.Errorf("node %s: passed %v, refused %v", n, names, got.FailedAndUnresolvableNodes)
					}
				}
				if len(got.FailedNodes) != 0 {
					t.Errorf("nodes that preemption would be tried for: %v", got.FailedNodes)
				}
			})
		}
	}
}

func TestServerPrioritizes(t *testing.T) {
	for _, full := range []bool{false, true} {
		w := post(newServer(threeNodes(t)).Handler(), "/prioritize", marshal(t, args(full, "n3", "n2", "n4")))
		var got extenderv1.HostPriorityList
		if err := json.Unmarshal(w.Body.Bytes(), &got); w.Code != 200 || err != nil {
			t.Fatalf("status %d, %v: %s", w.Code, err, w.Body)
		}
		want := extenderv1.HostPriorityList{{Host: "n3", Score: 5}, {Host: "n2", Score: 3}, {Host: "n4", Score: 0}}
		if !slices.Equal(got, want) {
			t.Errorf("full=%v: scores %v, want %v", full, got, want)
		}
	}
}

func TestServerRefuses(t *testing.T) {
	h := newServer(threeNodes(t)).Handler()
	for name, c := range map[string]struct {
		body string
		want string // in the answer
	}{
		"nothing":               {``, "not ExtenderArgs"},
		"no object":             {`[]`, "not ExtenderArgs"},
		"half":                  {`{"Pod":{"metadata":`, "not ExtenderArgs"},
		"no pod":                {`{"NodeNames":["n1"]}`, "Pod: missing"},
		"null pod":              {`{"Pod":null,"NodeNames":["n1"]}`, "Pod: missing"},
		"no nodes":              {`{"Pod":{}}`, "NodeNames and Nodes: both are missing"},
		"null nodes":            {`{"Pod":{},"Nodes":null,"NodeNames":null}`, "both are missing"},
		"a pod that is none":    {`{"Pod":3,"NodeNames":[]}`, "Pod: json"},
		"names that are none":   {`{"Pod":{},"NodeNames":[1]}`, "NodeNames: json"},
		"nodes that are none":   {`{"Pod":{},"Nodes":["n1"]}`, "Nodes: not JSON"},
		"a node without a name": {`{"Pod":{},"Nodes":{"items":[{"metadata":{}}]}}`, "without metadata.name"},
	} {
		for _, path := range []string{"/filter", "/prioritize"} {
			if w := post(h, path, []byte(c.body)); w.Code != 400 || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("%s %s: status %d: %s; want 400 with %q", path, name, w.Code, w.Body, c.want)
			}
		}
	}
	if w := httptest.NewRecorder(); true {
		r := httptest.NewRequest(http.MethodPost, "/filter", strings.NewReader("{}"))
		r.ContentLength = maxBody + 1
		if h.ServeHTTP(w, r); w.Code != 413 {
			t.Errorf("a body that is too large: status %d, want 413", w.Code)
		}
	}
	for path, want := range map[string]int{"/filter": 405, "/status": 404} {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil)); w.Code != want {
			t.Errorf("GET %s: status %d, want %d", path, w.Code, want)
		}
	}
}

// TestServerSaysWhy: what is wrong with a pod comes as a result, which kube-scheduler shows in an event;
// what is wrong with us as a status.
func TestServerSaysWhy(t *testing.T) {
	server := newServer(threeNodes(t))
	claimless := args(false, "n1")
	claimless.Pod.Name = "claimless"
	body := marshal(t, claimless)
	w := post(server.Handler(), "/filter", body)
	var got extenderv1.ExtenderFilterResult
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || got.Error != "dozo: claim ns/a: not found" {
		t.Errorf("status %d, error %q (%v)", w.Code, got.Error, err)
	}
	if w := post(server.Handler(), "/prioritize", body); w.Code != 503 {
		t.Errorf("prioritize: status %d, want 503", w.Code)
	}
	server.Ready = func() error { return errs.E(errs.Unavailable, "not yet") }
	if w := post(server.Handler(), "/filter", marshal(t, args(false, "n2"))); w.Code != 503 || !strings.Contains(w.Body.String(), "not yet") {
		t.Errorf("before it is ready: status %d: %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	if server.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil)); w.Code != 503 {
		t.Errorf("healthz before it is ready: status %d", w.Code)
	}
}

// TestServerKnowsNodesAgain: nodes that came before pass as they come now, whatever changed in them.
func TestServerKnowsNodesAgain(t *testing.T) {
	h := newServer(threeNodes(t)).Handler()
	in := args(true, "n2", "n3")
	for _, label := range []string{"a", "a", "longer", "b", ""} {
		in.Nodes.Items[1].Labels = map[string]string{"x": label}
		slices.Reverse(in.Nodes.Items)
		w := post(h, "/filter", marshal(t, in))
		slices.Reverse(in.Nodes.Items)
		var got extenderv1.ExtenderFilterResult
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Nodes.Items) != 2 {
			t.Fatalf("%v: %s", err, w.Body)
		}
		if n := got.Nodes.Items[0]; n.Name != "n3" || n.Labels["x"] != label {
			t.Errorf("%q: n3 came back as %s with %v", label, n.Name, n.Labels)
		}
	}
}

// TestKnownNodes: what is known is what is compared, and is bounded.
func TestKnownNodes(t *testing.T) {
	var k knownNodes
	node := `{"metadata":{"name":"n1","labels":{}}}`
	k.add("n1", []byte(node))
	k.add("n4", []byte(`{"metadata":{"name":"n5","name":"n4"}}`))
	for text, want := range map[string]bool{
		node + `,{`: true, node: true, node[:len(node)-1]: false, ``: false, nodeHead: false, nodeHead + `n4"`: false,
		strings.Replace(node, "labels", "lapels", 1): false, `{"metadata":{"name":"n5","name":"n4"}}`: false,
	} {
		if name, length, ok := k.at([]byte(text)); ok != want || ok && (name != "n1" || length != len(node)) {
			t.Errorf("%s: %q, %d, %v", text, name, length, ok)
		}
	}
	large := strings.Repeat(" ", maxKnown/4)
	for i := range 10 {
		name := fmt.Sprint("l", i)
		k.add(name, []byte(nodeHead+name+`"`+large))
		if k.bytes > maxKnown*3/2 {
			t.Fatalf("%d bytes are remembered", k.bytes)
		}
	}
}

// FuzzQuestion feeds both verbs bodies. What encoding/json understands must be understood the same way;
// nothing may panic, or be answered with what is no JSON.
func FuzzQuestion(f *testing.F) {
	f.Add(marshal(f, args(false, "n1", "n2")))
	f.Add(marshal(f, args(true, "n1", "n2")))
	f.Add([]byte(`{"pod":{},"NODENAMES":["a"],"Nodes":{"items":[{"metadata":{"name":"\u0061\"\\"}}]}}`))
	f.Add([]byte(`{"Pod":{"a":[{}]} , "Nodes" : {"items" : [ ] } }`))
	f.Fuzz(func(t *testing.T, body []byte) {
		known := &knownNodes{}
		q, err := parseQuestion(body, known)
		if again, errAgain := parseQuestion(body, known); (err == nil) != (errAgain == nil) || !reflect.DeepEqual(q, again) {
			t.Errorf("read a second time: %+v, %v; the first time: %+v, %v", again, errAgain, q, err)
		}
		var want extenderv1.ExtenderArgs
		if json.Unmarshal(body, &want) == nil && plain(body) {
			compare(t, q, err, want)
		}
		h := newServer(threeNodes(t)).Handler()
		for _, path := range []string{"/filter", "/prioritize"} {
			w := post(h, path, body)
			if w.Code != 400 && (w.Code != 200 || json.Valid(body) && !json.Valid(w.Body.Bytes())) {
				t.Errorf("%s: status %d: %s", path, w.Code, w.Body)
			}
		}
	})
}

// plain reports whether no field occurs twice or in another case, where encoding/json merges.
func plain(body []byte) bool {
	lower := bytes.ToLower(body)
	for _, field := range []string{`"pod"`, `"nodes"`, `"nodenames"`, `"items"`} {
		if bytes.Count(lower, []byte(field)) > 1 {
			return false
		}
	}
	return !bytes.ContainsAny(body, "\\\x80") && bytes.Count(lower, []byte(`"name"`)) == bytes.Count(body, []byte(`"name"`)) &&
		bytes.Count(lower, []byte(`"metadata"`)) == bytes.Count(body, []byte(`"metadata"`))
}

func compare(t *testing.T, q question, err error, want extenderv1.ExtenderArgs) {
	if want.Pod == nil || want.Nodes == nil && want.NodeNames == nil {
		if err == nil {
			t.Error("what lacks a part is accepted")
		}
		return
	}
	if err != nil || want.Nodes != nil && want.NodeNames != nil {
		return // a node without a name, or both
	}
	var names []string
	if want.NodeNames != nil {
		names = *want.NodeNames
	} else {
		for _, n := range want.Nodes.Items {
			names = append(names, n.Name)
		}
	}
	if !slices.Equal(q.names, names) {
		t.Errorf("read the names %q, encoding/json %q", q.names, names)
	}
}
