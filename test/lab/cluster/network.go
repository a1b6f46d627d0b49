package cluster

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	bridge        = "br0"
	nodeInterface = "eth0"
)

// ipBatch runs commands of the ip program, all in one call.
func ipBatch(ctx context.Context, lines ...string) error {
	_, err := command{
		args:    []string{"ip", "-batch", "-"},
		stdin:   strings.NewReader(strings.Join(lines, "\n") + "\n"),
		timeout: 30 * time.Second,
	}.run(ctx)
	return err
}

// clusterNetwork makes the bridge that stands for the machines' network, in
// the namespace of the control plane, and routes pods' addresses to nodes.
func clusterNetwork(ctx context.Context, s *spec) error {
	lines := []string{
		"link set lo up",
		"link add " + bridge + " type bridge",
		"addr add " + hostAddress + "/24 dev " + bridge,
		"link set " + bridge + " up",
	}
	for _, n := range s.Nodes {
		lines = append(lines, fmt.Sprintf("route add %s via %s", n.podSubnet(), n.address()))
	}
	// Services, which kube-scheduler's extender is one of, are known by kube-proxy, and that is on nodes only.
	lines = append(lines, fmt.Sprintf("route add %s via %s", serviceNetwork, s.Nodes[0].address()))
	if err := ipBatch(ctx, lines...); err != nil {
		return err
	}
	return enableForwarding()
}

// connectGuests makes the cables of machines: what their kernels connect to
// stays when they lose power.
func connectGuests(ctx context.Context, s *spec) error {
	var lines []string
	for _, n := range s.machines() {
		lines = append(lines, "tuntap add dev "+n.link()+" mode tap", "link set "+n.link()+" master "+bridge+" up")
	}
	return ipBatch(ctx, lines...)
}

// connectNode puts one end of a cable into the node's namespace.
func connectNode(ctx context.Context, n nodeSpec, pid int) error {
	return ipBatch(ctx,
		"link add "+n.link()+" type veth peer name "+nodeInterface+" netns "+strconv.Itoa(pid),
		"link set "+n.link()+" master "+bridge+" up",
	)
}

// nodeNetwork sets the node's end up, with routes to the other nodes' pods.
func nodeNetworkUp(ctx context.Context, s *spec, self nodeSpec) error {
	lines := []string{
		"link set lo up",
		"addr add " + self.address() + "/24 dev " + nodeInterface,
		"link set " + nodeInterface + " up",
		"route add default via " + hostAddress,
	}
	for _, n := range s.Nodes {
		if n.Index != self.Index {
			lines = append(lines, fmt.Sprintf("route add %s via %s", n.podSubnet(), n.address()))
		}
	}
	if err := ipBatch(ctx, lines...); err != nil {
		return err
	}
	return enableForwarding()
}

// enableForwarding concerns the calling process' network namespace only.
func enableForwarding() error {
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1\n"), 0o644)
}
