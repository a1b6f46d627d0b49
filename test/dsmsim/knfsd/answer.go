package knfsd

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"
)

// Flags of an export, from the kernel's include/uapi/linux/nfsd/export.h.
const (
	flagReadOnly       = 0x0001
	flagInsecure       = 0x0002
	flagSquashRoot     = 0x0004
	flagSquashAll      = 0x0008
	flagAsync          = 0x0010
	flagNoSubtreeCheck = 0x0400
	flagFSID           = 0x2000
	flagV4Root         = 0x10000 // a directory on the way: of what is in it only exports are seen
)

// nobody is whom the squashed become where no rule says so.
const nobody = 65534

// lifetime is how long the kernel remembers an answer if it is not told to forget.
const lifetime = time.Hour

// address answers "nfsd ADDRESS" with the owner of the address, or with none.
func (s *Server) address(question []string, expiry string) []string {
	if len(question) != 2 {
		return nil
	}
	answer := append(question, expiry)
	if s.knows(question[1], "/") {
		answer = append(answer, question[1])
	}
	return answer
}

// export answers "OWNER PATH" with how the owner has it, or not at all.
func (s *Server) export(question []string, expiry string) []string {
	if len(question) != 2 {
		return nil
	}
	owner, at := question[0], question[1]
	answer := append(question, expiry)
	if e, r, ok := s.rule(owner, at); ok {
		uid, gid := r.UID, r.GID
		return append(answer, fmt.Sprint(r.flags()), fmt.Sprint(uid), fmt.Sprint(gid), fmt.Sprint(e.FSID))
	}
	if !s.knows(owner, at) {
		return answer
	}
	id := pathID(at)
	if at == "/" {
		id = 0 // where clients begin
	}
	flags := flagReadOnly | flagInsecure | flagSquashRoot | flagNoSubtreeCheck | flagFSID | flagV4Root
	return append(answer, fmt.Sprint(flags), fmt.Sprint(nobody), fmt.Sprint(nobody), fmt.Sprint(id))
}

func (r Rule) flags() int {
	flags := flagNoSubtreeCheck | flagFSID
	for flag, on := range map[int]bool{flagReadOnly: r.ReadOnly, flagInsecure: r.Insecure, flagAsync: r.Async, flagSquashRoot: r.SquashRoot, flagSquashAll: r.SquashAll} {
		if on {
			flags |= flag
		}
	}
	return flags
}

// byNumber is the type of file handles that begin with an FSID (FSID_NUM), the only ones that are given here.
const byNumber = "1"

// handle answers "OWNER TYPE FSID" with the path that a file handle is of, or with none: the client's handle is stale then.
func (s *Server) handle(question []string, expiry string) []string {
	if len(question) != 3 {
		return nil
	}
	answer := append(question, expiry)
	raw, err := hex.DecodeString(strings.TrimPrefix(question[2], `\x`))
	if err != nil || len(raw) != 4 || question[1] != byNumber {
		return answer
	}
	if at := s.pathOf(question[0], binary.NativeEndian.Uint32(raw)); at != "" {
		answer = append(answer, at)
	}
	return answer
}

// pathOf finds the directory with an FSID among those that an owner knows, "" if there is none.
func (s *Server) pathOf(owner string, id uint32) string {
	if id == 0 && s.knows(owner, "/") {
		return "/"
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for at, e := range s.exports {
		if !e.admits(owner) {
			continue
		}
		if e.FSID == id {
			return at
		}
		for up := path.Dir(at); up != "/"; up = path.Dir(up) {
			if pathID(up) == id {
				return up
			}
		}
	}
	return ""
}

// rule returns the export at a path and what rule an owner has it by.
func (s *Server) rule(owner, at string) (Export, Rule, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.exports[at]
	r, ok := e.rule(owner)
	return e, r, ok
}

// knows reports whether an owner has something at a path or below it.
func (s *Server) knows(owner, at string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name, e := range s.exports {
		if (name == at || strings.HasPrefix(name, strings.TrimSuffix(at, "/")+"/")) && e.admits(owner) {
			return true
		}
	}
	return false
}

func (e Export) admits(owner string) bool {
	_, ok := e.rule(owner)
	return ok
}

func (e Export) rule(owner string) (Rule, bool) {
	addr, err := netip.ParseAddr(owner)
	if err != nil {
		return Rule{}, false
	}
	for _, r := range e.Rules {
		if r.Clients(addr.Unmap()) {
			return r, true
		}
	}
	return Rule{}, false
}

// unquote reads a line of the kernel's: words with octal escapes for what would end them. Words in hexadecimal stay.
func unquote(line string) []string {
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\n' })
	for i, w := range words {
		if strings.HasPrefix(w, `\x`) {
			continue
		}
		var b strings.Builder
		for ; w != ""; w = w[1:] {
			var c byte
			if len(w) >= 4 && w[0] == '\\' {
				if _, err := fmt.Sscanf(w[1:4], "%03o", &c); err == nil {
					b.WriteByte(c)
					w = w[3:]
					continue
				}
			}
			b.WriteByte(w[0])
		}
		words[i] = b.String()
	}
	return words
}

// quote is the reverse.
func quote(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		hexadecimal := strings.HasPrefix(w, `\x`)
		for _, c := range []byte(w) {
			if !hexadecimal && (c <= ' ' || c == '\\' || c == 0x7f) {
				fmt.Fprintf(&b, `\%03o`, c)
			} else {
				b.WriteByte(c)
			}
		}
	}
	return b.String() + "\n"
}
