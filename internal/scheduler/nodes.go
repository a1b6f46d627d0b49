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
}

// span is a half-open range of bytes.
type span struct{ from, to int }

// run returns the objects from the i-th up to before the j-th, with the commas between them.
func (n *nodes) run(i, j int) []byte { return n.text[n.spans[i].from:n.spans[j-1].to] }

// visitNames reads an array of names.
func (n *nodes) visitNames(b []byte) (rest []byte, err error) {
	*n = nodes{names: make([]string, 0, 64)}
	return array(b, func(b []byte) ([]byte, error) {
		name, rest, err := text(b)
		n.names = append(n.names, string(name))
		return rest, err
	})
}

// visitList reads a NodeList.
func (n *nodes) visitList(b []byte) (rest []byte, err error) {
	*n = nodes{full: true}
	return object(b, func(key, b []byte) ([]byte, error) {
		if !is(key, "items") || isNull(b) {
			return skip(b)
		}
		*n = nodes{full: true, text: b}
		return array(b, n.visitNode)
	})
}

func (n *nodes) visitNode(b []byte) (rest []byte, err error) {
	var name []byte
	rest, err = object(b, func(key, b []byte) ([]byte, error) {
		if string(key) != "metadata" || len(name) > 0 {
			return skip(b)
		}
		return object(b, func(key, b []byte) (rest []byte, err error) {
			if string(key) != "name" {
				return skip(b)
			}
			name, rest, err = text(b)
			return rest, err
		})
	})
	if err == nil && len(name) == 0 {
		err = errors.New("a node without metadata.name")
	}
	if err != nil {
		return nil, err
	}
	from := len(n.text) - len(b)
	n.spans = append(n.spans, span{from, len(n.text) - len(rest)})
	n.names = append(n.names, string(name))
	return rest, nil
}
