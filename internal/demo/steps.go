package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/backend"
)

// story is the demo up to where the volumes are torn down.
func (d *demo) story() []step {
	first := &volume{name: "demo-first", size: d.Size}
	restored := &volume{name: "demo-restored", size: 4 * d.Size}
	cloned := &volume{name: "demo-cloned", size: restored.size}
	return []step{
		{"create a volume", func(ctx context.Context) (string, error) { return d.create(ctx, first, nil) }},
		{"stage it (attach, format, mount)", func(ctx context.Context) (string, error) { return d.stage(ctx, first) }},
		{"publish it to a pod", func(ctx context.Context) (string, error) { return d.publish(ctx, first) }},
		{"write data with a checksum", func(context.Context) (string, error) { return d.write(first) }},
		{"expand it to twice its size, while in use", func(ctx context.Context) (string, error) { return d.expand(ctx, first) }},
		{"snapshot it, while in use", func(ctx context.Context) (string, error) { return d.snapshot(ctx, first) }},
		{"overwrite the data in the volume", func(context.Context) (string, error) { return d.overwrite(first) }},
		{"restore the snapshot to a larger volume", func(ctx context.Context) (string, error) {
			return d.create(ctx, restored, fromSnapshot(d.snapshots[0]))
		}},
		{"stage and publish the restored volume", func(ctx context.Context) (string, error) { return d.use(ctx, restored) }},
		{"verify the checksum there", func(context.Context) (string, error) { return d.verify(restored) }},
		{"clone the restored volume", func(ctx context.Context) (string, error) {
			return d.create(ctx, cloned, fromVolume(restored.handle))
		}},
		{"stage and publish the clone", func(ctx context.Context) (string, error) { return d.use(ctx, cloned) }},
		{"verify the checksum there", func(context.Context) (string, error) { return d.verify(cloned) }},
		{"read the statistics of all", d.stats},
	}
}

func fromSnapshot(handle string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: handle}}}
}

func fromVolume(handle string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: handle}}}
}

// capability is what a pod with a PersistentVolumeClaim of mode ReadWriteOnce asks for.
func (d *demo) capability() *csi.VolumeCapability {
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{
		Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER}}
	if d.FS == BlockFS {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	} else {
		c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: d.FS}}
	}
	return c
}

func (d *demo) create(ctx context.Context, v *volume, source *csi.VolumeContentSource) (string, error) {
	answer, err := d.controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: v.name, Parameters: map[string]string{"pool": d.Pool},
		CapacityRange:       &csi.CapacityRange{RequiredBytes: v.size},
		VolumeCapabilities:  []*csi.VolumeCapability{d.capability()},
		VolumeContentSource: source,
	})
	if err != nil {
		return "", err
	}
	v.handle, v.context, v.size = answer.Volume.VolumeId, answer.Volume.VolumeContext, answer.Volume.CapacityBytes
	d.volumes = append(d.volumes, v)
	return fmt.Sprintf("%s, %s", v.handle, backend.FormatSize(v.size)), nil
}

func (d *demo) stage(ctx context.Context, v *volume) (string, error) {
	if err := os.MkdirAll(d.staging(v), 0o750); err != nil {
		return "", err
	}
	_, err := d.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: v.handle, StagingTargetPath: d.staging(v), VolumeCapability: d.capability(), VolumeContext: v.context,
	})
	return d.FS, err
}

func (d *demo) publish(ctx context.Context, v *volume) (string, error) {
	if err := os.MkdirAll(filepath.Dir(d.target(v)), 0o750); err != nil {
		return "", err
	}
	_, err := d.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: v.handle, StagingTargetPath: d.staging(v), TargetPath: d.target(v),
		VolumeCapability: d.capability(), VolumeContext: v.context,
	})
	return d.target(v), err
}

func (d *demo) use(ctx context.Context, v *volume) (string, error) {
	if _, err := d.stage(ctx, v); err != nil {
		return "", err
	}
	return d.publish(ctx, v)
}

func (d *demo) expand(ctx context.Context, v *volume) (string, error) {
	before, err := d.total(ctx, v)
	if err != nil {
		return "", err
	}
	want := &csi.CapacityRange{RequiredBytes: 2 * v.size}
	grown, err := d.controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
		VolumeId: v.handle, CapacityRange: want, VolumeCapability: d.capability(),
	})
	if err != nil {
		return "", err
	}
	if grown.NodeExpansionRequired {
		if _, err := d.node.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{
			VolumeId: v.handle, VolumePath: d.target(v), StagingTargetPath: d.staging(v),
			CapacityRange: want, VolumeCapability: d.capability(),
		}); err != nil {
			return "", err
		}
	}
	v.size = grown.CapacityBytes
	after, err := d.total(ctx, v)
	if err == nil && after < before+before/2 {
		err = fmt.Errorf("the pod sees %s, and saw %s before", backend.FormatSize(after), backend.FormatSize(before))
	}
	return fmt.Sprintf("the pod sees %s, saw %s", backend.FormatSize(after), backend.FormatSize(before)), err
}

func (d *demo) snapshot(ctx context.Context, v *volume) (string, error) {
	answer, err := d.controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{SourceVolumeId: v.handle, Name: "demo-snapshot"})
	if err != nil {
		return "", err
	}
	d.snapshots = append(d.snapshots, answer.Snapshot.SnapshotId)
	if !answer.Snapshot.ReadyToUse {
		return "", fmt.Errorf("the snapshot is not ready to use")
	}
	return answer.Snapshot.SnapshotId, nil
}

// total returns the size that a pod sees, in bytes.
func (d *demo) total(ctx context.Context, v *volume) (int64, error) {
	usage, err := d.usage(ctx, v)
	if err != nil {
		return 0, err
	}
	return usage.Total, nil
}

func (d *demo) usage(ctx context.Context, v *volume) (*csi.VolumeUsage, error) {
	answer, err := d.node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{
		VolumeId: v.handle, VolumePath: d.target(v), StagingTargetPath: d.staging(v),
	})
	if err != nil {
		return nil, err
	}
	for _, u := range answer.Usage {
		if u.Unit == csi.VolumeUsage_BYTES {
			return u, nil
		}
	}
	return nil, fmt.Errorf("no usage in bytes")
}

func (d *demo) stats(ctx context.Context) (string, error) {
	var total, used int64
	for _, v := range d.volumes {
		u, err := d.usage(ctx, v)
		if err != nil {
			return "", err
		}
		total, used = total+u.Total, used+u.Used
	}
	return fmt.Sprintf("%d volumes, %s, %s used", len(d.volumes), backend.FormatSize(total), backend.FormatSize(used)), nil
}
