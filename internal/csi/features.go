package csi

import (
	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/pool"
)

// features are what the pools of a process can do, at least one of them. Every capability that the
// driver advertises follows from them and from the services that run; a pool that cannot do what
// another can refuses with errs.Unsupported.
type features struct {
	expand, clone, snapshot, group, health, modify bool
	attach                                         bool
	nodeBound                                      bool // some volumes can be reached from some nodes only
}

func featuresOf(pools *pool.Set) features {
	var f features
	for _, p := range pools.All() {
		f.add(p.Capabilities().Mask(), p.Kind().NodeBound)
	}
	return f
}

func (f *features) add(can backend.Mask, nodeBound bool) {
	f.expand = f.expand || can.Expander
	f.clone = f.clone || can.Cloner
	f.snapshot = f.snapshot || can.Snapshotter
	f.group = f.group || can.Snapshotter && can.GroupSnapshotter
	f.health = f.health || can.Checker
	f.modify = f.modify || can.Modifier
	f.attach = f.attach || can.Attacher
	f.nodeBound = f.nodeBound || nodeBound
}

func (o Options) features() features {
	if o.Kind == nil || o.Kind.Mask == nil {
		return featuresOf(o.Pools)
	}
	var f features
	f.add(o.Kind.Mask(nil), o.Kind.NodeBound)
	return f
}

// plugin returns the capabilities of the whole plug-in, the Controller service running or not.
func (f features) plugin(controller bool) []*csi.PluginCapability {
	var all []*csi.PluginCapability
	service := func(has bool, t csi.PluginCapability_Service_Type) {
		if has {
			all = append(all, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{
				Service: &csi.PluginCapability_Service{Type: t},
			}})
		}
	}
	service(controller, csi.PluginCapability_Service_CONTROLLER_SERVICE)
	service(f.nodeBound, csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS)
	service(controller && f.group, csi.PluginCapability_Service_GROUP_CONTROLLER_SERVICE)
	service(f.nodeBound && f.snapshot, csi.PluginCapability_Service_SNAPSHOT_ACCESSIBILITY_CONSTRAINTS)
	if f.expand {
		// ONLINE, because backend.Expander is about volumes in use too.
		all = append(all, &csi.PluginCapability{Type: &csi.PluginCapability_VolumeExpansion_{
			VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE},
		}})
	}
	return all
}

// controller returns the capabilities of the Controller service.
func (f features) controller() []csi.ControllerServiceCapability_RPC_Type {
	all := []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_GET_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	}
	if f.expand {
		all = append(all, csi.ControllerServiceCapability_RPC_EXPAND_VOLUME)
	}
	if f.clone {
		all = append(all, csi.ControllerServiceCapability_RPC_CLONE_VOLUME)
	}
	if f.snapshot {
		all = append(all,
			csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
			csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
			csi.ControllerServiceCapability_RPC_GET_SNAPSHOT)
	}
	if f.modify {
		all = append(all, csi.ControllerServiceCapability_RPC_MODIFY_VOLUME)
	}
	if f.attach {
		all = append(all,
			csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
			csi.ControllerServiceCapability_RPC_PUBLISH_READONLY)
	}
	if f.health {
		all = append(all,
			csi.ControllerServiceCapability_RPC_GET_VOLUME_HEALTH,
			csi.ControllerServiceCapability_RPC_LIST_VOLUME_HEALTH)
	}
	return all
}

// node returns the capabilities of the Node service. It sees itself whether a mount is well, so it
// answers about health even where no storage can.
func (f features) node() []csi.NodeServiceCapability_RPC_Type {
	all := []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
		csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
	}
	if f.expand {
		all = append(all, csi.NodeServiceCapability_RPC_EXPAND_VOLUME)
	}
	return all
}

// groupController returns the capabilities of the GroupController service.
func (f features) groupController() []csi.GroupControllerServiceCapability_RPC_Type {
	if !f.group {
		return nil
	}
	return []csi.GroupControllerServiceCapability_RPC_Type{
		csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT,
	}
}

// serves reports whether a call, by its full gRPC name, is one that the capabilities above promise.
func (f features) serves(method string) bool {
	switch method {
	case csi.Controller_ControllerExpandVolume_FullMethodName:
		return f.expand
	case csi.Node_NodeExpandVolume_FullMethodName:
		return f.expand
	case csi.Controller_CreateSnapshot_FullMethodName,
		csi.Controller_DeleteSnapshot_FullMethodName,
		csi.Controller_ListSnapshots_FullMethodName,
		csi.Controller_GetSnapshot_FullMethodName:
		return f.snapshot
	case csi.Controller_ControllerGetVolumeHealth_FullMethodName,
		csi.Controller_ControllerListVolumeHealth_FullMethodName:
		return f.health
	case csi.Controller_ControllerModifyVolume_FullMethodName:
		return f.modify
	case csi.Controller_ControllerPublishVolume_FullMethodName,
		csi.Controller_ControllerUnpublishVolume_FullMethodName:
		return f.attach
	case csi.GroupController_CreateVolumeGroupSnapshot_FullMethodName,
		csi.GroupController_DeleteVolumeGroupSnapshot_FullMethodName,
		csi.GroupController_GetVolumeGroupSnapshot_FullMethodName:
		return f.group
	}
	return true
}
