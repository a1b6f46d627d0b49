package wire

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

// What arrives is checked as far as others rely on it without looking again: IDs become file names.

func toRequest(pool string, r backend.Request) *wirepb.CreateRequest {
	return &wirepb.CreateRequest{
		Pool: pool, Id: string(r.ID), Name: r.Name, Size: r.Size, Limit: r.Limit,
		Source: toSource(r.Source), Parameters: maps.Clone(r.Parameters), Nodes: slices.Clone(r.Nodes), Limits: toLimits(r.Limits),
	}
}

func fromRequest(w *wirepb.CreateRequest) (backend.Request, error) {
	id, err := parseID("id", w.GetId())
	if err != nil {
		return backend.Request{}, err
	}
	source, err := fromSource(w.GetSource())
	if err != nil {
		return backend.Request{}, err
	}
	switch {
	case w.GetSize() <= 0:
		return backend.Request{}, errs.E(errs.Invalid, "size: %d is not positive", w.GetSize())
	case w.GetLimit() != 0 && w.GetLimit() < w.GetSize():
		return backend.Request{}, errs.E(errs.Invalid, "limit: %d is less than the size %d", w.GetLimit(), w.GetSize())
	}
	return backend.Request{
		ID: id, Name: w.GetName(), Size: w.GetSize(), Limit: w.GetLimit(),
		Source: source, Parameters: w.GetParameters(), Nodes: w.GetNodes(), Limits: fromLimits(w.GetLimits()),
	}, nil
}

func toSource(s backend.Source) *wirepb.Source {
	if s.IsZero() {
		return nil
	}
	return &wirepb.Source{Snapshot: string(s.Snapshot), Volume: string(s.Volume)}
}

func fromSource(w *wirepb.Source) (s backend.Source, err error) {
	if w.GetSnapshot() != "" {
		if s.Snapshot, err = parseID("source.snapshot", w.GetSnapshot()); err != nil {
			return backend.Source{}, err
		}
	}
	if w.GetVolume() != "" {
		if s.Volume, err = parseID("source.volume", w.GetVolume()); err != nil {
			return backend.Source{}, err
		}
	}
	if s.Snapshot != "" && s.Volume != "" {
		return backend.Source{}, errs.E(errs.Invalid, "source: both a snapshot and a volume are set")
	}
	return s, nil
}

func toVolume(v backend.Volume) (*wirepb.Volume, error) {
	access, err := toAccess(v.Access)
	if err != nil {
		return nil, err
	}
	return &wirepb.Volume{
		Id: string(v.ID), Name: v.Name, Size: v.Size, Source: toSource(v.Source), Nodes: slices.Clone(v.Nodes), Access: access,
		Limits: toLimits(v.Limits),
	}, nil
}

func fromVolume(w *wirepb.Volume) (backend.Volume, error) {
	id, err := parseID("volume.id", w.GetId())
	if err != nil {
		return backend.Volume{}, err
	}
	source, err := fromSource(w.GetSource())
	if err != nil {
		return backend.Volume{}, err
	}
	access, err := fromAccess(w.GetAccess())
	if err != nil {
		return backend.Volume{}, errs.E(errs.Invalid, "volume.%w", err)
	}
	return backend.Volume{
		ID: id, Name: w.GetName(), Size: w.GetSize(), Source: source, Nodes: w.GetNodes(), Access: access, Limits: fromLimits(w.GetLimits()),
	}, nil
}

func toAccess(a backend.Access) ([]byte, error) {
	w, err := json.Marshal(a)
	if err != nil {
		return nil, errs.E(errs.Internal, "access: %w", err)
	}
	return w, nil
}

// fromAccess reads an access of any version: who uses it checks that.
func fromAccess(w []byte) (a backend.Access, err error) {
	if err := json.Unmarshal(w, &a); err != nil {
		return backend.Access{}, errs.E(errs.Invalid, "access: %w", err)
	}
	return a, nil
}

func toAttachRequest(pool string, id backend.ID, r backend.AttachRequest) *wirepb.AttachRequest {
	return &wirepb.AttachRequest{
		Pool: pool, Id: string(id), Node: r.Node, Addresses: slices.Clone(r.Addresses), Shared: r.Shared, ReadOnly: r.ReadOnly, Block: r.Block,
	}
}

func fromAttachRequest(w *wirepb.AttachRequest) backend.AttachRequest {
	return backend.AttachRequest{Node: w.GetNode(), Addresses: w.GetAddresses(), Shared: w.GetShared(), ReadOnly: w.GetReadOnly(), Block: w.GetBlock()}
}

func toLimits(l backend.Limits) *wirepb.Limits {
	if l.IsZero() {
		return nil
	}
	return &wirepb.Limits{ReadBps: l.ReadBPS, WriteBps: l.WriteBPS, ReadIops: l.ReadIOPS, WriteIops: l.WriteIOPS}
}

func fromLimits(w *wirepb.Limits) backend.Limits {
	return backend.Limits{ReadBPS: w.GetReadBps(), WriteBPS: w.GetWriteBps(), ReadIOPS: w.GetReadIops(), WriteIOPS: w.GetWriteIops()}
}

func toSnapshotRequest(pool string, r backend.SnapshotRequest) *wirepb.SnapshotRequest {
	return &wirepb.SnapshotRequest{Pool: pool, Id: string(r.ID), Name: r.Name, Source: string(r.Source), Group: string(r.Group)}
}

func fromSnapshotRequest(w *wirepb.SnapshotRequest) (backend.SnapshotRequest, error) {
	id, err := parseID("id", w.GetId())
	if err != nil {
		return backend.SnapshotRequest{}, err
	}
	source, err := parseID("source", w.GetSource())
	if err != nil {
		return backend.SnapshotRequest{}, err
	}
	group, err := optionalID("group", w.GetGroup())
	return backend.SnapshotRequest{ID: id, Name: w.GetName(), Source: source, Group: group}, err
}

func toSnapshot(s backend.Snapshot) *wirepb.Snapshot {
	w := &wirepb.Snapshot{
		Id: string(s.ID), Name: s.Name, Source: string(s.Source), Size: s.Size, Group: string(s.Group), Nodes: slices.Clone(s.Nodes),
	}
	if !s.Created.IsZero() {
		w.Created = s.Created.UnixNano()
	}
	return w
}

func fromSnapshot(w *wirepb.Snapshot) (backend.Snapshot, error) {
	id, err := parseID("snapshot.id", w.GetId())
	if err != nil {
		return backend.Snapshot{}, err
	}
	source, err := parseID("snapshot.source", w.GetSource())
	if err != nil {
		return backend.Snapshot{}, err
	}
	group, err := optionalID("snapshot.group", w.GetGroup())
	if err != nil {
		return backend.Snapshot{}, err
	}
	s := backend.Snapshot{ID: id, Name: w.GetName(), Source: source, Size: w.GetSize(), Group: group, Nodes: w.GetNodes()}
	if w.GetCreated() != 0 {
		s.Created = time.Unix(0, w.GetCreated()).UTC()
	}
	return s, nil
}

func fromSnapshots(w *wirepb.Snapshots) ([]backend.Snapshot, error) {
	var all []backend.Snapshot
	for _, s := range w.GetSnapshots() {
		d, err := fromSnapshot(s)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func toMark(m backend.Mark) *wirepb.Formatting {
	return &wirepb.Formatting{Fs: m.FS, Done: m.Done, Copied: m.Copied}
}

func fromMark(w *wirepb.Formatting) backend.Mark {
	return backend.Mark{FS: w.GetFs(), Done: w.GetDone(), Copied: w.GetCopied()}
}

func toProblems(problems []backend.Problem) *wirepb.CheckAnswer {
	w := &wirepb.CheckAnswer{}
	for _, p := range problems {
		w.Problems = append(w.Problems, &wirepb.Problem{Severity: uint32(p.Severity), Reason: text(p.Reason), Message: text(p.Message)})
	}
	return w
}

// fromProblems takes a severity that this build does not know for the worst: a newer server has one
// that this build cannot name, which is no reason to be calm.
func fromProblems(w *wirepb.CheckAnswer) []backend.Problem {
	var problems []backend.Problem
	for _, p := range w.GetProblems() {
		severity := backend.DataLoss
		if s := p.GetSeverity(); s >= uint32(backend.Degraded) && s < uint32(backend.DataLoss) {
			severity = backend.Severity(s)
		}
		problems = append(problems, backend.Problem{Severity: severity, Reason: p.GetReason(), Message: p.GetMessage()})
	}
	return problems
}

func toGauges(gauges []backend.Gauge) *wirepb.GaugesAnswer {
	w := &wirepb.GaugesAnswer{}
	for _, g := range gauges {
		w.Gauges = append(w.Gauges, &wirepb.Gauge{Name: text(g.Name), Help: text(g.Help), Part: text(g.Part), Value: g.Value})
	}
	return w
}

func fromGauges(w *wirepb.GaugesAnswer) (gauges []backend.Gauge) {
	for _, g := range w.GetGauges() {
		gauges = append(gauges, backend.Gauge{Name: g.GetName(), Help: g.GetHelp(), Part: g.GetPart(), Value: g.GetValue()})
	}
	return gauges
}

func toCapacity(c backend.Capacity) *wirepb.CapacityAnswer {
	return &wirepb.CapacityAnswer{Total: c.Total, Available: c.Available, MaxVolume: c.MaxVolume}
}

func fromCapacity(w *wirepb.CapacityAnswer) backend.Capacity {
	return backend.Capacity{Total: w.GetTotal(), Available: w.GetAvailable(), MaxVolume: w.GetMaxVolume()}
}

func toMask(m backend.Mask) *wirepb.Mask {
	return &wirepb.Mask{
		Expander: m.Expander, Cloner: m.Cloner, Snapshotter: m.Snapshotter, GroupSnapshotter: m.GroupSnapshotter,
		Activator: m.Activator, Marker: m.Marker, Checker: m.Checker, Modifier: m.Modifier, Gauger: m.Gauger, Importer: m.Importer,
		Attacher: m.Attacher,
	}
}

func fromMask(w *wirepb.Mask) backend.Mask {
	return backend.Mask{
		Expander: w.GetExpander(), Cloner: w.GetCloner(), Snapshotter: w.GetSnapshotter(), GroupSnapshotter: w.GetGroupSnapshotter(),
		Activator: w.GetActivator(), Marker: w.GetMarker(), Checker: w.GetChecker(), Modifier: w.GetModifier(), Gauger: w.GetGauger(), Importer: w.GetImporter(),
		Attacher: w.GetAttacher(),
	}
}

// toKind leaves the options out: a pool's are known where it is opened, and nowhere else.
func toKind(k backend.Kind) *wirepb.Kind {
	w := &wirepb.Kind{Name: k.Name, Granularity: k.Granularity, MinSize: k.MinSize, MaxSize: k.MaxSize, NodeBound: k.NodeBound}
	for _, p := range k.Parameters {
		w.Parameters = append(w.Parameters, &wirepb.Parameter{Name: p.Name, Help: p.Help, Default: p.Default, Required: p.Required})
	}
	return w
}

// fromKind returns a kind without Open. What a parameter may be is checked by the server: a check is
// code, which does not cross.
func fromKind(w *wirepb.Kind) (backend.Kind, error) {
	k := backend.Kind{
		Name: w.GetName(), Granularity: w.GetGranularity(), MinSize: w.GetMinSize(), MaxSize: w.GetMaxSize(), NodeBound: w.GetNodeBound(),
	}
	if k.Name == "" || k.Granularity <= 0 || k.MinSize < 0 || k.MaxSize < k.MinSize {
		return backend.Kind{}, errs.E(errs.Internal, "kind: %+v is none", w)
	}
	for _, p := range w.GetParameters() {
		k.Parameters = append(k.Parameters, backend.Parameter{Name: p.GetName(), Help: p.GetHelp(), Default: p.GetDefault(), Required: p.GetRequired()})
	}
	return k, nil
}

func parseID(field, s string) (backend.ID, error) {
	id, err := backend.ParseID(s)
	if err != nil {
		return "", errs.E(errs.Invalid, "%s: %w", field, err)
	}
	return id, nil
}

func optionalID(field, s string) (backend.ID, error) {
	if s == "" {
		return "", nil
	}
	return parseID(field, s)
}

// text is what a protobuf string can hold of s: programs write what they like to stderr, and a
// message with one wrong byte would not cross at all.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
