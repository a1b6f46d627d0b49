package csi

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
)

// advertised is what a driver says that it can do, by CSI's names.
func (b *bed) advertised(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	p, err := b.GetPluginCapabilities(t.Context(), &csi.GetPluginCapabilitiesRequest{})
	wantOK(t, err)
	for _, c := range p.GetCapabilities() {
		if s := c.GetService(); s != nil {
			all["plugin "+s.GetType().String()] = true
		} else {
			all["plugin expansion "+c.GetVolumeExpansion().GetType().String()] = true
		}
	}
	c, err := b.ControllerGetCapabilities(t.Context(), &csi.ControllerGetCapabilitiesRequest{})
	wantOK(t, err)
	for _, c := range c.GetCapabilities() {
		all["controller "+c.GetRpc().GetType().String()] = true
	}
	g, err := b.GroupControllerGetCapabilities(t.Context(), &csi.GroupControllerGetCapabilitiesRequest{})
	wantOK(t, err)
	for _, c := range g.GetCapabilities() {
		all["group "+c.GetRpc().GetType().String()] = true
	}
	n, err := b.NodeGetCapabilities(t.Context(), &csi.NodeGetCapabilitiesRequest{})
	wantOK(t, err)
	for _, c := range n.GetCapabilities() {
		all["node "+c.GetRpc().GetType().String()] = true
	}
	return all
}

// expected derives the same from the interfaces that the backends implement.
func expected(bound bool, backends ...backend.Backend) map[string]bool {
	all := map[string]bool{}
	set := func(names ...string) {
		for _, n := range names {
			all[n] = true
		}
	}
	set("plugin CONTROLLER_SERVICE", "controller CREATE_DELETE_VOLUME", "controller LIST_VOLUMES", "controller GET_CAPACITY",
		"controller GET_VOLUME", "controller SINGLE_NODE_MULTI_WRITER", "node STAGE_UNSTAGE_VOLUME", "node GET_VOLUME_STATS",
		"node SINGLE_NODE_MULTI_WRITER", "node GET_VOLUME_HEALTH")
	if bound {
		set("plugin VOLUME_ACCESSIBILITY_CONSTRAINTS")
	}
	for _, b := range backends {
		if _, ok := b.(backend.Expander); ok {
			set("plugin expansion ONLINE", "controller EXPAND_VOLUME", "node EXPAND_VOLUME")
		}
		if _, ok := b.(backend.Cloner); ok {
			set("controller CLONE_VOLUME")
		}
		if _, ok := b.(backend.Snapshotter); ok {
			set("controller CREATE_DELETE_SNAPSHOT", "controller LIST_SNAPSHOTS", "controller GET_SNAPSHOT")
			if bound {
				set("plugin SNAPSHOT_ACCESSIBILITY_CONSTRAINTS")
			}
		}
		if _, ok := b.(backend.GroupSnapshotter); ok {
			set("plugin GROUP_CONTROLLER_SERVICE", "group CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT")
		}
		if _, ok := b.(backend.Modifier); ok {
			set("controller MODIFY_VOLUME")
		}
		if _, ok := b.(backend.Attacher); ok {
			set("controller PUBLISH_UNPUBLISH_VOLUME", "controller PUBLISH_READONLY")
		}
		if _, ok := b.(backend.Checker); ok {
			set("controller GET_VOLUME_HEALTH", "controller LIST_VOLUME_HEALTH")
		}
	}
	return all
}

func TestCapabilitiesFollowTheInterfaces(t *testing.T) {
	full := func(f *fake.Backend) backend.Backend { return f }
	only := func(pick func(*fake.Backend) backend.Backend) []member { return []member{{name: "a", mask: pick}} }
	for name, members := range map[string][]member{
		"full":                only(full),
		"full, on a node":     {{name: "a", mask: full, bound: true}},
		"basic":               only(fake.Basic),
		"basic, on a node":    {{name: "a", mask: fake.Basic, bound: true}},
		"shared":              only(fake.Shared),
		"outside":             only(fake.Outside),
		"plain, on a node":    {{name: "a", mask: fake.Plain, bound: true}},
		"one can, one cannot": {{name: "a", mask: fake.Basic}, {name: "b", mask: fake.Shared}},
		"one bound, one not":  {{name: "a", mask: fake.Basic, bound: true}, {name: "b", mask: full}},
		"checker only": only(func(f *fake.Backend) backend.Backend {
			return struct {
				backend.Backend
				backend.Checker
			}{f, f}
		}),
		"cloner only": only(func(f *fake.Backend) backend.Backend {
			return struct {
				backend.Backend
				backend.Cloner
			}{f, f}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, members...)
			bound := false
			var backends []backend.Backend
			for _, m := range members {
				bound = bound || m.bound
				backends = append(backends, m.mask(b.fakes[m.name]))
			}
			want(t, b.advertised(t), expected(bound, backends...))
		})
	}
}

// needs is every call of CSI that depends on a capability, with that capability.
func needs() map[string]string {
	return map[string]string{
		csi.Controller_ControllerPublishVolume_FullMethodName:        "controller PUBLISH_UNPUBLISH_VOLUME",
		csi.Controller_ControllerUnpublishVolume_FullMethodName:      "controller PUBLISH_UNPUBLISH_VOLUME",
		csi.Controller_ControllerExpandVolume_FullMethodName:         "controller EXPAND_VOLUME",
		csi.Controller_ControllerModifyVolume_FullMethodName:         "controller MODIFY_VOLUME",
		csi.Controller_CreateSnapshot_FullMethodName:                 "controller CREATE_DELETE_SNAPSHOT",
		csi.Controller_DeleteSnapshot_FullMethodName:                 "controller CREATE_DELETE_SNAPSHOT",
		csi.Controller_ListSnapshots_FullMethodName:                  "controller LIST_SNAPSHOTS",
		csi.Controller_GetSnapshot_FullMethodName:                    "controller GET_SNAPSHOT",
		csi.Controller_ControllerGetVolumeHealth_FullMethodName:      "controller GET_VOLUME_HEALTH",
		csi.Controller_ControllerListVolumeHealth_FullMethodName:     "controller LIST_VOLUME_HEALTH",
		csi.Controller_ControllerGetVolume_FullMethodName:            "controller GET_VOLUME",
		csi.Controller_ListVolumes_FullMethodName:                    "controller LIST_VOLUMES",
		csi.Controller_GetCapacity_FullMethodName:                    "controller GET_CAPACITY",
		csi.Controller_CreateVolume_FullMethodName:                   "controller CREATE_DELETE_VOLUME",
		csi.Controller_DeleteVolume_FullMethodName:                   "controller CREATE_DELETE_VOLUME",
		csi.GroupController_CreateVolumeGroupSnapshot_FullMethodName: "group CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT",
		csi.GroupController_DeleteVolumeGroupSnapshot_FullMethodName: "group CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT",
		csi.GroupController_GetVolumeGroupSnapshot_FullMethodName:    "group CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT",
		csi.Node_NodeStageVolume_FullMethodName:                      "node STAGE_UNSTAGE_VOLUME",
		csi.Node_NodeUnstageVolume_FullMethodName:                    "node STAGE_UNSTAGE_VOLUME",
		csi.Node_NodeGetVolumeStats_FullMethodName:                   "node GET_VOLUME_STATS",
		csi.Node_NodeExpandVolume_FullMethodName:                     "node EXPAND_VOLUME",
		csi.Node_NodeGetVolumeHealth_FullMethodName:                  "node GET_VOLUME_HEALTH",
		csi.Node_NodeGetStorageHealth_FullMethodName:                 "node GET_STORAGE_HEALTH",
	}
}

// TestAdvertisedMeansServed calls everything, empty, on drivers that can do all, some and nothing:
// Unimplemented if and only if the capability is not advertised.
func TestAdvertisedMeansServed(t *testing.T) {
	for name, mask := range map[string]func(*fake.Backend) backend.Backend{
		"full": nil, "basic": fake.Basic, "shared": fake.Shared, "plain": fake.Plain, "outside": fake.Outside,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, member{name: "a", mask: mask})
			has := b.advertised(t)
			for method, capability := range needs() {
				_, err := call(t, b.conn, method, nil)
				if refused := status.Code(err) == codes.Unimplemented; refused == has[capability] {
					t.Errorf("%s: %v, but %s advertised: %v", method, err, capability, has[capability])
				}
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	b := newBed(t)
	info, err := b.GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
	wantOK(t, err)
	wantProto(t, info, &csi.GetPluginInfoResponse{Name: "fake.dozo.dev", VendorVersion: "v1.2.3"})
	b.fakes["main"].Arm(func(e *fake.Errors) { e.Down = errDown() })
	probe, err := b.Probe(t.Context(), &csi.ProbeRequest{})
	wantOK(t, err)
	if !probe.GetReady().GetValue() {
		t.Error("not ready while the storage is away: the process would be killed for it")
	}
}

func TestRolesAreSeparate(t *testing.T) {
	for _, c := range []struct {
		name             string
		controller, node bool
	}{{"controller", true, false}, {"node", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			b := &bed{fakes: map[string]*fake.Backend{}}
			var m machine
			if c.node {
				m = newFakeMachine()
			}
			s, err := newServer(Options{DriverName: "fake.dozo.dev", Version: "v1", Pools: b.pools(t, []member{{name: "a"}}), Controller: c.controller, Nodes: knownNodes}, m)
			if err != nil {
				t.Fatal(err)
			}
			var conn grpc.ClientConnInterface = serveAndDial(t, s)
			_, err = csi.NewControllerClient(conn).ControllerGetCapabilities(t.Context(), &csi.ControllerGetCapabilitiesRequest{})
			want(t, status.Code(err) == codes.OK, c.controller)
			_, err = csi.NewNodeClient(conn).NodeGetCapabilities(t.Context(), &csi.NodeGetCapabilitiesRequest{})
			want(t, status.Code(err) == codes.OK, c.node)
			p, err := csi.NewIdentityClient(conn).GetPluginCapabilities(t.Context(), &csi.GetPluginCapabilitiesRequest{})
			wantOK(t, err)
			for _, have := range p.GetCapabilities() {
				if have.GetService().GetType() == csi.PluginCapability_Service_CONTROLLER_SERVICE && !c.controller {
					t.Error("CONTROLLER_SERVICE is advertised by a process without it")
				}
			}
		})
	}
}
