// Node-driver-registrar tells the kubelet of a CSI driver on its node. It
// stands in for the CSI project's sidecar of the same name, which the Go
// module proxy does not serve, and takes the flags that manifests pass to it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrar answers the kubelet's plugin watcher on the registration socket.
type registrar struct {
	registration.UnimplementedRegistrationServer
	driver, endpoint string
	refused          chan error
}

// GetInfo names the driver and the socket on which the kubelet reaches it.
func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              r.driver,
		Endpoint:          r.endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus ends the program when the kubelet refused the
// driver, so that the container restarts and registers again.
func (r *registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	log.Printf("registered=%v error=%q", s.PluginRegistered, s.Error)
	if !s.PluginRegistered {
		select {
		case r.refused <- errors.New("the kubelet refused the driver: " + s.Error):
		default:
		}
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	csiAddress := flag.String("csi-address", "/run/csi/socket", "the driver's socket as this container sees it")
	kubeletPath := flag.String("kubelet-registration-path", "", "the driver's socket as the kubelet sees it")
	socketDir := flag.String("plugin-registration-path", "/registration", "the kubelet's plugins_registry directory as this container sees it")
	timeout := flag.Duration("timeout", time.Second, "deadline of one call to the driver")
	flag.Int("v", 0, "accepted for compatibility; this program logs little")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *csiAddress, *kubeletPath, *socketDir, *timeout); err != nil {
		log.Fatal(err)
	}
}

// run registers until ctx ends or the kubelet refuses the driver.
func run(ctx context.Context, csiAddress, kubeletPath, socketDir string, timeout time.Duration) error {
	if kubeletPath == "" {
		return errors.New("--kubelet-registration-path is required: give the path of the driver's socket on the node")
	}
	name, err := driverName(ctx, csiAddress, timeout)
	if err != nil {
		return fmt.Errorf("asking the driver at %s for its name: %w", csiAddress, err)
	}
	socket := filepath.Join(socketDir, name+"-reg.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	r := &registrar{driver: name, endpoint: kubeletPath, refused: make(chan error, 1)}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, r)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Printf("driver %s waits for the kubelet on %s", name, socket)
	defer server.Stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-r.refused:
		return err
	case err := <-served:
		return err
	}
}

// driverName waits for the driver's socket, for as long as ctx lives.
func driverName(ctx context.Context, address string, timeout time.Duration) (string, error) {
	conn, err := connection.ConnectWithoutMetrics(ctx, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := rpc.ProbeForever(ctx, conn, timeout); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return rpc.GetDriverName(ctx, conn)
}
