package keylock

import "github.com/dozo-dev/dozo/internal/backend"

// What operations on volumes lock. A volume has two locks: its own, and one of what it holds, which copies
// of it share. So while a volume is copied, which may take hours, others copy it too, and a node may
// begin or end to use it; but nobody deletes or resizes it.

// Volume are the locks for what changes a volume and neither its size nor whether it is there.
func Volume(id backend.ID) Keys { return Keys{Alone: []string{string(id)}} }

// Create are the locks for making a volume.
func Create(r backend.Request) Keys {
	k := Resize(r.ID)
	if r.Source.Volume != "" && r.Source.Volume != r.ID {
		k.Shared = append(k.Shared, content(string(r.Source.Volume)))
	}
	if r.Source.Snapshot != "" {
		k.Shared = append(k.Shared, content(Snapshot(r.Source.Snapshot)))
	}
	return k
}

// Resize are the locks for what resizes, deletes or imports a volume.
func Resize(id backend.ID) Keys {
	return Keys{Alone: []string{string(id), content(string(id))}}
}

// TakeSnapshots are the locks for taking snapshots.
func TakeSnapshots(rs ...backend.SnapshotRequest) (k Keys) {
	for _, r := range rs {
		k.Alone = append(k.Alone, DeleteSnapshot(r.ID).Alone...)
		k.Shared = append(k.Shared, content(string(r.Source)))
	}
	return k
}

// DeleteSnapshot are the locks for deleting a snapshot.
func DeleteSnapshot(id backend.ID) Keys {
	return Keys{Alone: []string{Snapshot(id), content(Snapshot(id))}}
}

// Snapshot is the lock of a snapshot: it may have the ID of a volume.
func Snapshot(id backend.ID) string { return "snapshot " + string(id) }

func content(of string) string { return "content of " + of }
