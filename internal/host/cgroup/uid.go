package cgroup

import (
	"regexp"
	"slices"
	"strings"
)

// uid is what API servers make, and the kubelet for static pods.
var uid = regexp.MustCompile(`^[0-9a-f-]{32,36}$`)

// PodOf returns the UID of the pod that a kubelet's target path is for, "" if it is none of a pod:
//
//	…/pods/UID/volumes/kubernetes.io~csi/PV/mount
//	…/plugins/kubernetes.io/csi/volumeDevices/publish/PV/UID
func PodOf(target string) string {
	parts := strings.Split(target, "/")
	if n := len(parts); n > 3 && parts[n-3] == "publish" && parts[n-4] == "volumeDevices" && uid.MatchString(parts[n-1]) {
		return parts[n-1]
	}
	i := slices.Index(parts, "pods")
	for ; i >= 0 && i+2 < len(parts); i++ {
		if parts[i] == "pods" && parts[i+2] == "volumes" && uid.MatchString(parts[i+1]) {
			return parts[i+1]
		}
	}
	return ""
}
