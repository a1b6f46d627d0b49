package scheduler

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/internal/errs"
)

// The verbs of the protocol, which are the paths too.
const (
	VerbFilter     = "filter"
	VerbPrioritize = "prioritize"
)

// maxBody bounds a request in bytes: 5,000 Node objects of 30 KiB each fit, the list of their images included.
const maxBody = 160 << 20

// Server is the extender's HTTP API, that of k8s.io/kube-scheduler/extender/v1.
type Server struct {
	Scheduler *Scheduler
	Volumes   func(context.Context, *corev1.Pod) ([]claims.Volume, error) // as [claims.Reader.Of]
	Ready     func() error                                                // why no answer can be given yet; nil if it can
	Log       *slog.Logger
	Observe   func(verb string, took time.Duration, status int) // called after each request

	known   knownNodes
	buffers sync.Pool // of *bytes.Buffer, for bodies: with full nodes they are large, and all of a size
}

// Handler returns what serves POST /filter, POST /prioritize and GET /healthz.
//
// A request that cannot be understood is answered with 400, one that cannot be answered now with 503, both
// with the reason in words: kube-scheduler tries the pod again after a while. A pod that cannot be judged
// gets the reason in the filter's result, from where kube-scheduler writes it into an event of the pod.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /"+VerbFilter, s.verb(VerbFilter, s.filter))
	mux.Handle("POST /"+VerbPrioritize, s.verb(VerbPrioritize, s.prioritize))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// question is what a request asks.
type question struct {
	pod   *corev1.Pod
	nodes // in the body's memory
}

// verb reads the question, has it answered and watches over both.
func (s *Server) verb(name string, answer func(context.Context, http.ResponseWriter, question) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, status := time.Now(), http.StatusOK
		err := s.Ready()
		if err == nil {
			err = s.answer(w, r, answer)
		}
		if err != nil {
			status = statusOf(err)
			http.Error(w, err.Error(), status)
			s.Log.Warn(name, "status", status, "error", err)
		}
		s.Observe(name, time.Since(start), status)
	})
}

func statusOf(err error) int {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errs.Is(err, errs.Invalid):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

// answer reads the question and has it answered. What was read is used again for the next one.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, answer func(context.Context, http.ResponseWriter, question) error) error {
	body, _ := s.buffers.Get().(*bytes.Buffer)
	if body == nil {
		body = &bytes.Buffer{}
	}
	defer s.buffers.Put(body)
	body.Reset()
	if r.ContentLength > maxBody {
		return errs.E(errs.Invalid, "the body: %w", &http.MaxBytesError{Limit: maxBody})
	}
	body.Grow(int(max(0, r.ContentLength)) + bytes.MinRead) // what ReadFrom wants beyond it
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		return errs.E(errs.Invalid, "the body: %w", err)
	}
	q, err := parseQuestion(body.Bytes(), &s.known)
	if err != nil {
		return err
	}
	return answer(r.Context(), w, q)
}

// parseQuestion reads the JSON of ExtenderArgs. errs.Invalid says what is wrong or missing.
func parseQuestion(body []byte, known *knownNodes) (question, error) {
	q := question{nodes: nodes{known: known}}
	given := false
	_, err := object(body, func(key, b []byte) (rest []byte, err error) {
		switch {
		case isNull(b):
			return skip(b)
		case is(key, "pod"):
			var pod []byte
			if pod, rest, err = cut(b); err == nil {
				q.pod = &corev1.Pod{}
				err = json.Unmarshal(pod, q.pod)
			}
		case is(key, "nodenames"):
			given = true
			rest, err = q.visitNames(b)
		case is(key, "nodes"):
			given = true
			rest, err = q.visitList(b)
		default:
			return skip(b)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		return rest, nil
	})
	switch {
	case err != nil:
		return question{}, errs.E(errs.Invalid, "the body is not ExtenderArgs: %w", err)
	case q.pod == nil:
		return question{}, errs.E(errs.Invalid, "Pod: missing; the body has to be ExtenderArgs with a pod")
	case !given:
		return question{}, errs.E(errs.Invalid, "NodeNames and Nodes: both are missing; one of them says which nodes to choose from")
	}
	return q, nil
}

// is compares a key as encoding/json does.
func is(key []byte, name string) bool { return bytes.EqualFold(key, []byte(name)) }

func (s *Server) filter(ctx context.Context, w http.ResponseWriter, q question) error {
	volumes, err := s.Volumes(ctx, q.pod)
	var v Verdict
	if err == nil {
		v, err = s.Scheduler.Filter(ctx, volumes, q.names)
	}
	if err != nil { // of this pod, not of the request
		s.Log.Info(VerbFilter, "pod", q.pod.Namespace+"/"+q.pod.Name, "error", err)
		return writeJSON(w, extenderv1.ExtenderFilterResult{Error: "dozo: " + err.Error()})
	}
	return writeVerdict(w, q, v)
}

// writeVerdict writes the answer to a filter in the form in which the nodes came. Nodes are refused as
// unresolvable: no other pod's eviction would give their storage back, so none should be tried.
func writeVerdict(w http.ResponseWriter, q question, v Verdict) error {
	if !q.full {
		names := v.names(q.names)
		return writeJSON(w, extenderv1.ExtenderFilterResult{NodeNames: &names, FailedAndUnresolvableNodes: v.Refused})
	}
	refused, err := json.Marshal(v.Refused)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(w, 64<<10) // an error stays until Flush
	out.WriteString(`{"Nodes":{"metadata":{},"items":[`)
	for i := 0; i < len(v.Passed); { // neighbours at once: most often all of them, which are written from where they are
		j := i + 1
		for j < len(v.Passed) && v.Passed[j] == v.Passed[j-1]+1 {
			j++
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(q.run(v.Passed[i], v.Passed[j-1]+1))
		i = j
	}
	out.WriteString(`]},"FailedAndUnresolvableNodes":`)
	out.Write(refused)
	out.WriteByte('}')
	_ = out.Flush() // the client has gone if that fails
	return nil
}

func (s *Server) prioritize(ctx context.Context, w http.ResponseWriter, q question) error {
	volumes, err := s.Volumes(ctx, q.pod)
	if err != nil {
		return err
	}
	scores, err := s.Scheduler.Prioritize(volumes, q.names)
	if err != nil {
		return err
	}
	list := make(extenderv1.HostPriorityList, len(scores))
	for i, score := range scores {
		list[i] = extenderv1.HostPriority{Host: q.names[i], Score: score}
	}
	return writeJSON(w, list)
}

func writeJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client has gone if that fails
	return nil
}
