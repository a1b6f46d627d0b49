package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

const (
	etcdURL      = "http://127.0.0.1:2379"
	etcdPeerURL  = "http://127.0.0.1:2380"
	readyTimeout = 5 * time.Minute
)

// clusterInit is process 1 of the cluster's namespaces: RUN-DIRECTORY.
func clusterInit(args []string) error {
	s, err := readSpec(args[0])
	if err != nil {
		return err
	}
	if err := makePrivate(); err != nil {
		return err
	}
	if err := clusterNetwork(context.Background(), s); err != nil {
		return err
	}
	return superviseAsInit(self, StageCluster, args...)
}

// clusterManager starts the control plane and the nodes, and stays.
func clusterManager(args []string) error {
	s, err := readSpec(args[0])
	if err != nil {
		return err
	}
	events, err := inheritedFile(eventsFD, "the events file")
	if err != nil {
		return err
	}
	if err := startForwarder(); err != nil {
		return err
	}
	sup := &supervisor{logs: s.logDir(), events: events}
	watch := newLoopWatch(filepath.Join(s.Run, "nodes"), filepath.Join(s.Run, loopRecordName))
	go watch.run(func(err error) { sup.report(event{Name: "loop device watch", Failed: true, Message: err.Error()}) })
	if err := s.startStore(sup); err != nil {
		return err
	}
	if err := s.startNodes(events, sup); err != nil {
		return err
	}
	api, err := newAPIClient(filepath.Join(s.Run, "pki"), serverURL)
	if err != nil {
		return err
	}
	if err := poll(context.Background(), readyTimeout, 200*time.Millisecond, api.ready); err != nil {
		return fmt.Errorf("the API server does not become ready; see %s/kube-apiserver.log: %w", s.logDir(), err)
	}
	if err := s.startControllers(sup); err != nil {
		return err
	}
	select {} // killed with the namespaces
}

// startForwarder serves the host's port, if a listener was handed in.
func startForwarder() error {
	file, err := inheritedFile(extraFD, "the forwarder's listener")
	if err != nil {
		return err
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return err
	}
	file.Close()
	go forward(listener, net.JoinHostPort(hostAddress, "6443"))
	return nil
}

// startStore starts etcd and the API server, which waits for etcd by itself.
func (s *spec) startStore(sup *supervisor) error {
	store := apiStore{
		bin: s.Bin, pki: s.pkiDir(), data: filepath.Join(s.Run, "etcd"),
		etcd: etcdURL, peer: etcdPeerURL, bind: "0.0.0.0", address: hostAddress, port: 6443,
	}
	if err := sup.start("etcd", store.etcdCommand()...); err != nil {
		return err
	}
	return sup.start("kube-apiserver", store.serverCommand()...)
}

// startControllers starts what needs a ready API server.
func (s *spec) startControllers(sup *supervisor) error {
	pki := func(name string) string { return filepath.Join(s.pkiDir(), name) }
	if err := sup.start("kube-controller-manager", filepath.Join(s.Bin, "kube-controller-manager"),
		"--kubeconfig="+pki("controller-manager.kubeconfig"),
		"--authentication-kubeconfig="+pki("controller-manager.kubeconfig"),
		"--authorization-kubeconfig="+pki("controller-manager.kubeconfig"),
		"--cert-dir="+s.pkiDir(), "--use-service-account-credentials=true",
		"--service-account-private-key-file="+pki("sa.key"), "--root-ca-file="+pki("ca.crt"),
		"--cluster-signing-cert-file="+pki("ca.crt"), "--cluster-signing-key-file="+pki("ca.key"),
		"--leader-elect=false", "--v=1",
	); err != nil {
		return err
	}
	config := filepath.Join(s.Run, "kube-scheduler.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, schedulerConfig, pki("scheduler.kubeconfig")), 0o644); err != nil {
		return err
	}
	return sup.start("kube-scheduler", filepath.Join(s.Bin, "kube-scheduler"), "--config="+config,
		"--authentication-kubeconfig="+pki("scheduler.kubeconfig"),
		"--authorization-kubeconfig="+pki("scheduler.kubeconfig"),
		"--cert-dir="+s.pkiDir(), "--v=1",
	)
}

// schedulerConfig has Dozo's extender, which is only asked about pods that Dozo's webhook marked: nothing changes
// where neither is installed. The address is the one in test/lab/scheduling-values.yaml.
const schedulerConfig = `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: %q}
leaderElection: {leaderElect: false}
extenders:
- urlPrefix: http://10.96.0.251:9251
  filterVerb: filter
  prioritizeVerb: prioritize
  nodeCacheCapable: true
  weight: 1
  httpTimeout: 5s
  ignorable: false
  managedResources:
  - {name: dozo.dev/storage, ignoredByScheduler: true}
`

// startNodes starts nodes of either kind.
func (s *spec) startNodes(events *os.File, sup *supervisor) error {
	start := func(n nodeSpec) error { return s.startNode(n, events, sup) }
	if s.Guest != nil {
		if err := connectGuests(context.Background(), s); err != nil {
			return err
		}
		supply := newSupply(s, sup)
		if err := supply.serve(); err != nil {
			return err
		}
		start = func(n nodeSpec) error { return supply.set(n.Name, powerOn) }
	}
	for _, n := range s.machines() {
		if err := start(n); err != nil {
			return fmt.Errorf("starting node %s: %w", n.Name, err)
		}
	}
	return nil
}

// startNode starts a node's init in nested namespaces and plugs its cable in.
// The init waits for the end of the pipe before it looks for its interface.
func (s *spec) startNode(n nodeSpec, events *os.File, sup *supervisor) error {
	log, err := os.Create(filepath.Join(s.logDir(), n.Name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	wait, start, err := os.Pipe()
	if err != nil {
		return err
	}
	defer wait.Close()
	defer start.Close()
	cmd := exec.Command(self, string(StageNodeInit), s.Run, n.Name)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{events, wait}
	cmd.SysProcAttr = namespaces()
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		err := cmd.Wait()
		sup.report(event{Name: "node " + n.Name, Failed: true, Message: fmt.Sprint("ended: ", err), Log: tail(log.Name(), 25)})
	}()
	if err := connectNode(context.Background(), n, cmd.Process.Pid); err != nil {
		return err
	}
	pid := []byte(strconv.Itoa(cmd.Process.Pid))
	return os.WriteFile(filepath.Join(s.nodeDir(n.Name), "init.pid"), pid, 0o644)
}
