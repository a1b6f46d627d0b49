package dsm

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// lunList reads a list of LUNs as it comes, one at a time: with the snapshots of all of them it may be long, and few of those are wanted.
type lunList struct {
	keep func(Snapshot) bool
	luns *[]LUN // nil: there was no list
	odd  error  // what did not fit a LUN, at first
}

// parse reads the envelope as parseAnswer does, but for the data, of which it takes the list.
func (l *lunList) parse(b *body) (answer, error) {
	l.luns, l.odd = nil, nil
	r := bufio.NewReader(b)
	start, _ := r.Peek(512) // or as much as there is
	if err := refuseStart(start); err != nil {
		return answer{}, err
	}
	d, e := json.NewDecoder(r), envelope{}
	err := members(d, func(name string) error {
		switch {
		case strings.EqualFold(name, "data"):
			return members(d, func(name string) error {
				if strings.EqualFold(name, "luns") {
					return l.take(b, d)
				}
				return d.Decode(new(json.RawMessage))
			})
		case strings.EqualFold(name, "success"):
			return d.Decode(&e.Success)
		case strings.EqualFold(name, "error"):
			return d.Decode(&e.Error)
		}
		return d.Decode(new(json.RawMessage))
	})
	if err == nil {
		_, err = d.Token()
		err = cmp.Or(err, errShape)
	}
	if err != io.EOF {
		return answer{}, unreadable(b.read, err)
	}
	return e.answer()
}

// errShape is about JSON that is none of an answer.
var errShape = errors.New("another shape")

// members reads an object, of which value reads the value of each name. None is as good as an empty one.
func members(d *json.Decoder, value func(name string) error) error {
	t, err := d.Token()
	switch {
	case err != nil || t == nil:
		return broken(err)
	case t != json.Delim('{'):
		return errShape
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return broken(err)
		}
		name, _ := t.(string)
		if err := value(name); err != nil {
			return broken(err)
		}
	}
	_, err = d.Token()
	return broken(err)
}

// take reads the list.
func (l *lunList) take(b *body, d *json.Decoder) error {
	l.luns = nil
	t, err := d.Token()
	switch {
	case err != nil || t == nil:
		return err
	case t != json.Delim('['):
		return errShape
	}
	all := []LUN{}
	for d.More() {
		b.item = 0
		var text json.RawMessage
		if err := d.Decode(&text); err != nil {
			return err
		}
		var one LUN
		if err := json.Unmarshal(text, &one); err != nil {
			l.odd = cmp.Or(l.odd, quiet(err))
			continue
		}
		one.Snapshots = l.kept(one.Snapshots)
		all = append(all, one)
	}
	l.luns = &all
	_, err = d.Token()
	return err
}

// kept are those that are wanted, in a list that has no room for the others.
func (l *lunList) kept(all []Snapshot) (some []Snapshot) {
	for _, s := range all {
		if l.keep(s) {
			some = append(some, s)
		}
	}
	return some
}

// broken is an error in the midst of an answer, where an end is none of it.
func broken(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
