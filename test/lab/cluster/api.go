package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// apiClient asks the API server the few things that the lab itself wants to
// know. Everything else is kubectl's.
type apiClient struct {
	server string
	http   *http.Client
}

// newAPIClient trusts the authority in dir and, where dir has the
// administrator's key, authenticates with it.
func newAPIClient(dir, server string) (*apiClient, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s/ca.crt has no certificate", dir)
	}
	config := &tls.Config{RootCAs: pool}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "admin.crt"), filepath.Join(dir, "admin.key"))
	switch {
	case err == nil:
		config.Certificates = []tls.Certificate{pair}
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	return &apiClient{server: server, http: &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: config},
	}}, nil
}

// get returns the body of a 200 answer.
func (c *apiClient) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %s", path, response.Status, lastLines(string(body), 3))
	}
	return body, nil
}

// ready succeeds when the API server says that it is.
func (c *apiClient) ready(ctx context.Context) error {
	_, err := c.get(ctx, "/readyz")
	return err
}

// condition is one of an object's status conditions.
type condition struct {
	Type, Status, Message string
}

// apiObject has the parts of nodes and deployments that the lab reads.
type apiObject struct {
	Metadata struct{ Name string }
	Status   struct {
		Conditions []condition
		NodeInfo   struct{ KubeletVersion, ContainerRuntimeVersion, KernelVersion, BootID string }
	}
}

// condition returns the status of a condition, and its message.
func (o apiObject) condition(kind string) (bool, string) {
	for _, c := range o.Status.Conditions {
		if c.Type == kind {
			return c.Status == "True", c.Message
		}
	}
	return false, "no condition " + kind + " yet"
}

// nodes lists the cluster's nodes.
func (c *apiClient) nodes(ctx context.Context) ([]apiObject, error) {
	body, err := c.get(ctx, "/api/v1/nodes")
	if err != nil {
		return nil, err
	}
	var list struct{ Items []apiObject }
	return list.Items, json.Unmarshal(body, &list)
}

// node reads one node.
func (c *apiClient) node(ctx context.Context, name string) (apiObject, error) {
	body, err := c.get(ctx, "/api/v1/nodes/"+name)
	if err != nil {
		return apiObject{}, err
	}
	var object apiObject
	return object, json.Unmarshal(body, &object)
}

// lastBoot is the ID of a node's last boot that the cluster knows of, empty if the node's object was deleted.
func (c *apiClient) lastBoot(ctx context.Context, name string) (string, error) {
	all, err := c.nodes(ctx)
	if err != nil {
		return "", err
	}
	for _, n := range all {
		if n.Metadata.Name == name {
			return n.Status.NodeInfo.BootID, nil
		}
	}
	return "", nil
}

// deployment reads one deployment.
func (c *apiClient) deployment(ctx context.Context, namespace, name string) (apiObject, error) {
	body, err := c.get(ctx, "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name)
	if err != nil {
		return apiObject{}, err
	}
	var object apiObject
	return object, json.Unmarshal(body, &object)
}
