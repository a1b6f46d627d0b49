package main

import (
	"context"
	"net"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/controller/volumeattachment/readmit"
	"github.com/dozo-dev/dozo/internal/errs"
)

// nodeAddresses returns the IP addresses of a node; see csi.Options.
type nodeAddresses func(ctx context.Context, id string) ([]string, error)

// anyNode takes the caller's word for it: a controller by itself knows no nodes, and no addresses.
func anyNode(context.Context, string) ([]string, error) { return nil, nil }

// onlyNode knows this node.
func onlyNode(name string) nodeAddresses {
	return func(_ context.Context, id string) ([]string, error) {
		if id != name {
			return nil, errs.E(errs.NotFound, "%.80q is unknown; this is node %s, and there is no other", id, name)
		}
		all, err := net.InterfaceAddrs()
		if err != nil {
			return nil, errs.E(errs.Internal, "the addresses of this node: %w", err)
		}
		var addresses []string
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				addresses = append(addresses, n.IP.String())
			}
		}
		return addresses, nil
	}
}

// nodesOf knows the nodes of a cluster, where a node's ID is its name. It asks the API server, since a cache may not
// have heard of a node yet, and CSI must not be told that there is no such node.
func nodesOf(live client.Reader) nodeAddresses {
	return func(ctx context.Context, id string) ([]string, error) {
		n := &corev1.Node{}
		err := live.Get(ctx, client.ObjectKey{Name: id}, n)
		switch {
		case apierrors.IsNotFound(err), apierrors.IsInvalid(err):
			return nil, errs.E(errs.NotFound, "there is no Node %.80q", id)
		case err != nil:
			return nil, errs.E(errs.Unavailable, "whether there is a Node %.80q cannot be told: %w", id, err)
		}
		return readmit.Addresses(n), nil
	}
}
