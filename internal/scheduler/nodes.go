package scheduler

import (
	"errors"
)

// nodes are what a request offers: names, or Node objects as they came with their names.
type nodes struct {
	names []string
	full  bool   // Node objects came
	text  []byte // that the spans are in
	spans []span // of the objects

	known *knownNodes
}

// span is a half-open range of bytes.
type span struct{ from, to int }

// run returns the objects from the i-th up to before the j-th, with the commas between them.
func (n *nodes) run(i, j int) []byte { return n.text[n.spans[i].from:n.spans[j-1].to] }

// visitNames reads an array of names.
func (n *nodes) visitNames(b []byte) (rest []byte, err error) {
	*n = nodes{known: n.known, names: make([]string, 0, 64)}
	return array(b, func(b []byte) ([]byte, error) {
		name, rest, err := text(b)
		n.names = append(n.names, string(name))
		return rest, err
	})
}

// visitList reads a NodeList.
func (n *nodes) visitList(b []byte) (rest []byte, err error) {
	*n = nodes{known: n.known, full: true}
	return object(b, func(key, b []byte) ([]byte, error) {
		if !is(key, "items") || isNull(b) {
			return skip(b)
		}
		*n = nodes{known: n.known, full: true, text: b}
		return array(b, n.visitNode)
	})
}

func (n *nodes) visitNode(b []byte) (rest []byte, err error) {
	name, length, ok := n.known.at(b)
	if !ok {
		name, rest, err = readNode(b)
		if err != nil {
			return nil, err
		}
		length = len(b) - len(rest)
		n.known.add(name, b[:length])
	}
	from := len(n.text) - len(b)
	n.spans = append(n.spans, span{from, from + length})
	n.names = append(n.names, name)
	return b[length:], nil
}

// readNode returns metadata.name of the node at the beginning of b.
func readNode(b []byte) (name string, rest []byte, err error) {
	rest, err = object(b, func(key, b []byte) ([]byte, error) {
		if string(key) != "metadata" || name != "" {
			return skip(b)
		}
		return object(b, func(key, b []byte) ([]byte, error) {
			if string(key) != "name" {
				return skip(b)
			}
			s, rest, err := text(b)
			name = string(s)
			return rest, err
		})
	})
	if err == nil && name == "" {
		err = errors.New("a node without metadata.name")
	}
	return name, rest, err
}
