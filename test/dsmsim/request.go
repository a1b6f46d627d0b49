package dsmsim

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
)

// request is one call. Values of parameters are JSON; what is not is taken for a string, since DSM is lenient.
type request struct {
	sim           *Sim
	form          url.Values
	api, method   string
	version       int
	ip            string
	cookie, token string
}

// has reports whether a parameter was given.
func (r *request) has(name string) bool { return r.form.Has(name) }

// text is a parameter as a string: "quoted" or bare.
func (r *request) text(name string) string {
	raw := r.form.Get(name)
	var s string
	if json.Unmarshal([]byte(raw), &s) == nil {
		return s
	}
	return raw
}

// key is a text that must be a string: a bare number is one to DSM too, and refused.
func (r *request) key(name string) (string, bool) {
	raw := r.form.Get(name)
	var n json.Number
	if raw != "" && raw[0] != '"' && json.Unmarshal([]byte(raw), &n) == nil {
		return "", false
	}
	s := r.text(name)
	return s, s != ""
}

// number is a whole number, quoted or not; otherwise if it is absent or none.
func (r *request) number(name string, otherwise int64) int64 {
	n, err := strconv.ParseInt(r.text(name), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

func (r *request) truth(name string, otherwise bool) bool {
	b, err := strconv.ParseBool(r.text(name))
	if err != nil {
		return otherwise
	}
	return b
}

// list is an array of strings or numbers, or a bare word.
func (r *request) list(name string) []string {
	raw := r.form.Get(name)
	var items []any
	if json.Unmarshal([]byte(raw), &items) != nil {
		if raw == "" {
			return nil
		}
		return []string{r.text(name)}
	}
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = fmt.Sprint(item)
	}
	return texts
}

// decode reads an object or an array.
func (r *request) decode(name string, into any) bool {
	return json.Unmarshal([]byte(r.form.Get(name)), into) == nil
}
