package metadata

import (
	"fmt"
	"strconv"
	"strings"
)

// section is what is between two braces: values by key, and sections in them by name. A value is an
// int64, a string or a list of these two.
type section struct {
	values   map[string]any
	sections map[string]*section
	names    []string // of the sections, in their order
	text     string   // all of it, with its name
	// kept are the LVs among the sections that are as they were in an earlier text, and not in sections; nil if
	// this is not where LVs are.
	kept map[string]*LV
}

// maxDepth is more than LVM nests sections.
const maxDepth = 8

// parser reads LVM's configuration syntax, as far as LVM itself writes it in metadata.
type parser struct {
	text  string
	at    int
	known map[string]*LV // of an earlier text
}

// parse reads a whole text, without the LVs in it whose text is that of those known.
func parse(text string, known map[string]*LV) (*section, error) {
	p := &parser{text: text, known: known}
	s, err := p.section("", 0)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", 1+strings.Count(text[:p.at], "\n"), err)
	}
	return s, nil
}

// space skips blanks and comments.
func (p *parser) space() {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			p.at++
		case c == '#':
			end := strings.IndexByte(p.text[p.at:], '\n')
			if end < 0 {
				end = len(p.text) - p.at
			}
			p.at += end
		default:
			return
		}
	}
}

// next is the next character, 0 at the end.
func (p *parser) next() byte {
	p.space()
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

// section reads up to the brace that closes it, or to the end if it is the outermost.
func (p *parser) section(name string, depth int) (*section, error) {
	s := &section{values: map[string]any{}, sections: map[string]*section{}}
	if name == "logical_volumes" && depth == 2 {
		s.kept = map[string]*LV{}
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d sections in one another", maxDepth)
	}
	for {
		switch c := p.next(); {
		case c == 0 && depth == 0:
			return s, nil
		case c == 0:
			return nil, fmt.Errorf("a section does not end")
		case c == '}' && depth > 0:
			p.at++
			return s, nil
		}
		if err := p.entry(s, depth); err != nil {
			return nil, err
		}
	}
}

// entry reads "key = value" or "name { … }".
func (p *parser) entry(s *section, depth int) error {
	start := p.at
	key := p.word()
	if key == "" {
		return fmt.Errorf("a name was expected at %.20q", p.text[p.at:])
	}
	if _, twice := s.values[key]; twice || s.sections[key] != nil || s.kept[key] != nil {
		return fmt.Errorf("%s is there twice", key)
	}
	// An LV's text ends with its brace, so that one which begins like it is the same.
	if l := p.known[key]; l != nil && s.kept != nil && strings.HasPrefix(p.text[start:], l.text) {
		p.at = start + len(l.text)
		s.kept[key] = l
		s.names = append(s.names, key)
		return nil
	}
	switch c := p.next(); c {
	case '{':
		p.at++
		sub, err := p.section(key, depth+1)
		if err != nil {
			return err
		}
		sub.text = p.text[start:p.at]
		s.sections[key] = sub
		s.names = append(s.names, key)
		return nil
	case '=':
		p.at++
		v, err := p.value()
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		s.values[key] = v
		return nil
	}
	return fmt.Errorf("after %s there is neither = nor {", key)
}

// word reads a key or a section's name; those of LVs are in LVM's character set.
func (p *parser) word() string {
	start := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("_-.+", rune(c)) {
			break
		}
		p.at++
	}
	return p.text[start:p.at]
}

func (p *parser) value() (any, error) {
	if p.next() == '[' {
		p.at++
		return p.list()
	}
	return p.scalar()
}

func (p *parser) list() (any, error) {
	all := []any{}
	for {
		if p.next() == ']' {
			p.at++
			return all, nil
		}
		v, err := p.scalar()
		if err != nil {
			return nil, err
		}
		all = append(all, v)
		switch p.next() {
		case ',':
			p.at++
		case ']':
		default:
			return nil, fmt.Errorf("a list does not end")
		}
	}
}

func (p *parser) scalar() (any, error) {
	if p.next() == '"' {
		return p.quoted()
	}
	word := p.word()
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%.20q is neither a number nor a text", word)
	}
	return n, nil
}

// quoted reads a text, in which a backslash makes the next character count as itself.
func (p *parser) quoted() (any, error) {
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return b.String(), nil
		case c == '\\' && p.at+1 < len(p.text):
			p.at++
			b.WriteByte(p.text[p.at])
		default:
			b.WriteByte(c)
		}
	}
	return nil, fmt.Errorf("a text does not end")
}
