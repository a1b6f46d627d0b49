package scheduler

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"
	"slices"
	"strings"
)

// Full Node objects of 5,000 nodes are tens of megabytes twice for each pod, of which the names matter.
// Decoding them takes most of a second. This skims the JSON instead: it finds where values begin and end,
// and what is between stays as it came, also in the answer. Whatever is looked into is decoded by
// encoding/json, which checks it.

var errJSON = errors.New("not JSON of the form that was expected")

// eachField calls f with the fields of a JSON object until f returns an error.
func eachField(object []byte, f func(key string, value []byte) error) error {
	b, ok := enter(object, '{')
	if !ok {
		return errJSON
	}
	for first := true; ; first = false {
		var done bool
		if b, done, ok = next(b, '}', first); done || !ok {
			return end(ok)
		}
		key, rest, ok := cutValue(b)
		if !ok || key[0] != '"' {
			return errJSON
		}
		name, err := unquote(key)
		if err != nil {
			return errJSON
		}
		if rest = space(rest); len(rest) == 0 || rest[0] != ':' {
			return errJSON
		}
		value, rest, ok := cutValue(space(rest[1:]))
		if !ok {
			return errJSON
		}
		if err := f(name, value); err != nil {
			return err
		}
		b = rest
	}
}

// eachItem calls f with the items of a JSON array until f returns an error.
func eachItem(array []byte, f func(value []byte) error) error {
	b, ok := enter(array, '[')
	if !ok {
		return errJSON
	}
	for first := true; ; first = false {
		var done bool
		if b, done, ok = next(b, ']', first); done || !ok {
			return end(ok)
		}
		value, rest, ok := cutValue(b)
		if !ok {
			return errJSON
		}
		if err := f(value); err != nil {
			return err
		}
		b = rest
	}
}

func end(ok bool) error {
	if !ok {
		return errJSON
	}
	return nil
}

func enter(b []byte, open byte) ([]byte, bool) {
	if b = space(b); len(b) == 0 || b[0] != open {
		return nil, false
	}
	return b[1:], true
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

// cutValue splits b after its first value, which it does not check further.
func cutValue(b []byte) (value, rest []byte, ok bool) {
	n := 0
	switch {
	case len(b) == 0:
		return nil, nil, false
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
		return nil, nil, false
	}
	return b[:n], b[n:], true
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

// skimNames returns the strings of an array.
func skimNames(array []byte) (names []string, err error) {
	names = make([]string, 0, bytes.Count(array, []byte{','})+1)
	err = eachItem(array, func(value []byte) error {
		name, err := unquote(value)
		names = append(names, name)
		return err
	})
	return names, err
}

// unquote decodes a string, without the decoder if it is printable ASCII, as the names of nodes are.
func unquote(value []byte) (s string, err error) {
	if n := len(value); n >= 2 && value[0] == '"' {
		inner := value[1 : n-1]
		if !slices.ContainsFunc(inner, func(c byte) bool { return c < ' ' || c > '~' || c == '\\' }) {
			return string(inner), nil
		}
	}
	err = json.Unmarshal(value, &s)
	return s, err
}

// skimNodes returns the items of a NodeList as they came, and their names.
func skimNodes(list []byte) (items [][]byte, names []string, err error) {
	err = eachField(list, func(key string, value []byte) error {
		if !strings.EqualFold(key, "items") || isNull(value) {
			return nil
		}
		return eachItem(value, func(node []byte) error {
			name, err := nodeName(node)
			items, names = append(items, node), append(names, name)
			return err
		})
	})
	return items, names, err
}

// errFound ends a search.
var errFound = errors.New("found")

// nodeName returns metadata.name of a node.
func nodeName(node []byte) (name string, err error) {
	err = eachField(node, func(key string, metadata []byte) error {
		if key != "metadata" {
			return nil
		}
		return eachField(metadata, func(key string, value []byte) error {
			if key != "name" {
				return nil
			}
			if name, err = unquote(value); err != nil {
				return err
			}
			return errFound
		})
	})
	switch {
	case !errors.Is(err, errFound) && err != nil:
		return "", err
	case name == "":
		return "", errors.New("a node without metadata.name")
	}
	return name, nil
}

func isNull(value []byte) bool { return string(value) == "null" }
