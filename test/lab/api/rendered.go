package api

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Rendered returns the objects of one component as the chart installs them in the namespace dozo, with all that
// is off by default: from the golden file, which the chart's own tests hold to be what it renders.
func Rendered(t testing.TB, scheme *runtime.Scheme, component string) []client.Object {
	t.Helper()
	chart, err := Chart()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(chart, "testdata", "optional.golden.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var all []client.Object
	for _, document := range strings.Split(string(text), "\n---\n") {
		if !strings.Contains(document, "app.kubernetes.io/component: "+component+"\n") {
			continue
		}
		decoded, _, err := decoder.Decode([]byte(document), nil, nil)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
		all = append(all, decoded.(client.Object))
	}
	if len(all) == 0 {
		t.Fatalf("the chart has nothing of the component %s", component)
	}
	return all
}
