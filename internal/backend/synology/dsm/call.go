package dsm

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

// attempts is how often something is read before its silence is believed.
const attempts = 3

// call is a method of an API, in the version that this client was written for.
type call struct {
	api     string
	version int
	method  string
}

// read asks for something, and decodes the data into out.
func (c *Client) read(ctx context.Context, what call, p params, out any) error {
	a, err := c.patiently(ctx, what, p)
	if err != nil {
		return err
	}
	return decode(what, a, out)
}

// patiently asks for something, again if no answer came.
func (c *Client) patiently(ctx context.Context, what call, p params) (answer, error) {
	pause := c.pause
	for n := 1; ; n++ {
		a, err := c.once(ctx, what, p)
		if err == nil || n == attempts || !passes(err) {
			return a, err
		}
		// Jitter keeps many callers of a NAS that restarts from asking in step.
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return answer{}, err
		}
		pause *= 2
	}
}

// write changes something, and is sent once: whether it was done is for the caller to look up.
// out is nil if nothing of the answer is needed.
func (c *Client) write(ctx context.Context, what call, p params, out any) error {
	a, err := c.once(ctx, what, p)
	if err != nil || out == nil {
		return err
	}
	return decode(what, a, out)
}

// passes reports whether asking again may help. A certificate stays what it is, and a list as long as it is, and a login that got no
// answer may have been a failed one, of which there must not be many.
func passes(err error) bool {
	if !errs.Is(err, errs.Unavailable) || errors.As(err, new(*distrust)) || errors.As(err, new(*tooMuch)) || errors.As(err, new(*silentLogin)) {
		return false
	}
	return errors.As(err, new(*lost)) || isBusy(err)
}

// once does a call in the shared session, and once more if the session turns out to have expired.
func (c *Client) once(ctx context.Context, what call, p params) (answer, error) {
	s, err := c.sessions.get(ctx)
	if err != nil {
		return answer{}, err
	}
	a, err := c.ask(ctx, s, what, p)
	if isExpired(err) && !c.sessions.isDenied(what, err) {
		var renewed error
		if s, renewed = c.sessions.renew(ctx, s); renewed != nil {
			return answer{}, renewed
		}
		first := err
		a, err = c.ask(ctx, s, what, p)
		c.sessions.note(what, first, err)
	}
	return a, err
}

// ask sends a call in a session.
func (c *Client) ask(ctx context.Context, s *session, what call, p params) (answer, error) {
	info, err := s.apis.find(what)
	if err != nil {
		return answer{}, err
	}
	form, err := p.encode(info.RequestFormat == "JSON")
	if err != nil {
		return answer{}, errs.E(errs.Internal, "%s.%s: %w", what.api, what.method, err)
	}
	header := http.Header{}
	s.sign(form, header)
	return c.send(ctx, info.Path, header, what, form)
}

// send is one request with its line in the log. A refusal is an error of the code's kind.
func (c *Client) send(ctx context.Context, path string, header http.Header, what call, form form) (answer, error) {
	what.address(form)
	start := time.Now()
	a, err := c.post(ctx, path, header, form)
	if err == nil && a.code != 0 {
		err = refuse(what, a.code)
	} else if err != nil {
		err = errs.E(errs.KindOf(err), "%s.%s: %w", what.api, what.method, err)
	}
	c.log.DebugContext(ctx, "dsm", "nas", c.base.Host, "api", what.api, "method", what.method, "took", time.Since(start), "error", err)
	return a, err
}

// decode puts an answer's data into out. That it does not fit is a surprise, and never "not found".
func decode(what call, a answer, out any) error {
	if a.empty() {
		return errs.E(errs.Internal, "%s.%s: %w", what.api, what.method, errors.New("success, but an answer without data"))
	}
	if err := json.Unmarshal(a.data, out); err != nil {
		return errs.E(errs.Internal, "%s.%s: the answer's data: %w", what.api, what.method, quiet(err))
	}
	return nil
}
