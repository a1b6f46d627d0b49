// Package helm has the helm command (go tool helm) with which the lab installs the chart in deploy/chart,
// and the tests that render it.
package helm
