package dsmsim

import (
	"fmt"
	"slices"
	"time"
)

// Action is what goes wrong.
type Action string

// What can go wrong with a call. Those in Done happen after the call has had its effect.
const (
	Refuse         Action = "refuse"           // answer Code, and do nothing
	RefuseDone     Action = "refuse-done"      // answer Code, and have done it, as the 255-character create
	DropBefore     Action = "drop-before"      // close the connection before
	DropDone       Action = "drop-done"        // or after
	BadGateway     Action = "bad-gateway"      // HTTP 502 of a proxy that did not reach DSM
	BadGatewayDone Action = "bad-gateway-done" // or did not get its answer
	Page           Action = "page"             // HTTP 200 with a login page
	Redirect       Action = "redirect"         // HTTP 302 to another host
	TruncateDone   Action = "truncate-done"    // the half of an answer, as if it were all
	BrokenDone     Action = "broken-done"      // the half of an answer, and the connection breaks
	EmptyDone      Action = "empty-done"       // HTTP 200 with nothing
	NoDataDone     Action = "no-data-done"     // success without data
	FloodDone      Action = "flood-done"       // an answer without end
	HangDone       Action = "hang-done"        // no answer for Delay, or until the caller goes
	TrickleDone    Action = "trickle-done"     // the half of an answer, and the rest after Delay, or none until the caller goes
	Delay          Action = "delay"            // Delay, then as ever
	Expire         Action = "expire"           // the session is gone: answer Code, or 119
	Reboot         Action = "reboot"           // the NAS restarts during the call, before doing it
)

// Actions lists all, for tests that go through them.
func Actions() []Action {
	return []Action{Refuse, RefuseDone, DropBefore, DropDone, BadGateway, BadGatewayDone, Page, Redirect, TruncateDone, BrokenDone,
		EmptyDone, NoDataDone, FloodDone, HangDone, TrickleDone, Delay, Expire, Reboot}
}

// Done reports whether a call with the fault has its effect all the same.
func (a Action) Done() bool {
	return slices.Contains([]Action{RefuseDone, DropDone, BadGatewayDone, TruncateDone, BrokenDone, EmptyDone, NoDataDone, FloodDone, HangDone, TrickleDone, Delay}, a)
}

// Fault makes calls go wrong. It is data, so that it can be in a file.
type Fault struct {
	API    string        `json:"api"`    // empty: any
	Method string        `json:"method"` // empty: any
	Skip   int           `json:"skip"`   // this many matching calls go well first
	Times  int           `json:"times"`  // how many go wrong; 0: all
	Action Action        `json:"action"`
	Code   int           `json:"code"`
	Delay  time.Duration `json:"delay"` // nanoseconds in a file
}

// SetFaults replaces the faults. Of several that match a call the first is taken.
func (s *Sim) SetFaults(faults ...Fault) error {
	armed := make([]*Fault, len(faults))
	for i, f := range faults {
		if !slices.Contains(Actions(), f.Action) {
			return fmt.Errorf("action: %q is none of %v", f.Action, Actions())
		}
		if f.Times == 0 {
			f.Times = -1
		}
		armed[i] = &f
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = armed
	return nil
}

// fault returns the one for a call, and uses it up. The caller has the lock.
func (s *Sim) fault(api, method string) Fault {
	for _, f := range s.faults {
		if f.API != "" && f.API != api || f.Method != "" && f.Method != method || f.Times == 0 {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		return *f
	}
	return Fault{}
}
