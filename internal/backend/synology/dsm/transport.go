package dsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/dozo-dev/dozo/internal/errs"
)

// maxBody bounds an answer. A LUN in a list takes about 2 KiB and a snapshot in it less than 1: this is 512 LUNs and 8000 snapshots.
const maxBody = 8 << 20

// post sends one form and returns the envelope. Its errors are *lost, of the kind Unavailable, or
// Aborted if the caller went away or had no more time.
func (c *Client) post(caller context.Context, path string, header http.Header, form url.Values) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(caller, c.timeout, fmt.Errorf("no answer within %v", c.timeout))
	defer cancel()
	var sent atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	request, err := http.NewRequestWithContext(traced, http.MethodPost, c.base.JoinPath("webapi", path).String(), strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, errs.E(errs.Internal, "the path %q of an API cannot be used", path)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err := c.exchange(request)
	if err == nil {
		return a, nil
	}
	l := &lost{sent: sent.Load(), err: err}
	switch {
	case caller.Err() != nil:
		return answer{}, errs.E(errs.Aborted, "%s: %w", c.base.Host, &lost{l.sent, fmt.Errorf("no answer while the caller waited: %w", caller.Err())})
	case ctx.Err() != nil:
		l.err = context.Cause(ctx)
	}
	return answer{}, errs.E(errs.Unavailable, "%s: %w", c.base.Host, l)
}

// exchange does the request and reads its answer, whose size is bounded.
func (c *Client) exchange(request *http.Request) (answer, error) {
	response, err := c.http.Do(request)
	if err != nil {
		if why := untrusted(c.base.Host, err); why != nil {
			return answer{}, &distrust{why}
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case response.StatusCode != http.StatusOK:
		return answer{}, fmt.Errorf("answered HTTP %d instead of DSM's JSON", response.StatusCode)
	case err != nil:
		return answer{}, fmt.Errorf("the answer broke off after %d bytes: %w", len(body), err)
	case len(body) > maxBody:
		return answer{}, fmt.Errorf("an answer of more than %d bytes", maxBody)
	}
	return parseAnswer(body)
}

// distrust is a certificate that was refused: asking again would not help.
type distrust struct{ error }

func (d *distrust) Unwrap() error { return d.error }
