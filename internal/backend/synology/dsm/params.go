package dsm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// params are a call's parameters by name. A secret among them is revealed only where they are encoded.
type params map[string]any

// encode makes a form of parameters. An API whose request format is JSON parses each value: strings
// have to be quoted, above all those that look like numbers, since a bare target_id is refused with
// 18990710. Other APIs take strings as they are.
func (p params) encode(asJSON bool) (url.Values, error) {
	form := url.Values{}
	for name, value := range p {
		if s, ok := value.(Secret); ok {
			value = s.Reveal()
		}
		if s, ok := value.(string); ok && !asJSON {
			form.Set(name, s)
			continue
		}
		text, err := jsonText(value)
		if err != nil {
			return nil, fmt.Errorf("parameter %s: %w", name, err)
		}
		form.Set(name, text)
	}
	return form, nil
}

// jsonText is JSON without the escapes for HTML, which DSM would have to undo.
func jsonText(value any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}
