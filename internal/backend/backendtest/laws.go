package backendtest

import "slices"

// laws are all there are, in the order in which a new backend wants to meet them.
func laws() []law {
	return slices.Concat(
		volumeLaws(),
		sizeLaws(),
		listLaws(),
		capacityLaws(),
		nodeLaws(),
		markLaws(),
		limitLaws(),
		copyLaws(),
		snapshotLaws(),
		groupLaws(),
		unreachableLaws(),
		cancelLaws(),
		raceLaws(),
		gaugeLaws(),
		attachLaws(),
	)
}
