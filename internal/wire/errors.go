package wire

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/errs"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

// rendering is how a kind of error crosses: as itself in the status's details, and as the code that
// tools which know only gRPC show.
type rendering struct {
	kind errs.Kind
	wire wirepb.Error_Kind
	code codes.Code
}

// renderings are all kinds. Those that are not here arrive as errs.Internal.
func renderings() []rendering {
	return []rendering{
		{errs.Internal, wirepb.Error_INTERNAL, codes.Internal},
		{errs.Invalid, wirepb.Error_INVALID, codes.InvalidArgument},
		{errs.OutOfRange, wirepb.Error_OUT_OF_RANGE, codes.OutOfRange},
		{errs.NotFound, wirepb.Error_NOT_FOUND, codes.NotFound},
		{errs.Exists, wirepb.Error_EXISTS, codes.AlreadyExists},
		{errs.InUse, wirepb.Error_IN_USE, codes.FailedPrecondition},
		{errs.NoSpace, wirepb.Error_NO_SPACE, codes.ResourceExhausted},
		{errs.Busy, wirepb.Error_BUSY, codes.Unavailable},
		{errs.Unavailable, wirepb.Error_UNAVAILABLE, codes.Unavailable},
		{errs.Unsupported, wirepb.Error_UNSUPPORTED, codes.Unimplemented},
		{errs.Aborted, wirepb.Error_ABORTED, codes.Aborted},
	}
}

// toStatus makes of err what crosses: its kind and its message.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	kind := errs.KindOf(err)
	for _, r := range renderings() {
		if r.kind == kind {
			s, detailed := status.New(r.code, text(err.Error())).WithDetails(&wirepb.Error{Kind: r.wire})
			if detailed == nil {
				return s.Err()
			}
		}
	}
	return status.Error(codes.Internal, text(err.Error()))
}

// fromStatus makes of what gRPC returned the error that the served backend gave, or says why it
// could not be asked.
func (c *Client) fromStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	s, _ := status.FromError(err)
	for _, d := range s.Details() {
		if e, ok := d.(*wirepb.Error); ok {
			return errs.E(kindOf(e.GetKind()), "%s", s.Message())
		}
	}
	// It does not come from the backend, but from gRPC on one of the two sides.
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded:
		if ctx.Err() != nil {
			return errs.E(errs.Aborted, "%s: %w", c.where(), ctx.Err())
		}
		// The server knows the deadline too, and its clock may strike first.
		if at, ok := ctx.Deadline(); ok && time.Until(at) < time.Second {
			return errs.E(errs.Aborted, "%s: %w", c.where(), context.DeadlineExceeded)
		}
	case codes.Unimplemented:
		return errs.E(errs.Unsupported, "%s: the dozo there (%s) is older than this one (%s) and cannot do that (%s); update it", c.where(), c.served(), c.version, s.Message())
	case codes.ResourceExhausted, codes.Internal, codes.Unknown:
		return errs.E(errs.Internal, "%s: %s", c.where(), s.Message())
	}
	return errs.E(errs.Unavailable, "%s does not answer (%s); does dozo lvmd run?", c.where(), s.Message())
}

func kindOf(w wirepb.Error_Kind) errs.Kind {
	for _, r := range renderings() {
		if r.wire == w {
			return r.kind
		}
	}
	return errs.Internal
}
