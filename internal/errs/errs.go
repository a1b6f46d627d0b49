// Package errs classifies what can go wrong, once. An error is given its [Kind] where it happens,
// by the code that knows; every edge (gRPC, exit status, a condition's reason) translates kinds by
// one table of its own and nobody else guesses from texts.
package errs

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what a caller can do about an error.
type Kind uint8

// The kinds. Not found, could not ask (Unavailable) and refused (InUse, Unsupported, …) are
// different answers: nothing may be formatted, deleted or created on the strength of an
// Unavailable or an Internal error.
const (
	Internal    Kind = iota // a defect or a surprise: the message is for a developer
	Invalid                 // the request is wrong: it names a field and what would be right
	OutOfRange              // a size that cannot be had here, whatever is free (CSI wants to tell it from Invalid)
	NotFound                // it was looked for, the storage answered, and it is not there
	Exists                  // something of that name exists and does not fit the request
	InUse                   // refused while something holds it: a mount, a device, a dependent
	NoSpace                 // it would fit, were there room
	Busy                    // the storage has too much to do; the same call may succeed later
	Unavailable             // could not ask: the storage did not answer or the probe failed
	Unsupported             // this backend, kernel or file system cannot do it
	Aborted                 // not finished yet: call again with the same arguments
)

var kindNames = [...]string{
	Internal: "internal", Invalid: "invalid", OutOfRange: "out of range", NotFound: "not found", Exists: "exists",
	InUse: "in use", NoSpace: "no space", Busy: "busy", Unavailable: "unavailable", Unsupported: "unsupported",
	Aborted: "aborted",
}

// String returns the kind in words, as logs and metric labels show it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Error is an error with its kind. Make one with [E].
type Error struct {
	Kind Kind
	err  error
}

// Error returns the message without the kind, which edges show in their own way.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns what the message was made of, so that errors.Is sees wrapped causes.
func (e *Error) Unwrap() error { return e.err }

// E returns an error of the kind with a message formatted as by [fmt.Errorf]: wrap a cause with %w.
// The kind given here wins over that of a wrapped cause.
func E(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of the outermost [Error] in the chain of err. A bare context error is
// Aborted: the work may be unfinished and the call can be repeated. Anything else is Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Aborted
	default:
		return Internal
	}
}

// Is reports whether err is an error of the kind. It is false for nil.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
