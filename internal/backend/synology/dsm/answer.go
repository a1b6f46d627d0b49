package dsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	if err := refuseStart(body); err != nil {
		return answer{}, err
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return answer{}, unreadable(int64(len(body)), err)
	}
	return e.answer()
}

// parseWhole reads an answer at once.
func parseWhole(b *body) (answer, error) {
	text, err := io.ReadAll(b)
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(text)
}

// refuseStart refuses what does not begin as an answer of DSM's does.
func refuseStart(text []byte) error {
	text = bytes.TrimSpace(text)
	switch {
	case len(text) == 0:
		return errors.New("an empty answer")
	case text[0] == '<':
		return errors.New("a page instead of JSON: is this a proxy, or not DSM's port?")
	case text[0] != '{':
		return errors.New("something that is not DSM's JSON")
	}
	return nil
}

func unreadable(bytes int64, err error) error {
	return fmt.Errorf("JSON that cannot be read, %d bytes: %w", bytes, quiet(err))
}

// envelope is what each answer comes in.
type envelope struct {
	Success *bool
	Data    json.RawMessage
	Error   struct{ Code Number }
}

func (e envelope) answer() (answer, error) {
	switch {
	case e.Success == nil:
		return answer{}, errors.New("JSON that says neither success nor failure")
	case *e.Success:
		return answer{data: e.Data}, nil
	case e.Error.Code == 0:
		return answer{code: codeUnknown}, nil
	}
	return answer{code: int(e.Error.Code)}, nil
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
