package dsmsim

import (
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// entrance is where DSM takes calls; its own pages add the name of the API.
var entrance = regexp.MustCompile(`^/webapi/(entry|auth|query|encryption)\.cgi(/[A-Za-z.]+)?$`)

const page = `<!DOCTYPE html><html><head><title>Hello! Welcome to Synology Web Station!</title></head><body><form action="/login"></form></body></html>`

// answer is what is sent: success with data, which may be none, or a code.
type answer struct {
	data   any
	code   int
	errors any
}

func (a answer) text() []byte {
	envelope := map[string]any{"success": a.code == 0}
	if a.data != nil {
		envelope["data"] = a.data
	}
	if a.code != 0 {
		e := map[string]any{"code": a.code}
		if a.errors != nil {
			e["errors"] = a.errors
		}
		envelope["error"] = e
	}
	text, err := json.Marshal(envelope)
	if err != nil {
		panic(err) // a defect of the simulator
	}
	return text
}

// ServeHTTP is DSM's port.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if !entrance.MatchString(r.URL.Path) || r.ParseForm() != nil {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(page))
		return
	}
	ip, _, _ := net.SplitHostPort(r.RemoteAddr)
	c := &request{sim: s, form: r.Form, ip: ip}
	if cookie, err := r.Cookie("id"); err == nil {
		c.cookie = cookie.Value
	}
	c.token = r.Header.Get("X-SYNO-TOKEN")
	c.api, c.method = r.Form.Get("api"), r.Form.Get("method")
	c.version, _ = strconv.Atoi(r.Form.Get("version"))

	s.mu.Lock()
	s.calls[c.api+"."+c.method]++
	f := s.fault(c.api, c.method)
	s.mu.Unlock()
	if s.before(w, r, f) {
		return
	}
	s.mu.Lock()
	a := s.handle(c)
	s.mu.Unlock()
	s.after(w, r, f, a)
}

// before does what goes wrong before a call; true if that was all.
func (s *Sim) before(w http.ResponseWriter, r *http.Request, f Fault) bool {
	switch f.Action {
	case Refuse:
		send(w, answer{code: f.Code})
	case DropBefore:
		panic(http.ErrAbortHandler)
	case Reboot:
		if err := s.Restart(); err != nil {
			panic(err)
		}
		panic(http.ErrAbortHandler)
	case BadGateway:
		badGateway(w)
	case Page:
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(page))
	case Redirect:
		http.Redirect(w, r, "https://portal.invalid/login?from="+r.URL.Path, http.StatusFound)
	case Expire:
		s.ExpireSessions()
		if f.Code == 0 {
			f.Code = 119
		}
		send(w, answer{code: f.Code})
	case Delay:
		pause(r, f.Delay)
		return false
	default:
		return false
	}
	return true
}

// after sends the answer, or what becomes of it.
func (s *Sim) after(w http.ResponseWriter, r *http.Request, f Fault, a answer) {
	switch f.Action {
	case RefuseDone:
		a = answer{code: f.Code}
	case NoDataDone:
		a.data = nil
	case DropDone:
		panic(http.ErrAbortHandler)
	case BadGatewayDone:
		badGateway(w)
		return
	case HangDone:
		pause(r, cmp.Or(f.Delay, time.Hour))
	case TrickleDone:
		rest := half(w, a)
		pause(r, cmp.Or(f.Delay, time.Hour))
		_, _ = w.Write(rest)
		return
	case EmptyDone:
		return
	case TruncateDone:
		text := a.text()
		_, _ = w.Write(text[:len(text)/2])
		return
	case BrokenDone:
		half(w, a)
		panic(http.ErrAbortHandler)
	case FloodDone:
		flood(w)
		return
	}
	send(w, a)
}

// half begins an answer, and returns the rest.
func half(w http.ResponseWriter, a answer) []byte {
	text := a.text()
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text[:len(text)/2])
	_ = http.NewResponseController(w).Flush() // or nothing at all would be sent
	return text[len(text)/2:]
}

// flood writes an answer until the caller has enough.
func flood(w http.ResponseWriter) {
	_, _ = w.Write([]byte(`{"success":true,"data":"`))
	more := []byte(strings.Repeat("x", 1<<16))
	for {
		if _, err := w.Write(more); err != nil {
			return
		}
	}
}

// pause ends the request if the caller goes away meanwhile: one that has only begun to close its connection
// would still read an answer.
func pause(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

func badGateway(w http.ResponseWriter) {
	w.WriteHeader(http.StatusBadGateway)
	_, _ = w.Write([]byte("<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"))
}

// send answers as DSM does: HTTP 200 always.
func send(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", "application/json; charset=\"UTF-8\"")
	_, _ = w.Write(a.text())
}
