package demo

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"google.golang.org/grpc"
)

// calls is what was asked of the driver, and how long it took.
type calls struct {
	now  func() time.Time
	rows []call
}

type call struct {
	method string
	took   time.Duration
}

// timed is a connection whose calls are noted.
type timed struct {
	grpc.ClientConnInterface
	calls *calls
}

func (c *calls) on(conn grpc.ClientConnInterface) grpc.ClientConnInterface {
	return timed{conn, c}
}

// Invoke makes a call and notes it.
func (t timed) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	began := t.calls.now()
	err := t.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	t.calls.rows = append(t.calls.rows, call{path.Base(method), t.calls.now().Sub(began)})
	return err
}

func (c *calls) count() int { return len(c.rows) }

// print writes a table of the calls, one row for each method, in the order of their first use.
func (c *calls) print(w io.Writer) {
	var methods []string
	took := map[string][]time.Duration{}
	for _, r := range c.rows {
		if took[r.method] == nil {
			methods = append(methods, r.method)
		}
		took[r.method] = append(took[r.method], r.took)
	}
	fmt.Fprintf(w, "\n%-26s %5s %11s %11s\n", "CSI CALL", "CALLS", "MEDIAN", "SLOWEST")
	for _, m := range methods {
		all := slices.Sorted(slices.Values(took[m]))
		fmt.Fprintf(w, "%-26s %5d %11s %11s\n", m, len(all), short(all[len(all)/2]), short(all[len(all)-1]))
	}
}

// short writes a duration in milliseconds, so that a column of them lines up.
func short(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
