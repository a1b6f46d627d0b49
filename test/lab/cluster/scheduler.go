package cluster

import (
	"context"
	"path/filepath"
)

// StartScheduler starts a kube-scheduler for an API server, with a KubeSchedulerConfiguration that names
// the server's Kubeconfig. It ends with stop, or this process; its log is returned.
func (l *Lab) StartScheduler(ctx context.Context, a *APIServer, config string) (stop func(), log string, err error) {
	tools, err := l.toolchain(ctx)
	if err != nil {
		return nil, "", err
	}
	if err := l.buildSome(ctx, tools, "kube-scheduler"); err != nil {
		return nil, "", err
	}
	log = filepath.Join(a.logs, "kube-scheduler.log")
	c, err := startChild(log, []string{filepath.Join(tools.dir, "kube-scheduler"), "--config=" + config, "--secure-port=0", "--v=3"})
	if err != nil {
		return nil, "", err
	}
	return c.kill, log, nil
}
