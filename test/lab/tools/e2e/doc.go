// Package e2e holds the upstream Kubernetes storage conformance suite for an
// external CSI driver, built as a test binary of its own (go test -c): the
// whole of Kubernetes' e2e.test takes three times as long to build.
package e2e
