package v1alpha1

// Finalizer keeps a NodeVolume or NodeSnapshot until the agent of its node has removed what it stands for.
const Finalizer = "dozo.dev/node"

// PoolFinalizer keeps a Pool, and so its volumes in reach, until it has none.
const PoolFinalizer = "dozo.dev/volumes"

// PoolLabel is on every NodeVolume and NodeSnapshot, with the name of its pool, to list them by.
const PoolLabel = "dozo.dev/pool"

// The condition types.
const (
	// ConditionReady of a Pool: it is open on every node that it selects, or is outside the cluster and
	// answers. Of a pool in NodeStorage: it is open and answers. Of a NodeVolume or NodeSnapshot: it exists as its spec says.
	ConditionReady = "Ready"
	// ConditionLost of a NodeVolume or NodeSnapshot: True while its node is not in the cluster.
	ConditionLost = "Lost"
	// ConditionInUse of a Pool: True while it is being deleted and has volumes, which keep it.
	ConditionInUse = "InUse"
)

// The reasons of conditions that are no error. One that is an error has the error's kind as its reason:
// Invalid, OutOfRange, NotFound, Exists, InUse, NoSpace, Busy, Unavailable, Unsupported, Aborted or Internal.
const (
	ReasonReady     = "Ready"     // all is well
	ReasonNoNodes   = "NoNodes"   // no node is selected
	ReasonNotReady  = "NotReady"  // of a Pool: the message names the nodes
	ReasonNodeGone  = "NodeGone"  // the node has left the cluster
	ReasonNodeThere = "NodeThere" // the node is (again) in the cluster
	ReasonVolumes   = "Volumes"   // of a Pool: it has volumes
)

// ObjectName is the name of the NodeVolume or NodeSnapshot with an ID in a pool. Both are DNS labels, so the
// name is unique for the pair, and with it the API server's uniqueness of names is the cluster-wide lock.
func ObjectName(pool, id string) string { return pool + "." + id }
