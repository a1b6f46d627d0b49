package csi

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/errs"
)

// codeOf is the only place where an error's kind becomes a gRPC code. What decides is what the
// sidecars do with one. For them Canceled, DeadlineExceeded, Unavailable and Aborted say that
// something may be going on still: they keep what they know and ask again. ResourceExhausted lets
// the provisioner choose another node. All others are final: it is over and nothing is left behind.
func codeOf(k errs.Kind) (c codes.Code, known bool) {
	switch k {
	case errs.Internal:
		return codes.Internal, true
	case errs.Invalid:
		return codes.InvalidArgument, true
	case errs.OutOfRange:
		return codes.OutOfRange, true
	case errs.NotFound:
		return codes.NotFound, true
	case errs.Exists:
		return codes.AlreadyExists, true
	case errs.InUse:
		return codes.FailedPrecondition, true
	case errs.NoSpace:
		return codes.ResourceExhausted, true
	case errs.Busy:
		// Not Aborted, which promises that this very call is being worked on, and not
		// ResourceExhausted, which would send the volume to another node for a passing load.
		return codes.Unavailable, true
	case errs.Unavailable:
		return codes.Unavailable, true
	case errs.Unsupported:
		// Not Unimplemented, which is about a whole call (see features.serves) and means "never ask
		// again". Here one pool of several cannot do it, or not with these arguments: the spec says
		// INVALID_ARGUMENT for that in CreateVolume ("cannot create from the requested source") and in
		// ControllerExpandVolume ("exceeds capabilities"), and only with it does the resizer give up.
		return codes.InvalidArgument, true
	case errs.Aborted:
		return codes.Aborted, true
	}
	return codes.Internal, false
}

// toStatus makes of err what gRPC sends: its message with the code for its kind. A status made in
// this package stays as it is.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	var kinded *errs.Error
	if _, ok := status.FromError(err); ok && !errors.As(err, &kinded) {
		return err
	}
	code, _ := codeOf(errs.KindOf(err))
	return status.Error(code, err.Error())
}

// The conditions for which the spec wants FAILED_PRECONDITION though nothing is in use, so that no
// kind says it.
func precondition(format string, args ...any) error {
	return status.Errorf(codes.FailedPrecondition, format, args...)
}

func missing(field string) error { return errs.E(errs.Invalid, "%s: missing", field) }

// required returns errs.Invalid for the first of the fields that is empty: name, value, name, value…
func required(fields ...string) error {
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i+1] == "" {
			return missing(fields[i])
		}
	}
	return nil
}
