// Package record is what the objects mean through which the two ends of the agent speak: how a volume is
// written into a NodeVolume and read from it, and how an error becomes the reason of a condition and an
// error again.
package record

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Object is a NodeVolume or a NodeSnapshot: something that a node keeps.
type Object interface {
	client.Object
	// Item returns the parts of the spec and the status that both have.
	Item() (*v1alpha1.ItemSpec, *v1alpha1.ItemStatus)
}

// Of is *T where that is an Object.
type Of[T any] interface {
	*T
	Object
}

// IDOf returns the ID of what an object stands for.
func IDOf(o Object) backend.ID {
	spec, _ := o.Item()
	return backend.ID(strings.TrimPrefix(o.GetName(), spec.Pool+"."))
}

// Answered reports whether the node has answered the object as it is: done it, or said why not.
func Answered(o Object) bool {
	_, status := o.Item()
	return status.ObservedGeneration >= o.GetGeneration()
}

// Answer is what the node last said of the object: nil if it is as its spec says. An error has the kind
// that it had on the node, and names the node.
func Answer(o Object) error {
	spec, status := o.Item()
	c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	switch {
	case c == nil:
		return errs.E(errs.Unavailable, "node %s: has not answered yet", spec.Node)
	case c.Status == metav1.ConditionTrue:
		return nil
	}
	return errs.E(KindOf(c.Reason), "node %s: %s", spec.Node, c.Message)
}

// maxMessage is the longest message of a condition in bytes.
const maxMessage = 32 << 10

// SetAnswer writes what became of the object's spec into its status: err is nil if it is as that says.
func SetAnswer(o Object, err error) {
	_, status := o.Item()
	status.ObservedGeneration = o.GetGeneration()
	status.Progress = ""
	meta.SetStatusCondition(&status.Conditions, Ready(o.GetGeneration(), err))
}

// Ready returns the Ready condition for an error, or for none.
func Ready(generation int64, err error) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, ObservedGeneration: generation}
	if err != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, Reason(err), err.Error()
		c.Message = c.Message[:min(len(c.Message), maxMessage)]
	}
	return c
}

// reasons are the kinds of error as conditions have them.
func reasons() map[errs.Kind]string {
	return map[errs.Kind]string{
		errs.Internal: "Internal", errs.Invalid: "Invalid", errs.OutOfRange: "OutOfRange", errs.NotFound: "NotFound",
		errs.Exists: "Exists", errs.InUse: "InUse", errs.NoSpace: "NoSpace", errs.Busy: "Busy",
		errs.Unavailable: "Unavailable", errs.Unsupported: "Unsupported", errs.Aborted: "Aborted",
	}
}

// Reason is the kind of an error as a condition has it.
func Reason(err error) string { return reasons()[errs.KindOf(err)] }

// KindOf is the way back; what nobody here wrote is Internal.
func KindOf(reason string) errs.Kind {
	for k, r := range reasons() {
		if r == reason {
			return k
		}
	}
	return errs.Internal
}

// Bytes returns an amount of bytes as objects have it.
func Bytes(n int64) resource.Quantity { return *resource.NewQuantity(n, resource.BinarySI) }

func bytesOf(q *resource.Quantity) int64 {
	if q == nil {
		return 0
	}
	return q.Value()
}

func objectMeta(pool string, id backend.ID) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:       v1alpha1.ObjectName(pool, string(id)),
		Labels:     map[string]string{v1alpha1.PoolLabel: pool},
		Finalizers: []string{v1alpha1.Finalizer},
	}
}

// Lost reports whether the node of the object is known to have left the cluster.
func Lost(o Object) bool {
	_, status := o.Item()
	return meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionLost)
}
