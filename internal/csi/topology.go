package csi

import (
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/errs"
)

// TopologyKey is the segment that says on which node something is, and the node label that the
// kubelet makes of it. It is the only one.
const TopologyKey = "topology.dozo.dev/node"

// maxSegment is the longest value of a topology segment in bytes, which is that of a node label.
const maxSegment = 63

// nodesOf returns the nodes that a requirement allows, best first; none without a requirement.
func nodesOf(field string, r *csi.TopologyRequirement) ([]string, error) {
	if r == nil {
		return nil, nil
	}
	requisite, err := nodeList(field+".requisite", r.GetRequisite())
	if err != nil {
		return nil, err
	}
	nodes, err := nodeList(field+".preferred", r.GetPreferred())
	if err != nil {
		return nil, err
	}
	if len(requisite)+len(nodes) == 0 {
		return nil, errs.E(errs.Invalid, "%s: neither requisite nor preferred is set", field)
	}
	if len(requisite) == 0 {
		return nodes, nil
	}
	for _, n := range nodes {
		if !slices.Contains(requisite, n) {
			return nil, errs.E(errs.Invalid, "%s.preferred: node %s is not in requisite", field, n)
		}
	}
	for _, n := range requisite {
		if !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

func nodeList(field string, all []*csi.Topology) ([]string, error) {
	var nodes []string
	for i, t := range all {
		n, err := nodeOf(fmt.Sprintf("%s[%d]", field, i), t)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// nodeOf returns the node that a topology is.
func nodeOf(field string, t *csi.Topology) (string, error) {
	for key := range t.GetSegments() {
		if key != TopologyKey {
			return "", errs.E(errs.Invalid, "%s.segments[%.80q]: unknown; the only one here is %s", field, key, TopologyKey)
		}
	}
	n := t.GetSegments()[TopologyKey]
	if n == "" || len(n) > maxSegment {
		return "", errs.E(errs.Invalid, "%s.segments[%q]: %.80q is not the name of a node", field, TopologyKey, n)
	}
	return n, nil
}

// topologies is the way back: none for something that is everywhere.
func topologies(nodes []string) []*csi.Topology {
	var all []*csi.Topology
	for _, n := range nodes {
		all = append(all, &csi.Topology{Segments: map[string]string{TopologyKey: n}})
	}
	return all
}

// reaches reports whether something on the nodes have (none: all) can be used on one of want (none: any).
func reaches(have, want []string) bool {
	if len(have) == 0 || len(want) == 0 {
		return true
	}
	return slices.ContainsFunc(want, func(n string) bool { return slices.Contains(have, n) })
}
