package main

import (
	"fmt"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/dozo-dev/dozo/internal/pool"
)

// poolConfig is the file of --pool-config.
type poolConfig struct {
	Pools []pool.Spec `json:"pools"`
}

// readPoolConfig reads pools of one kind: a CSI driver has one name, and each kind a driver of its own.
// With kind set, the pools of other kinds are left out.
func readPoolConfig(file, kind string) ([]pool.Spec, error) {
	c, err := parsePoolConfig(file)
	if err != nil {
		return nil, err
	}
	var specs []pool.Spec
	for _, s := range c.Pools {
		if kind == "" || s.Kind == kind {
			specs = append(specs, s)
		}
	}
	if len(specs) == 0 {
		return nil, fmt.Errorf("--pool-config: %s: pools: there are none%s", file, ofKind(kind))
	}
	for _, s := range specs {
		if s.Kind != specs[0].Kind {
			return nil, fmt.Errorf("--pool-config: %s: pools of the kinds %s and %s: each kind is a CSI driver of its own; choose one with --kind",
				file, specs[0].Kind, s.Kind)
		}
	}
	return specs, nil
}

func parsePoolConfig(file string) (c poolConfig, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return c, fmt.Errorf("--pool-config: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return c, fmt.Errorf("--pool-config: %s: %w", file, err)
	}
	for i := range c.Pools {
		if c.Pools[i].Secrets, err = readSecrets(c.Pools[i].SecretDir); err != nil {
			return c, fmt.Errorf("--pool-config: %s: pool %q: secretDir: %w", file, c.Pools[i].Name, err)
		}
	}
	return c, nil
}

func ofKind(kind string) string {
	if kind == "" {
		return ""
	}
	return " of the kind " + kind
}
