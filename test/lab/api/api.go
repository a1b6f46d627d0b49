// Package api gives a Go test the API of a cluster: a real API server and etcd on this machine, with
// Dozo's resource definitions, and nothing else.
package api

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/test/lab/cluster"
)

// Server is a running API server.
type Server struct {
	Config *rest.Config  // the administrator's
	Client client.Client // with it; nothing is cached

	server *cluster.APIServer
}

// Start starts an API server that ends with the test. DOZO_LAB=off skips the test.
func Start(t testing.TB) *Server {
	t.Helper()
	if os.Getenv("DOZO_LAB") == "off" {
		t.Skip("SKIPPED: DOZO_LAB=off; nothing that needs an API server is tested")
	}
	lab, err := cluster.New(cluster.NewProgress(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	server, err := lab.StartAPIServer(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s := &Server{server: server}
	if s.Config, err = clientcmd.BuildConfigFromFlags("", server.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	s.Config.QPS, s.Config.Burst = 1000, 1000
	if s.Client, err = client.New(s.Config, client.Options{Scheme: Scheme(t)}); err != nil {
		t.Fatal(err)
	}
	if err := s.installDefinitions(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// Scheme knows the types that tests use.
func Scheme(t testing.TB) *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, storagev1.AddToScheme, rbacv1.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Interrupt kills the API server; [Server.Resume] starts it again with all that it knew.
func (s *Server) Interrupt() { s.server.Interrupt() }

// Resume starts it again and waits until it is ready.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	if err := s.server.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// installDefinitions makes the API server know Dozo's types, from the chart.
func (s *Server) installDefinitions(ctx context.Context) error {
	chart, err := Chart()
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(chart, "crds", "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no resource definitions in %s: %w", chart, err)
	}
	var all []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(data, crd); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := s.Client.Create(ctx, crd); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, crd)
	}
	for _, crd := range all {
		if err := s.Established(ctx, crd); err != nil {
			return err
		}
	}
	return nil
}

// Established waits until the API server serves a type and says so to clients that ask what there is, which is
// later: one that asks in between is told "no matches for kind".
func (s *Server) Established(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	kind := schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}
	for {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(crd), crd); err != nil {
			return err
		}
		served := slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
		})
		if served {
			if _, err := s.Client.RESTMapper().RESTMapping(kind, crd.Spec.Versions[0].Name); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not served: %v", crd.Name, crd.Status.Conditions)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Chart finds the directory of the Helm chart, upwards from the working directory.
func Chart() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		chart := filepath.Join(dir, "deploy", "chart", "dozo")
		if _, err := os.Stat(filepath.Join(chart, "Chart.yaml")); err == nil {
			return chart, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("the chart was not found: run this inside the repository")
		}
		dir = parent
	}
}
