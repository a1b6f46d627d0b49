package dsm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
)

func TestParseAnswer(t *testing.T) {
	for _, c := range []struct {
		body string
		data string
		code int
		err  string // "" if it is an answer
	}{
		{`{"success":true}`, "", 0, ""},
		{` {"success":true,"data":null}`, "null", 0, ""},
		{`{"success":true,"data":{"a":1}}`, `{"a":1}`, 0, ""},
		{`{"success":true,"data":[1]}`, `[1]`, 0, ""},
		{`{"success":true,"data":"GMT+08"}`, `"GMT+08"`, 0, ""},
		{`{"success":false,"error":{"code":18990531}}`, "", 18990531, ""},
		{`{"success":false,"error":{"code":"119"}}`, "", 119, ""},
		{`{"success":false,"error":{"code":403,"errors":{"token":"t"}}}`, "", 403, ""},
		{`{"success":false}`, "", codeUnknown, ""},
		{``, "", 0, "empty"},
		{`<html>502</html>`, "", 0, "page"},
		{`OK`, "", 0, "not DSM's"},
		{`[{"success":true}]`, "", 0, "not DSM's"},
		{`{}`, "", 0, "neither"},
		{`{"data":{}}`, "", 0, "neither"},
		{`{"success":"true"}`, "", 0, "Success is not"},
		{`{"success":true,"data":{"sid":"secr`, "", 0, "broken"},
		{`{"success":true}{"success":false}`, "", 0, "broken"},
		{`{"success":false,"error":{"code":"secret"}}`, "", 0, "shape"},
	} {
		a, err := parseAnswer([]byte(c.body))
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: error %v, want %q", c.body, err, c.err)
		case c.err == "" && (err != nil || string(a.data) != c.data || a.code != c.code):
			t.Errorf("%s: data %s, code %d, %v", c.body, a.data, a.code, err)
		case err != nil && strings.Contains(err.Error(), "secr"):
			t.Errorf("the error quotes the body: %v", err)
		}
		_, streamed, odd := stream(c.body)
		switch {
		case c.err != "" && odd == nil, c.code != 0 && (odd != nil || streamed.code != c.code):
			t.Errorf("%s: read as it comes it is code %d, %v", c.body, streamed.code, odd)
		case odd != nil && strings.Contains(odd.Error(), "secr"):
			t.Errorf("the error quotes the body: %v", odd)
		}
	}
}

// TestLooseTypes are the forms in which DSM sends numbers, truths and states, and those that are refused.
func TestLooseTypes(t *testing.T) {
	for text, want := range map[string]string{
		`5`: "5 false ", `"5"`: "5 false ", `"3738590121984"`: "3738590121984 false ", `null`: "0 false ", `-1`: "-1 false ",
	} {
		var n Number
		if err := json.Unmarshal([]byte(text), &n); err != nil || fmt.Sprintf("%d false ", n) != want {
			t.Errorf("Number %s: %d, %v", text, n, err)
		}
	}
	for text, want := range map[string]Flag{`true`: true, `"yes"`: true, `1`: true, `"YES"`: true, `false`: false, `"no"`: false, `0`: false, `""`: false, `null`: false} {
		f := Flag(!want)
		if err := json.Unmarshal([]byte(text), &f); err != nil || (f != want && text != "null") {
			t.Errorf("Flag %s: %v, %v", text, f, err)
		}
	}
	for text, want := range map[string]Status{`"Healthy"`: "Healthy", `{"type":"Healthy","progress":{"percent":-1}}`: "Healthy", `""`: ""} {
		var s Status
		if err := json.Unmarshal([]byte(text), &s); err != nil || s != want {
			t.Errorf("Status %s: %q, %v", text, s, err)
		}
	}
	for _, text := range []string{`""`, `"many"`, `1.5`, `{}`, `[]`, `true`} {
		if err := json.Unmarshal([]byte(text), new(Number)); err == nil {
			t.Errorf("Number takes %s", text)
		}
	}
	for _, text := range []string{`"perhaps"`, `2`, `{}`} {
		if err := json.Unmarshal([]byte(text), new(Flag)); err == nil {
			t.Errorf("Flag takes %s", text)
		}
	}
}

// TestSuccessWithoutData must not look like something that is there, nor like nothing being there.
func TestSuccessWithoutData(t *testing.T) {
	c, _ := captured(t, map[string]string{lunAPI + ".get": "nothing", lunAPI + ".list": "nothing", lunAPI + ".create": "nothing",
		targetAPI + ".list": "interfaces", targetAPI + ".create": "nothing", shareAPI + ".get": "lun_get", shareAPI + ".list": "lun_get"})
	ctx := t.Context()
	_, get := c.LUN(ctx, "x")
	_, list := c.LUNs(ctx)
	_, create := c.CreateLUN(ctx, NewLUN{Name: "x"})
	_, targets := c.Targets(ctx)
	_, target := c.CreateTarget(ctx, NewTarget{})
	_, share := c.Share(ctx, "s")
	_, shares := c.Shares(ctx)
	for i, err := range []error{get, list, create, targets, target, share, shares} {
		if !errs.Is(err, errs.Internal) {
			t.Errorf("%d: %v, want an error of the kind internal", i, err)
		}
	}
}

// TestAnotherAnswer is an answer about something else than was asked for.
func TestAnotherAnswer(t *testing.T) {
	c, _ := captured(t, map[string]string{lunAPI + ".get": "lun_get", targetAPI + ".get": "target_get", shareAPI + ".get": "share_get", lunAPI + ".get_snapshot": "lun_get"})
	ctx := t.Context()
	_, lun := c.LUN(ctx, "other")
	_, target := c.Target(ctx, "13")
	_, share := c.Share(ctx, "other")
	_, snapshot := c.Snapshot(ctx, "other")
	for i, err := range []error{lun, target, share, snapshot} {
		if !errs.Is(err, errs.Internal) {
			t.Errorf("%d: %v, want an error of the kind internal", i, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.json")
	for _, name := range files {
		body, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
		f.Add(body[:len(body)/2])
	}
	f.Add([]byte(`<html>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAnswer(body)
		if err != nil {
			return
		}
		if !json.Valid(body) {
			t.Errorf("taken, though it is no JSON: %q", body)
		}
		for _, out := range []any{new(LUN), new(Target), new(Volume), new(Snapshot), new(Share), new([]NFSRule), new(string), new(Limits)} {
			// A surprise has to be an error, and never one that says "not there".
			if err := decode(call{lunAPI, 1, "get"}, a, out); err != nil && !errs.Is(err, errs.Internal) {
				t.Errorf("decode: %v", err)
			}
		}
	})
}
