package e2e

import (
	"context"
	"encoding/json"
	"time"

	apiresource "k8s.io/apimachinery/pkg/api/resource"

	"github.com/dozo-dev/dozo/test/e2e/timings"
)

// summary is what a kubelet knows of its pods' volumes.
type summary struct {
	Pods []struct {
		Volumes []struct {
			CapacityBytes int64 `json:"capacityBytes"`
			PVCRef        struct {
				Name      string `json:"name"`
				Namespace string `json:"namespace"`
			} `json:"pvcRef"`
		} `json:"volume"`
	} `json:"pods"`
}

// statsPause is between two questions to a kubelet, which has no watch. It asks the driver once a minute.
const statsPause = 5 * time.Second

// statsReachKubelet proves that what monitoring shows of volumes is there, for both modes.
func statsReachKubelet(b *bed) {
	_, p := b.launch(b.claim("files", b.driver.Size), b.pod("files", "files"), timings.PVCBound, timings.PodRunning)
	if b.driver.Can.Block {
		b.launch(b.claim("device", b.driver.Size, asBlock), b.pod("device", "device", withDevice, onNode(p.Spec.NodeName)), timings.PVCBound, timings.PodRunning)
	}
	want := map[string]bool{"files": true, "device": b.driver.Can.Block}
	size := apiresource.MustParse(b.driver.Size)
	for deadline := time.Now().Add(usualLimit); ; time.Sleep(statsPause) {
		seen := b.capacities(p.Spec.NodeName)
		missing := ""
		for name, wanted := range want {
			if wanted && seen[name] < size.Value()/5*4 {
				missing = name
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the kubelet of %s knows no capacity of PVC %s after %v; it knows: %v", p.Spec.NodeName, missing, usualLimit, seen)
		}
	}
}

// capacities are what a node's kubelet says of the volumes of the scenario's claims.
func (b *bed) capacities(node string) map[string]int64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	data, err := b.cluster.typed.CoreV1().RESTClient().Get().Resource("nodes").Name(node).SubResource("proxy").Suffix("stats/summary").DoRaw(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	var s summary
	if err := json.Unmarshal(data, &s); err != nil {
		b.t.Fatal(err)
	}
	seen := map[string]int64{}
	for _, pod := range s.Pods {
		for _, v := range pod.Volumes {
			if v.PVCRef.Namespace == b.ns {
				seen[v.PVCRef.Name] = v.CapacityBytes
			}
		}
	}
	return seen
}
