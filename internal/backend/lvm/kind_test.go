package lvm

import (
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// noLVM is a machine on which LVM says what it is told to.
func noLVM(stdout string, code int) *host.Host {
	h := host.New()
	h.Runner = &hosttest.Script{Answers: map[string]hosttest.Answer{"vg.pvs": {Stdout: stdout, Code: code}}}
	return h
}

func openWith(t *testing.T, h *host.Host, options map[string]string) error {
	t.Helper()
	k := Kind(h)
	all, err := backend.Complete("options", k.Options, options)
	if err != nil {
		return err
	}
	_, err = k.Open(t.Context(), backend.Config{Pool: "main", Node: "n1", Options: all})
	return err
}

func TestOptions(t *testing.T) {
	for option, values := range map[string][]string{
		"volumeGroup": {"", "a b", "-vg", "vg0,vg0", "vg0,", "..", strings.Repeat("g", maxGroupName+1), "vg/lv"},
		"type":        {"fat"}, "layout": {"raid6", ""}, "stripes": {"1", "x", "65"}, "stripeSize": {"3Ki", "5000", "8Mi", ""},
		"copies": {"1", "11"}, "integrity": {"yes"}, "spare": {"-1", "some"}, "wipe": {"shred"}, "copySpace": {"0", "101", "5%"},
		"thinPool": {"a/b", "-x", strings.Repeat("x", 41)}, "thinPoolSize": {"0%", "101%", "big", "-1"}, "overprovision": {"0.5", "NaN", "x", "-1", "Inf"},
		"dataThreshold": {"0", "101"}, "metadataThreshold": {"x"}, "autoExtend": {"-1", "101"},
		"devices": {"", "sdb", "/dev/[", "/dev/sdb,", "/dev/../etc/x", "/dev/sdb, /dev/sdc"}, "minDeviceSize": {"127Mi", "x"}, "maxDeviceSize": {"1Mi"},
		"deviceModel": {"["}, "rotational": {"yes"},
	} {
		for _, v := range values {
			options := map[string]string{"volumeGroup": "vg"}
			options[option] = v
			err := openWith(t, noLVM("", 5), options)
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), option) {
				t.Errorf("%s=%q: %v, want errs.Invalid that names it", option, v, err)
			}
		}
	}
	for field, options := range map[string]map[string]string{
		"integrity": {"volumeGroup": "vg", "integrity": "true"},
		"layout":    {"volumeGroup": "vg", "type": "thin", "layout": "raid1"},
		"devices":   {"volumeGroup": "vg,vg1", "devices": "/dev/sd*"},
	} {
		if err := openWith(t, noLVM("", 5), options); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%v: %v", options, err)
		}
	}
}

// TestNoGroup: a pool whose volume group is not there says so, and what to do; it is not one without volumes.
func TestNoGroup(t *testing.T) {
	none := `{"report":[{"pv":[{"pv_name":"/dev/sda","pv_uuid":"x","vg_name":"other"}]}]}`
	for what, h := range map[string]*host.Host{"no such group": noLVM(none, 0), "LVM fails": noLVM("", 5), "LVM says nonsense": noLVM("{", 0)} {
		err := openWith(t, h, map[string]string{"volumeGroup": "vg9"})
		if errs.Is(err, errs.NotFound) || err == nil || !strings.Contains(err.Error(), "vg9") {
			t.Errorf("%s: %v", what, err)
		}
		if what == "no such group" && (!errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "vgcreate")) {
			t.Errorf("%s: %v, want errs.Unavailable with what to do", what, err)
		}
	}
}

func TestUsage(t *testing.T) {
	group := func(free int64) *vg.State {
		return &vg.State{VG: &metadata.VG{PVs: []metadata.PV{{Extents: 100, Free: free}}}}
	}
	u := parseUsage("3 112/1024 320/640 - rw no_discard_passdown queue_if_no_space - 256")
	if u.dataPercent() != 50 || u.metadataPercent() != 10.9375 || u.mode != "rw" {
		t.Errorf("%+v", u)
	}
	for _, failed := range []string{"Fail", "Error", ""} {
		if u := parseUsage(failed); !u.full(group(10)) {
			t.Errorf("%q: a pool that failed takes volumes: %+v", failed, u)
		}
	}
	if u := parseUsage("3 1000/1024 320/640 - rw"); !u.full(group(10)) {
		t.Errorf("metadata is full: %+v", u)
	}
	full := parseUsage("3 100/1024 640/640 - rw")
	if !full.full(group(0)) || full.full(group(10)) {
		t.Error("data is full, and only with free extents can it be extended")
	}
}

// TestMask: what the kind says for those who cannot open a pool is what both sorts of pool implement.
func TestMask(t *testing.T) {
	for b, options := range map[backend.Backend]map[string]string{
		&Thick{}: nil, &Thin{}: nil, withoutCopies(&Thick{}): {"integrity": "true"}, // nil is what some pool can
	} {
		var m backend.Mask
		_, m.Expander = b.(backend.Expander)
		_, m.Cloner = b.(backend.Cloner)
		_, m.Snapshotter = b.(backend.Snapshotter)
		_, m.GroupSnapshotter = b.(backend.GroupSnapshotter)
		_, m.Activator = b.(backend.Activator)
		_, m.Marker = b.(backend.Marker)
		_, m.Checker = b.(backend.Checker)
		_, m.Modifier = b.(backend.Modifier)
		_, m.Gauger = b.(backend.Gauger)
		_, m.Importer = b.(backend.Importer)
		if said := Kind(host.New()).Mask(options); said != m {
			t.Errorf("%T implements %+v, the kind says %+v", b, m, said)
		}
	}
}
