// E2e-images prints, as "name<TAB>image reference", the images that the
// upstream storage suite asks a node for. The references belong to the
// Kubernetes release that the suite was built from, so they are read from it
// at run time and written nowhere.
package main

import (
	"fmt"

	imageutils "k8s.io/kubernetes/test/utils/image"
)

func main() {
	for _, image := range []struct {
		name string
		id   imageutils.ImageID
	}{
		{"agnhost", imageutils.Agnhost},
		{"busybox", imageutils.BusyBox},
		{"nginx", imageutils.Nginx},
		{"glibc-dns-testing", imageutils.GlibcDnsTesting},
		{"pause", imageutils.Pause},
	} {
		fmt.Printf("%s\t%s\n", image.name, imageutils.GetE2EImage(image.id))
	}
}
