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

const (
	// maxBody bounds an answer, or an item of one that is read as it comes.
	maxBody = 8 << 20
	// maxList bounds all items of such an answer: 512 LUNs of 256 snapshots each, at 2 KiB for one of them. With a mark of ours it takes
	// 0.7, and one of a schedule of DSM's 0.5.
	maxList = 256 << 20
)

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

// exchange does the request and reads its answer.
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
	b := &body{from: response.Body, most: c.maxList}
	a, err := c.parse(b)
	switch {
	case response.StatusCode != http.StatusOK:
		return answer{}, fmt.Errorf("answered HTTP %d instead of DSM's JSON", response.StatusCode)
	case b.broken != nil:
		return answer{}, fmt.Errorf("the answer broke off after %d bytes: %w", b.read, b.broken)
	case b.over != nil:
		return answer{}, b.over
	}
	return a, err
}

// body is what comes as an answer, as long as it is no longer than one may be.
type body struct {
	from   io.Reader
	most   int64 // bytes in all
	read   int64
	item   int64 // what was read since the item began that is being read
	broken error // of the connection
	over   error // it was too long
}

// Read is [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.read, b.item = b.read+int64(n), b.item+int64(n)
	switch {
	case b.item > maxBody:
		b.over = fmt.Errorf("an answer of more than %d bytes", maxBody)
		return n, b.over
	case b.read > b.most:
		b.over = &tooMuch{fmt.Errorf("a list of more than %d bytes", b.most)}
		return n, b.over
	case err != nil && err != io.EOF:
		b.broken = err
	}
	return n, err
}

// tooMuch is a list that is too long, and will be when it is asked for again.
type tooMuch struct{ error }

func (t *tooMuch) Unwrap() error { return t.error }

// distrust is a certificate that was refused: asking again would not help.
type distrust struct{ error }

func (d *distrust) Unwrap() error { return d.error }
