package cluster

import (
	"path/filepath"
	"strconv"
)

// apiStore is etcd and the API server: what a cluster remembers.
type apiStore struct {
	bin, pki, data string // directories
	etcd, peer     string // URLs
	bind, address  string // where the API server listens, and is reached
	port           int
}

func (a apiStore) etcdCommand() []string {
	return []string{filepath.Join(a.bin, "etcd"),
		// A lab's data need not survive a power cut; its speed is worth more.
		"--data-dir=" + a.data, "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + a.etcd, "--advertise-client-urls=" + a.etcd,
		"--listen-peer-urls=" + a.peer, "--initial-advertise-peer-urls=" + a.peer,
		"--initial-cluster=default=" + a.peer,
	}
}

func (a apiStore) serverCommand() []string {
	pki := func(name string) string { return filepath.Join(a.pki, name) }
	return []string{filepath.Join(a.bin, "kube-apiserver"),
		"--etcd-servers=" + a.etcd,
		"--bind-address=" + a.bind, "--advertise-address=" + a.address, "--secure-port=" + strconv.Itoa(a.port),
		"--cert-dir=" + a.pki,
		"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
		"--client-ca-file=" + pki("ca.crt"),
		"--kubelet-client-certificate=" + pki("admin.crt"), "--kubelet-client-key=" + pki("admin.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + pki("ca.crt"), "--requestheader-allowed-names=" + frontProxy,
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + pki(frontProxy+".crt"), "--proxy-client-key-file=" + pki(frontProxy+".key"),
		"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
		"--service-cluster-ip-range=" + serviceNetwork,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		// No kube-proxy runs beside the API server, so webhooks are reached by
		// their endpoints and not by their Service's address.
		"--enable-aggregator-routing=true",
		"--allow-privileged=true", "--v=1",
	}
}
