package main

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/test/lab/api"
)

// TestChartArguments: what the chart starts has the commands and the flags that it is started with.
func TestChartArguments(t *testing.T) {
	scheme, err := claims.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	for _, component := range []string{"lvm-controller", "lvm-node", "synology-controller", "synology-node", "scheduler", "webhook"} {
		found := false
		for _, o := range api.Rendered(t, scheme, component) {
			var pod corev1.PodSpec
			switch o := o.(type) {
			case *appsv1.Deployment:
				pod = o.Spec.Template.Spec
			case *appsv1.DaemonSet:
				pod = o.Spec.Template.Spec
			default:
				continue
			}
			found = true
			cmd, flags, err := root().Find(pod.Containers[0].Args)
			if err != nil {
				t.Errorf("%s: %v", component, err)
				continue
			}
			if err := cmd.ParseFlags(flags); err != nil {
				t.Errorf("%s: %v", component, err)
			}
			if err := cmd.ValidateRequiredFlags(); err != nil {
				t.Errorf("%s: %v", component, err)
			}
			if err := cmd.ValidateFlagGroups(); err != nil {
				t.Errorf("%s: %v", component, err)
			}
		}
		if !found {
			t.Errorf("%s: the chart has no pod of it", component)
		}
	}
}
