package csi

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/dozo-dev/dozo/internal/backend/fake"
)

const secret = "hunter2"

// fill sets every field of a message. What may be logged gets something harmless, everything else a
// secret, maps under keys that are known and under keys that are not.
func fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.ContainingOneof() != nil && m.WhichOneof(f.ContainingOneof()) != nil {
			continue
		}
		switch {
		case f.IsMap():
			for _, key := range []string{
				"password", contextMkfsOptions, "csi.storage.k8s.io/serviceAccount.tokens", "csi.storage.k8s.io/serviceaccount.name", paramMkfsOptions,
			} {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString(key).MapKey(), protoreflect.ValueOfString(secret+" "+key))
			}
			m.Mutable(f).Map().Set(protoreflect.ValueOfString(contextAccess).MapKey(),
				protoreflect.ValueOfString(`{"version":1,"local":{"pool":"main","id":"v","token":"`+secret+`"}}`))
		case f.IsList() && f.Message() != nil:
			fill(m.Mutable(f).List().AppendMutable().Message())
		case f.IsList() && f.Kind() == protoreflect.StringKind:
			m.Mutable(f).List().Append(protoreflect.ValueOfString(textFor(f)))
		case f.IsList():
		case f.Message() != nil:
			fill(m.Mutable(f).Message())
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(textFor(f)))
		case f.Kind() == protoreflect.EnumKind:
			m.Set(f, protoreflect.ValueOfEnum(1))
		}
	}
}

func textFor(f protoreflect.FieldDescriptor) string {
	switch {
	case !loggedField(f.Name()):
		return secret
	case strings.HasSuffix(string(f.Name()), "path"):
		return "/a/path"
	case strings.HasSuffix(string(f.Name()), "name"):
		return "a-name"
	default:
		return "main:v"
	}
}

// TestSecretsAreNotLogged sends every call with a secret in all places that the log should not show:
// as it is, without its parameters so that it gets further, and to pools and nodes that fail.
func TestSecretsAreNotLogged(t *testing.T) {
	b := newBed(t)
	b.volume(t, "v")
	send := func() {
		for method, d := range methods() {
			for _, clear := range []string{"", "parameters", "mutable_parameters,parameters,accessibility_requirements,volume_content_source"} {
				m := newMessage(t, d.Input())
				fill(m.ProtoReflect())
				for name := range strings.SplitSeq(clear, ",") {
					if f := d.Input().Fields().ByName(protoreflect.Name(name)); f != nil {
						m.ProtoReflect().Clear(f)
					}
				}
				_, _ = call(t, b.conn, method, m)
			}
		}
	}
	send()
	b.fakes["main"].Arm(func(e *fake.Errors) { e.Down = errDown() })
	b.machine.fail = errDown()
	send()
	b.machine.panics = true
	send()
	log := b.log.String()
	if strings.Contains(log, secret) {
		for line := range strings.Lines(log) {
			if strings.Contains(line, secret) {
				t.Errorf("a secret is in the log: %s", line)
			}
		}
	}
	for _, word := range []string{"main:v", "/a/path", "a-name", "CreateVolume", "NodeStageVolume"} {
		if !strings.Contains(log, word) {
			t.Errorf("the log lacks %q: this test has lost its sense", word)
		}
	}
}

// TestDescribeKnowsNoSecret is the same for every request as it is described, and holds the list of
// what is logged to the fields that CSI itself marks as secret.
func TestDescribeKnowsNoSecret(t *testing.T) {
	for method, d := range methods() {
		m := newMessage(t, d.Input())
		fill(m.ProtoReflect())
		for _, a := range describe(m.ProtoReflect()) {
			if strings.Contains(a.Value.String(), secret) {
				t.Errorf("%s: %s would be logged: %s", method, a.Key, a.Value)
			}
		}
		fields := d.Input().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			options, ok := f.Options().(*descriptorpb.FieldOptions)
			if ok && proto.GetExtension(options, csi.E_CsiSecret).(bool) && (loggedField(f.Name()) || loggedMessage(f.Name())) {
				t.Errorf("%s: %s is a secret and on the list of what is logged", method, f.Name())
			}
		}
	}
}

// lines is what the log says about one method.
func (b *bed) lines(t *testing.T, method string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(b.log.String()) {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if l["method"] == method {
			delete(l, "took")
			delete(l, "time")
			all = append(all, l)
		}
	}
	return all
}

func TestEachCallIsLoggedOnce(t *testing.T) {
	b := newBed(t)
	r := createRequest("pvc-1")
	r.Parameters = map[string]string{
		"pool": "main", "mkfsOptions": "-m 0", "csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pv/name": "x",
	}
	_, err := b.CreateVolume(t.Context(), r)
	wantOK(t, err)
	r.Name = strings.Repeat("n", 300)
	_, err = b.CreateVolume(t.Context(), r)
	wantCode(t, err, codes.InvalidArgument)
	common := map[string]any{
		"msg": "csi call", "method": "CreateVolume", "pool": "main", "csi.storage.k8s.io/pvc/name": "data",
		"csi.storage.k8s.io/pvc/namespace": "shop", "required_bytes": float64(64 * mib),
	}
	good := map[string]any{"level": "INFO", "code": "OK", "name": "pvc-1"}
	bad := map[string]any{
		"level": "WARN", "code": "InvalidArgument", "name": strings.Repeat("n", maxLogged) + "…",
		"error": "name: 300 bytes long, at most 128 are allowed",
	}
	for k, v := range common {
		good[k], bad[k] = v, v
	}
	want(t, b.lines(t, "CreateVolume"), []map[string]any{good, bad})

	_, err = b.Probe(t.Context(), &csi.ProbeRequest{})
	wantOK(t, err)
	want(t, b.lines(t, "Probe"), []map[string]any{{"level": "DEBUG", "msg": "csi call", "method": "Probe", "code": "OK"}})
}

func TestPanicsStayInTheirCall(t *testing.T) {
	b := newBed(t)
	b.machine.panics = true
	_, err := b.NodeStageVolume(t.Context(), goodStage())
	wantCode(t, err, codes.Internal, "NodeStageVolume")
	if strings.Contains(err.Error(), "a defect\n") || strings.Contains(err.Error(), ".go:") {
		t.Errorf("the caller is shown the inside: %v", err)
	}
	log := b.log.String()
	for _, word := range []string{"a call panicked", "a defect", "bed_test.go", "NodeStageVolume"} {
		if !strings.Contains(log, word) {
			t.Errorf("the log lacks %q", word)
		}
	}
	_, err = b.Probe(t.Context(), &csi.ProbeRequest{})
	wantOK(t, err)
}

func TestForgottenHandlesAreToldOf(t *testing.T) {
	b := newBed(t)
	_, err := b.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "v2/of/another/version"})
	wantOK(t, err)
	if log := b.log.String(); !strings.Contains(log, slog.LevelWarn.String()) || !strings.Contains(log, "v2/of/another/version") {
		t.Errorf("nobody is told of a deletion that did nothing: %s", log)
	}
}
