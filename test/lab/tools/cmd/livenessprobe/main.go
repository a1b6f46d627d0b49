// Livenessprobe turns the kubelet's HTTP liveness checks into CSI Probe calls.
// It stands in for the CSI project's sidecar of the same name, which the Go
// module proxy does not serve, and takes the flags that manifests pass to it.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	"google.golang.org/grpc"
)

func main() {
	csiAddress := flag.String("csi-address", "/run/csi/socket", "the driver's socket as this container sees it")
	healthPort := flag.String("health-port", "9808", "TCP port of /healthz")
	httpEndpoint := flag.String("http-endpoint", "", "address of /healthz; overrides --health-port")
	timeout := flag.Duration("probe-timeout", time.Second, "deadline of one Probe call")
	flag.Int("v", 0, "accepted for compatibility; this program logs failures only")
	flag.Parse()
	address := *httpEndpoint
	if address == "" {
		address = net.JoinHostPort("", *healthPort)
	}
	conn, err := connection.ConnectWithoutMetrics(context.Background(), *csiAddress)
	if err != nil {
		log.Fatalf("connecting to the driver at %s: %v", *csiAddress, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/healthz", probe(conn, *timeout))
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// probe answers 200 when the driver says that it is ready and 500 otherwise.
func probe(conn *grpc.ClientConn, timeout time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		ready, err := rpc.Probe(ctx, conn)
		switch {
		case err != nil:
			log.Printf("probe failed: %v", err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case !ready:
			log.Print("the driver is not ready")
			http.Error(w, "the driver is not ready", http.StatusInternalServerError)
		default:
			w.Write([]byte("ok"))
		}
	}
}
