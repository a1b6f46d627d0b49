package e2e

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
)

// classesChoosePools has a volume in each of the driver's pools, and asks the storage where and how it lies.
func classesChoosePools(b *bed) {
	for _, l := range b.driver.Layouts {
		b.t.Logf("pool %s", l.Pool)
		c, p := b.launch(b.claim(l.Pool, b.driver.Size, b.ofPool(l.Pool)), b.pod(l.Pool, l.Pool), "", "")
		sum := b.write(l.Pool, dataFile, dataMiB)
		program := make([]string, len(l.Program))
		for i, word := range l.Program {
			program[i] = strings.ReplaceAll(word, "VOLUME", c.Spec.VolumeName)
		}
		out, err := b.nodes.run(b.t.Context(), p.Spec.NodeName, program...)
		if err != nil {
			b.t.Fatal(err)
		}
		if !regexp.MustCompile(l.Says).MatchString(out) {
			b.t.Errorf("a volume of pool %s is %q, which is not %s", l.Pool, strings.TrimSpace(out), l.Says)
		}
		b.t.Logf("pool %s: %s", l.Pool, strings.TrimSpace(out))
		b.verify(l.Pool, dataFile, dataMiB, sum)
	}
}

// unknownPool is a class with a word that is wrong: the claim says which.
func unknownPool(b *bed) {
	b.createClaim(b.claim("data", b.driver.Size, b.ofPool("absent", atOnce)))
	b.awaitEvent("data", "ProvisioningFailed", "absent")
}

// thinPromises gives claims more room than a thin pool has, up to its ratio and no further.
func thinPromises(b *bed) {
	b.timed = false
	class := b.ofPool(b.driver.Thin.Pool, atOnce, b.onlyOn(b.someNode()))
	each := apiresource.MustParse(b.driver.Thin.Size)
	for i := range 3 {
		name := fmt.Sprintf("thin-%d", i)
		b.createClaim(b.claim(name, fmt.Sprint(each.Value()/2), class)) // one and a half times what there is
		b.awaitBound(name)
	}
	b.createClaim(b.claim("too-much", b.driver.Thin.Size, class)) // two and a half times
	b.awaitEvent("too-much", "ProvisioningFailed", b.driver.Thin.Says)
	b.deleteClaim("too-much")
}

// metricsAgree compares what the driver says of a pool's room with what the storage says.
func metricsAgree(b *bed) {
	m := b.driver.Room
	all := b.driverPodsOn(b.driver.NodePods, "")
	for _, p := range all {
		said := b.metric(&p, m.Metric)
		out, err := b.nodes.run(b.t.Context(), p.Spec.NodeName, m.Program...)
		if err != nil {
			b.t.Fatal(err)
		}
		if is := b.number(strings.TrimSpace(out)); is != said || is == 0 {
			b.t.Errorf("node %s: %s is %d; %v says %d", p.Spec.NodeName, m.Metric, said, m.Program, is)
		}
	}
	if len(all) != len(b.nodes.pods) {
		b.t.Errorf("%d pods of the driver on %d nodes", len(all), len(b.nodes.pods))
	}
}

// metric reads one sample of a driver's pod.
func (b *bed) metric(p *corev1.Pod, sample string) int64 {
	b.t.Helper()
	data, err := b.cluster.typed.CoreV1().RESTClient().Get().Namespace(p.Namespace).Resource(pods).
		Name(fmt.Sprintf("%s:%d", p.Name, b.driver.Room.Port)).SubResource("proxy").Suffix("metrics").DoRaw(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			var v float64
			if _, err := fmt.Sscan(value, &v); err != nil {
				b.t.Fatal(err)
			}
			return int64(v)
		}
	}
	b.t.Fatalf("pod %s has no metric %s", p.Name, sample)
	return 0
}

// fiftyClaims are made at once, on whichever node, as raw volumes that cost next to nothing.
func fiftyClaims(b *bed) {
	const many = 50
	class := ofClass(b.class("at-once", atOnce))
	for i := range many {
		b.createClaim(b.claim(fmt.Sprintf("claim-%02d", i), "32Mi", class, asBlock))
	}
	on := map[string]int{}
	for i := range many {
		c := b.awaitBound(fmt.Sprintf("claim-%02d", i))
		if b.driver.Can.NodeBound {
			on[b.nodeOf(c.Spec.VolumeName)]++
		}
	}
	b.t.Logf("volumes on nodes: %v", on) // one with little room has none
}
