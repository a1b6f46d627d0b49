package scheduler

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"
	"slices"
)

// Full Node objects of 5,000 nodes are tens of megabytes twice for each pod, of which the names matter.
// Decoding them takes most of a second. This skims the JSON instead: it finds where values begin and end,
// and what is between stays as it came, also in the answer. Whatever is looked into is decoded by
// encoding/json, which checks it. Even so it looks at each byte; nodes that came before need not: see [nodeSkimmer].

var errJSON = errors.New("not JSON of the form that was expected")

// visit is called at the beginning of a value, with all that is left, and returns what is left after it: so each
// byte is looked at once, however deep it is.
type visit func(b []byte) (rest []byte, err error)

// object calls f at the value of each field of the JSON object at the beginning of b.
func object(b []byte, f func(key, b []byte) (rest []byte, err error)) (rest []byte, err error) {
	return elements(b, '{', '}', func(b []byte) ([]byte, error) {
		key, b, err := text(b)
		if err != nil {
			return nil, errJSON
		}
		if b = space(b); len(b) == 0 || b[0] != ':' {
			return nil, errJSON
		}
		return f(key, space(b[1:]))
	})
}

// array calls f at each item of the JSON array at the beginning of b.
func array(b []byte, f visit) (rest []byte, err error) { return elements(b, '[', ']', f) }

func elements(b []byte, open, closing byte, f visit) (rest []byte, err error) {
	if b = space(b); len(b) == 0 || b[0] != open {
		return nil, errJSON
	}
	b = b[1:]
	for first := true; ; first = false {
		var done, ok bool
		if b, done, ok = next(b, closing, first); !ok {
			return nil, errJSON
		}
		if done {
			return b, nil
		}
		if b, err = f(b); err != nil {
			return nil, err
		}
	}
}

// next goes on to the next element, over the comma before it unless it is the first one.
func next(b []byte, closing byte, first bool) (rest []byte, done, ok bool) {
	if b = space(b); len(b) == 0 {
		return nil, false, false
	}
	if b[0] == closing {
		return b[1:], true, true
	}
	if first {
		return b, false, true
	}
	if b[0] != ',' {
		return nil, false, false
	}
	b = space(b[1:])
	return b, false, len(b) > 0 && b[0] != closing
}

func space(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\t' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// skip is the visit to a value that is not looked into, nor checked.
func skip(b []byte) (rest []byte, err error) {
	_, rest, err = cut(b)
	return rest, err
}

// cut splits b after its first value, which it does not check further.
func cut(b []byte) (value, rest []byte, err error) {
	n := 0
	switch {
	case len(b) == 0:
		return nil, nil, errJSON
	case b[0] == '"':
		n = stringEnd(b, 0)
	case b[0] == '{' || b[0] == '[':
		n = compositeEnd(b)
	default:
		n = bytes.IndexAny(b, ",]} \t\r\n")
		if n < 0 {
			n = len(b)
		}
	}
	if n <= 0 {
		return nil, nil, errJSON
	}
	return b[:n], b[n:], nil
}

// stringEnd returns the index after the string that begins at i, -1 if it does not end. Most strings are
// short: eight bytes at a time is faster than what the library has for long ones.
func stringEnd(b []byte, i int) int {
	const quotes, ones, tops = 0x2222222222222222, 0x0101010101010101, 0x8080808080808080
	for i++; i < len(b); {
		if i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:]) ^ quotes // a quote becomes a zero byte
			zeros := (w - ones) &^ w & tops                 // whose top bit is set here; right for the first one
			if zeros == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(zeros) / 8
		} else if b[i] != '"' {
			i++
			continue
		}
		if b[i-1] != '\\' || !escaped(b, i) {
			return i + 1
		}
		i++
	}
	return -1
}

// escaped reports whether the quote at i has an odd number of backslashes before it. The string begins
// with a quote, so there is an end to them.
func escaped(b []byte, i int) bool {
	n := 0
	for b[i-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// compositeEnd returns the index after the object or array at the beginning of b, -1 if it does not end.
// Brackets are counted and not told apart: pairs that do not match are found when they are looked into.
func compositeEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i = stringEnd(b, i) - 1; i < 0 {
				return -1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// text reads a string: where it is, without the decoder, if it is printable ASCII, as names and keys are.
func text(b []byte) (s, rest []byte, err error) {
	value, rest, err := cut(b)
	if err != nil {
		return nil, nil, err
	}
	if n := len(value); n >= 2 && value[0] == '"' {
		s = value[1 : n-1]
		if !slices.ContainsFunc(s, func(c byte) bool { return c < ' ' || c > '~' || c == '\\' }) {
			return s, rest, nil
		}
	}
	var decoded string
	err = json.Unmarshal(value, &decoded)
	return []byte(decoded), rest, err
}

func isNull(b []byte) bool { return bytes.HasPrefix(b, []byte("null")) }
