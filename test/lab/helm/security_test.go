package helm

import (
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// object is as much of a Kubernetes object as the tests below look at.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Rules    []rule
	Spec     struct {
		Template struct{ Spec podSpec }
	}
}

type rule struct{ APIGroups, Resources, Verbs, ResourceNames []string }

type podSpec struct {
	HostPID, HostNetwork, HostIPC bool
	AutomountServiceAccountToken  *bool
	SecurityContext               struct {
		RunAsNonRoot   *bool
		SeccompProfile struct{ Type string }
	}
	Containers, InitContainers []container
	Volumes                    []volume
}

type volume struct {
	Name     string
	HostPath *struct{ Path string }
}

type container struct {
	Name            string
	Resources       struct{ Requests map[string]string }
	SecurityContext struct {
		Privileged, ReadOnlyRootFilesystem, AllowPrivilegeEscalation *bool
		Capabilities                                                 struct{ Add, Drop []string }
	}
	VolumeMounts []struct {
		Name, MountPath, MountPropagation string
		ReadOnly                          bool
	}
}

// objects parses what was rendered.
func objects(t *testing.T, manifests string) []object {
	t.Helper()
	var all []object
	for _, text := range strings.Split(manifests, "\n---\n") {
		var o object
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if o.Kind != "" {
			all = append(all, o)
		}
	}
	if len(all) < 8 {
		t.Fatalf("only %d objects: is it split right?", len(all))
	}
	return all
}

// TestRules: whoever takes over a node gets what its sidecars need and no more.
func TestRules(t *testing.T) {
	helm := newCommand(t)
	for name := range cases() {
		for _, o := range objects(t, helm.render(t, name)) {
			for _, r := range o.Rules {
				for _, what := range slices.Concat(r.APIGroups, r.Resources, r.Verbs) {
					if strings.Contains(what, "*") {
						t.Errorf("%s: %s %s: a wildcard in %+v", name, o.Kind, o.Metadata.Name, r)
					}
				}
				if slices.Contains(r.Resources, "nodes") && !slices.Equal(r.Verbs, []string{"get", "list", "watch"}) && !slices.Equal(r.Verbs, []string{"get"}) {
					t.Errorf("%s: %s %s may %v nodes", name, o.Kind, o.Metadata.Name, r.Verbs)
				}
				if slices.Contains(r.Resources, "secrets") && !allowedSecrets(o, r) {
					t.Errorf("%s: %s %s may %v secrets %v", name, o.Kind, o.Metadata.Name, r.Verbs, r.ResourceNames)
				}
				for _, never := range []string{"nodes/status", "nodes/proxy", "pods/exec", "serviceaccounts", "serviceaccounts/token"} {
					if slices.Contains(r.Resources, never) {
						t.Errorf("%s: %s %s may %v %s", name, o.Kind, o.Metadata.Name, r.Verbs, never)
					}
				}
				if o.Kind == "ClusterRole" && slices.Contains(r.Resources, "leases") {
					t.Errorf("%s: leases of the whole cluster", name)
				}
				for _, never := range []string{"escalate", "bind", "impersonate", "deletecollection"} {
					if slices.Contains(r.Verbs, never) {
						t.Errorf("%s: %s %s may %s", name, o.Kind, o.Metadata.Name, never)
					}
				}
			}
		}
	}
}

// allowedSecrets are the webhook's own, and those that the pools in the values name, only to be read.
func allowedSecrets(o object, r rule) bool {
	switch {
	case o.Kind != "Role":
		return false
	case slices.Equal(r.ResourceNames, []string{"dozo-webhook"}):
		return true
	}
	return slices.Equal(r.ResourceNames, []string{"nas-login", "nas-other"}) && slices.Equal(r.Verbs, []string{"get", "watch"})
}

// outside are the pods of drivers whose storage is outside the cluster.
func (o object) outside() bool { return strings.HasPrefix(o.Metadata.Name, "dozo-synology-") }

// TestPods: on each node one container is privileged, and nowhere else.
func TestPods(t *testing.T) {
	helm := newCommand(t)
	for name, expected := range map[string]struct{ drivers, others int }{"plain": {1, 0}, "full": {3, 2}, "optional": {2, 2}} {
		pods := map[string]int{}
		for _, o := range objects(t, helm.render(t, name)) {
			p := o.Spec.Template.Spec
			if len(p.Containers) == 0 {
				continue
			}
			pods[o.Kind]++
			if p.HostPID || p.HostIPC || p.HostNetwork != (o.outside() && o.Kind == "DaemonSet") {
				t.Errorf("%s: a namespace of the host's", name)
			}
			if p.SecurityContext.SeccompProfile.Type != "RuntimeDefault" {
				t.Errorf("%s: seccomp profile %q", name, p.SecurityContext.SeccompProfile.Type)
			}
			if p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken {
				t.Errorf("%s: every container would get the credentials", name)
			}
			controller := o.Kind == "Deployment"
			if controller != isTrue(p.SecurityContext.RunAsNonRoot) {
				t.Errorf("%s: %s %s: runs as root, or cannot", name, o.Kind, o.Metadata.Name)
			}
			checkPaths(t, p, controller)
			if o.outside() && !controller && slices.ContainsFunc(p.Volumes, func(v volume) bool { return v.Name == "api-token" }) {
				t.Errorf("%s: %s has credentials for the API, and nothing to do there", name, o.Metadata.Name)
			}
			for _, c := range append(p.InitContainers, p.Containers...) {
				checkContainer(t, c, !controller && c.Name == "dozo")
			}
		}
		if pods["Deployment"] != expected.drivers+expected.others || pods["DaemonSet"] != expected.drivers || len(pods) != 2 {
			t.Errorf("%s: workloads %v, expected a Deployment and a DaemonSet for each driver, and other Deployments: %+v", name, pods, expected)
		}
	}
}

// TestLVMD: where lvmd does LVM's work, the driver sees nothing of LVM on its node.
func TestLVMD(t *testing.T) {
	helm := newCommand(t)
	found := 0
	for _, o := range objects(t, helm.render(t, "optional")) {
		for _, v := range o.Spec.Template.Spec.Volumes {
			if v.HostPath == nil {
				continue
			}
			if strings.Contains(v.HostPath.Path, "/lvm/") || strings.HasSuffix(v.HostPath.Path, "/lvm") || strings.Contains(v.HostPath.Path, "modules") {
				t.Errorf("%s: has the host's %s", o.Metadata.Name, v.HostPath.Path)
			}
			if v.HostPath.Path == "/run/dozo/lvmd" {
				found++
			}
		}
	}
	if found != 1 {
		t.Errorf("%d pods have the directory of lvmd's socket, want that of the nodes", found)
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

func checkContainer(t *testing.T, c container, mounts bool) {
	t.Helper()
	s := c.SecurityContext
	if !isTrue(s.ReadOnlyRootFilesystem) {
		t.Errorf("%s: can write to its root", c.Name)
	}
	if len(s.Capabilities.Add) > 0 {
		t.Errorf("%s: adds capabilities %v", c.Name, s.Capabilities.Add)
	}
	if c.Resources.Requests["cpu"] == "" || c.Resources.Requests["memory"] == "" {
		t.Errorf("%s: requests %v", c.Name, c.Resources.Requests)
	}
	privileged := isTrue(s.Privileged)
	if privileged != mounts {
		t.Errorf("%s: privileged: %v", c.Name, privileged)
	}
	if !privileged && (s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []string{"ALL"})) {
		t.Errorf("%s: keeps capabilities, or can get some", c.Name)
	}
	for _, m := range c.VolumeMounts {
		if m.Name == nodeRoot && (!m.ReadOnly || !privileged) {
			t.Errorf("%s: can write to the root of the host", c.Name)
		}
		if !privileged && m.MountPropagation != "" && m.MountPropagation != "None" {
			t.Errorf("%s: sees mounts in %s", c.Name, m.MountPath)
		}
		if m.MountPropagation == "Bidirectional" && !slices.Contains([]string{"staging", "pods"}, m.Name) {
			t.Errorf("%s: what it mounts in %s shows on the host", c.Name, m.MountPath)
		}
	}
}

// nodeRoot is the volume with the host's root file system, in which a driver runs the host's iscsiadm.
const nodeRoot = "node-root"

// checkPaths refuses directories of the host that are more than is needed.
func checkPaths(t *testing.T, p podSpec, controller bool) {
	t.Helper()
	for _, v := range p.Volumes {
		if v.HostPath == nil {
			continue
		}
		if controller {
			t.Errorf("volume %s: the controller has nothing to do with the host's %s", v.Name, v.HostPath.Path)
		}
		path := strings.TrimRight(v.HostPath.Path, "/")
		wide := []string{"", "/etc", "/var", "/var/lib", "/run", "/var/run", "/proc", "/sys", "/usr", "/root", "/home", "/boot", "/srv"}
		if slices.Contains(wide, path) && v.Name != nodeRoot || strings.HasSuffix(path, "/kubelet") {
			t.Errorf("volume %s: %q of the host is more than is needed", v.Name, v.HostPath.Path)
		}
	}
}
