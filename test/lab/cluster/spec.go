package cluster

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Files in the lab's directory.
const (
	specName       = "spec.json"
	loopRecordName = "loops.json"
)

// Addresses exist only inside the lab's network namespaces.
const (
	hostAddress    = "10.80.0.1" // the control plane's, on the bridge
	nodeNetwork    = "10.80.0."
	serviceNetwork = "10.96.0.0/16"
	serviceAddress = "10.96.0.1" // the first of it: the API server's Service
	podNetwork     = "10.244.0.0/16"
	serverURL      = "https://" + hostAddress + ":6443"
	clusterDomain  = "cluster.local"
	maxNodes       = 9
	frontProxy     = "front-proxy-client" // the API server towards extension API servers
)

// spec is what the processes inside the namespaces know about the lab. "up"
// writes it; each of them reads it before it changes its root directory.
type spec struct {
	Run      string // the lab's directory
	Bin      string // the built binaries
	Images   string // the containerd state that nodes start from
	Cgroup   string // the lab's cgroup, relative to a hierarchy's root
	Nodes    []nodeSpec
	Guest    *guestSpec // of nodes with kernels of their own; nil: they share the host's
	NAS      bool       // there is one beside the nodes
	HostPort int        // of the API server's forwarder on the host's loopback
}

// nodeSpec is one node.
type nodeSpec struct {
	Name  string
	Index int // from 1; addresses derive from it
}

func (n nodeSpec) address() string   { return nodeNetwork + strconv.Itoa(10+n.Index) }
func (n nodeSpec) podSubnet() string { return fmt.Sprintf("10.244.%d.0/24", n.Index) }
func (n nodeSpec) link() string      { return "node" + strconv.Itoa(n.Index) }
func (n nodeSpec) hosts() string     { return "127.0.0.1 localhost\n" + n.address() + " " + n.Name + "\n" }

func (s *spec) nodeDir(name string) string { return filepath.Join(s.Run, "nodes", name) }
func (s *spec) logDir() string             { return filepath.Join(s.Run, "log") }
func (s *spec) pkiDir() string             { return filepath.Join(s.Run, "pki") }
func (s *spec) powerSocket() string        { return filepath.Join(s.Run, "power") }

// machines are the nodes and the NAS, if there is one.
func (s *spec) machines() []nodeSpec {
	if !s.NAS {
		return s.Nodes
	}
	return append(slices.Clone(s.Nodes), nasSpec())
}

func (s *spec) node(name string) (nodeSpec, error) {
	for _, n := range s.machines() {
		if n.Name == name {
			return n, nil
		}
	}
	return nodeSpec{}, fmt.Errorf("the lab has no node %q", name)
}

func (s *spec) write() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.Run, specName), data, 0o644)
}

func readSpec(run string) (*spec, error) {
	data, err := os.ReadFile(filepath.Join(run, specName))
	if err != nil {
		return nil, err
	}
	s := &spec{}
	return s, json.Unmarshal(data, s)
}

// writeCredentials makes every key, certificate and kubeconfig of the cluster.
func (s *spec) writeCredentials() error {
	if err := os.MkdirAll(s.pkiDir(), 0o700); err != nil {
		return err
	}
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	private, public, err := serviceAccountKeys()
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"ca.crt": ca.pem, "sa.key": private, "sa.pub": public} {
		if err := os.WriteFile(filepath.Join(s.pkiDir(), name), data, 0o600); err != nil {
			return err
		}
	}
	signer, err := ca.keyPair()
	if err != nil {
		return err
	}
	if err := signer.write(s.pkiDir(), "ca"); err != nil {
		return err
	}
	if err := s.writeServer(ca); err != nil {
		return err
	}
	return s.writeClients(ca)
}

// writeServer makes the API server's certificate, for every name and address
// under which pods, nodes and the host reach it.
func (s *spec) writeServer(ca *authority) error {
	pair, err := ca.issue(identity{
		user: "kube-apiserver",
		names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc." + clusterDomain},
		addresses: addresses("127.0.0.1", hostAddress, serviceAddress),
	})
	if err != nil {
		return err
	}
	return pair.write(s.pkiDir(), "apiserver")
}

// writeClients makes a kubeconfig per component, each with the identity that
// the component has in a real cluster.
func (s *spec) writeClients(ca *authority) error {
	host := "https://127.0.0.1:" + strconv.Itoa(s.HostPort)
	clients := []struct {
		file, server string
		id           identity
	}{
		{filepath.Join(s.Run, "admin.kubeconfig"), host, identity{user: adminUser, group: "system:masters"}},
		{filepath.Join(s.pkiDir(), "controller-manager.kubeconfig"), serverURL, identity{user: "system:kube-controller-manager"}},
		{filepath.Join(s.pkiDir(), "scheduler.kubeconfig"), serverURL, identity{user: "system:kube-scheduler"}},
		{filepath.Join(s.pkiDir(), "front-proxy.kubeconfig"), serverURL, identity{user: frontProxy}},
		{filepath.Join(s.pkiDir(), "proxy.kubeconfig"), serverURL, identity{user: "system:kube-proxy"}},
	}
	for _, n := range s.Nodes {
		clients = append(clients, struct {
			file, server string
			id           identity
		}{filepath.Join(s.pkiDir(), n.Name+".kubeconfig"), serverURL, identity{
			user: "system:node:" + n.Name, group: "system:nodes",
			names: []string{n.Name}, addresses: addresses(n.address(), "127.0.0.1"),
		}})
	}
	if s.NAS {
		n := nasSpec()
		pair, err := ca.issue(identity{user: n.Name, names: []string{n.Name}, addresses: addresses(n.address())})
		if err != nil {
			return err
		}
		if err := pair.write(s.pkiDir(), n.Name); err != nil {
			return err
		}
	}
	for _, client := range clients {
		pair, err := ca.issue(client.id)
		if err != nil {
			return err
		}
		name := client.id.user
		if len(client.id.names) > 0 {
			name = client.id.names[0] // a kubelet serves with the same pair
		}
		if err := pair.write(s.pkiDir(), name); err != nil {
			return err
		}
		config := kubeconfig(client.server, client.id.user, ca.pem, pair)
		if err := os.WriteFile(client.file, config, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func addresses(texts ...string) []net.IP {
	var ips []net.IP
	for _, text := range texts {
		ips = append(ips, net.ParseIP(text))
	}
	return ips
}

func base64Of(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// quoted is a YAML double-quoted scalar.
func quoted(text string) string {
	data, _ := json.Marshal(text) // a string always encodes
	return string(data)
}
