package dsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// answer is what DSM says to a call: data, which may be absent, an object, an array or a string; or
// the code of an error.
type answer struct {
	data json.RawMessage
	code int // 0: success
}

// codeUnknown is DSM's "unknown error", also for a refusal that has no code.
const codeUnknown = 100

// parseAnswer reads the envelope. An error means that this is no answer of DSM's: a proxy's page, or
// the half of one. Its text never quotes the body, which may have a session in it.
func parseAnswer(body []byte) (answer, error) {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return answer{}, errors.New("an empty answer")
	case body[0] == '<':
		return answer{}, errors.New("a page instead of JSON: is this a proxy, or not DSM's port?")
	case body[0] != '{':
		return answer{}, errors.New("something that is not DSM's JSON")
	}
	var envelope struct {
		Success *bool
		Data    json.RawMessage
		Error   struct{ Code Number }
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return answer{}, fmt.Errorf("JSON that cannot be read, %d bytes: %w", len(body), quiet(err))
	}
	switch {
	case envelope.Success == nil:
		return answer{}, errors.New("JSON that says neither success nor failure")
	case *envelope.Success:
		return answer{data: envelope.Data}, nil
	case envelope.Error.Code == 0:
		return answer{code: codeUnknown}, nil
	}
	return answer{code: int(envelope.Error.Code)}, nil
}

// quiet reduces an error of encoding/json to what quotes nothing of the text.
func quiet(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("broken at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("%s is not of type %s", kind.Field, kind.Type)
	}
	return errors.New("of another shape than expected")
}

// empty reports whether data is absent.
func (a answer) empty() bool { return len(a.data) == 0 || string(a.data) == "null" }

// Number is an integer that DSM may send as a string.
type Number int64

// UnmarshalJSON takes 5, "5" and null.
func (n *Number) UnmarshalJSON(text []byte) error {
	s := strings.Trim(string(text), `"`)
	if s == "null" {
		return nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return errors.New("not a whole number")
	}
	*n = Number(v)
	return nil
}

// Flag is a truth that DSM may send as "yes", 1 or "true".
type Flag bool

// UnmarshalJSON takes true, 1, "yes" and the like; null is false.
func (f *Flag) UnmarshalJSON(text []byte) error {
	switch strings.ToLower(strings.Trim(string(text), `"`)) {
	case "true", "yes", "1":
		*f = true
	case "false", "no", "0", "", "null":
		*f = false
	default:
		return errors.New("neither true nor false")
	}
	return nil
}

// Status is a word, which some listings put in an object with the progress.
type Status string

// UnmarshalJSON takes "Healthy" and {"type":"Healthy",…}.
func (s *Status) UnmarshalJSON(text []byte) error {
	var object struct{ Type string }
	if bytes.HasPrefix(text, []byte("{")) {
		err := json.Unmarshal(text, &object)
		*s = Status(object.Type)
		return err
	}
	return json.Unmarshal(text, (*string)(s))
}
