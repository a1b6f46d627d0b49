package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/nas"
)

// data is where the NAS's data is.
type data struct {
	plane, portals, disk *string
	size                 *int64
}

func dataFlags() data {
	return data{
		plane: flag.String("plane", "", "files: images are files, and nothing is served; linux: real iSCSI targets and NFS exports of this machine, "+
			"which should be a guest of the lab; empty: files if there is a -dir, and otherwise nothing has data"),
		portals: flag.String("portal", "0.0.0.0:3260", "where targets are with -plane linux, with commas between"),
		disk:    flag.String("disk", "", "an empty disk for /volume1 with -plane linux; empty: a file in -dir"),
		size:    flag.Int64("size", 64, "of that file, in GiB"),
	}
}

// complete gives the NAS a plane, and with one of Linux the one volume that it has.
func (d data) complete(cfg *dsmsim.Config) (err error) {
	switch {
	case *d.plane == "" && cfg.Dir == "":
	case *d.plane == "linux" && cfg.Dir != "":
		v := nas.Volume{Path: "/volume1", Disk: *d.disk, Size: *d.size << 30}
		if v.Disk == "" {
			v.Disk = filepath.Join(cfg.Dir, "volume1.img")
		}
		cfg.Volumes = []dsmsim.Volume{{Path: v.Path, FileSystem: "btrfs", Total: v.Size}}
		cfg.Plane, err = nas.Open(nas.Config{Volumes: []nas.Volume{v}, Portals: strings.Split(*d.portals, ",")})
	case *d.plane == "linux" || *d.plane == "files" && cfg.Dir == "":
		err = errors.New("-dir: say where the state of this plane is kept")
	case *d.plane == "" || *d.plane == "files":
		cfg.Plane, err = dsmsim.NewFiles(cfg.Dir)
	default:
		err = fmt.Errorf("-plane: %q is none of files and linux", *d.plane)
	}
	return err
}
