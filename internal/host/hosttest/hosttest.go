// Package hosttest has stand-ins for a [host.Host] and seams that fail or record its effects.
package hosttest

import (
	"context"
	"fmt"
	"sync"

	"github.com/dozo-dev/dozo/internal/host"
)

// Recorder is a seam that remembers the effects that passed, and fails those it is told to.
type Recorder struct {
	mu      sync.Mutex
	effects []host.Effect
	fail    map[string]error
}

// Seam is the [host.Seam].
func (r *Recorder) Seam(e host.Effect, do func() error) error {
	r.mu.Lock()
	r.effects = append(r.effects, e)
	err := r.fail[e.Op]
	r.mu.Unlock()
	if err != nil {
		return err
	}
	return do()
}

// Fail makes every effect labelled op fail with err, undone, until err is nil.
func (r *Recorder) Fail(op string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.fail = map[string]error{}
	}
	r.fail[op] = err
}

// Ops returns the labels of the effects that passed since the last call, those that read included
// only if reads is set.
func (r *Recorder) Ops(reads bool) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ops []string
	for _, e := range r.effects {
		if reads || !e.Reads {
			ops = append(ops, e.Op)
		}
	}
	r.effects = nil
	return ops
}

// Answer is what a program that is only acted writes, and its exit status.
type Answer struct {
	Stdout string
	Code   int
}

// Script is a [host.Runner] that acts programs: it answers by the label of the effect, and fails
// for one that it has no answer for. It remembers the commands.
type Script struct {
	Answers map[string]Answer

	mu   sync.Mutex
	cmds []host.Cmd
}

// Run is [host.Runner].
func (s *Script) Run(_ context.Context, c host.Cmd) (host.Output, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmds = append(s.cmds, c)
	a, ok := s.Answers[c.Op]
	if !ok {
		return host.Output{}, fmt.Errorf("hosttest: no answer for %s (%s %q)", c.Op, c.Name, c.Args)
	}
	if a.Code != 0 {
		return host.Output{Stdout: []byte(a.Stdout)}, &host.ExitError{Name: c.Name, Code: a.Code}
	}
	return host.Output{Stdout: []byte(a.Stdout)}, nil
}

// Commands returns the commands run so far.
func (s *Script) Commands() []host.Cmd {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]host.Cmd(nil), s.cmds...)
}
