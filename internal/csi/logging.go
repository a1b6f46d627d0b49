package csi

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dozo-dev/dozo/internal/errs"
)

// What is logged of a request is what is listed here and nothing else: a field that a later CSI
// adds stays out until somebody has thought about it. Secrets, publish contexts and mount flags may
// hold credentials; so may volume contexts, in which the kubelet can put service account tokens.

// loggedField reports whether the value of a request's field is logged.
func loggedField(name protoreflect.Name) bool {
	switch name {
	case "name", "volume_id", "node_id", "snapshot_id", "group_snapshot_id", "source_volume_id", "source_volume_ids", "snapshot_ids",
		"staging_target_path", "target_path", "volume_path", "volume_publish_path",
		"readonly", "max_entries", "required_bytes", "limit_bytes":
		return true
	}
	return false
}

// loggedMessage reports whether a field of a request is looked into.
func loggedMessage(name protoreflect.Name) bool {
	switch name {
	case "capacity_range", "volume_content_source", "snapshot", "volume":
		return true
	}
	return false
}

// loggedKey reports whether the value of a key of a request's map is logged.
func loggedKey(field protoreflect.Name, key string) bool {
	switch field {
	case "parameters":
		return key == paramPool || key == foreignPrefix+"pvc/name" || key == foreignPrefix+"pvc/namespace"
	case "volume_context":
		return key == foreignPrefix+"pod.name" || key == foreignPrefix+"pod.namespace"
	}
	return false
}

// maxLogged bounds a value in the log, which a caller can make as long as a message may be.
const maxLogged = 200

func clip(s string) string {
	if len(s) > maxLogged {
		return strings.ToValidUTF8(s[:maxLogged], "") + "…"
	}
	return s
}

// describe returns of a request what may be logged.
func describe(m protoreflect.Message) []slog.Attr {
	var all []slog.Attr
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := f.Name()
		switch {
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				if loggedKey(name, k.String()) {
					all = append(all, slog.String(k.String(), clip(v.String())))
				}
				return true
			})
		case f.Message() != nil:
			if !f.IsList() && loggedMessage(name) {
				all = append(all, describe(v.Message())...)
			}
		case !loggedField(name):
		case f.IsList():
			all = append(all, slog.String(string(name), clip(listText(v.List()))))
		case f.Kind() == protoreflect.StringKind:
			all = append(all, slog.String(string(name), clip(v.String())))
		default: // a number or a flag
			all = append(all, slog.Any(string(name), v.Interface()))
		}
		return true
	})
	slices.SortFunc(all, func(a, b slog.Attr) int { return strings.Compare(a.Key, b.Key) })
	return all
}

func listText(l protoreflect.List) string {
	items := make([]string, l.Len())
	for i := range items {
		items[i] = l.Get(i).String()
	}
	return strings.Join(items, " ")
}

// levelOf keeps the calls that come every few seconds out of the way unless they fail.
func levelOf(method string, err error) slog.Level {
	if err != nil {
		return slog.LevelWarn
	}
	switch method {
	case csi.Identity_Probe_FullMethodName, csi.Identity_GetPluginInfo_FullMethodName,
		csi.Identity_GetPluginCapabilities_FullMethodName, csi.Controller_ControllerGetCapabilities_FullMethodName,
		csi.Controller_GetCapacity_FullMethodName, csi.GroupController_GroupControllerGetCapabilities_FullMethodName,
		csi.Node_NodeGetCapabilities_FullMethodName, csi.Node_NodeGetVolumeStats_FullMethodName,
		csi.Node_NodeGetVolumeHealth_FullMethodName:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// logged is the outermost interceptor: it writes one line for each call, when it has ended.
func logged(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		began := time.Now()
		resp, err := next(ctx, req)
		level := levelOf(info.FullMethod, err)
		if !log.Enabled(ctx, level) {
			return resp, err
		}
		_, method, _ := strings.Cut(strings.TrimPrefix(info.FullMethod, "/"), "/")
		attrs := []slog.Attr{
			slog.String("method", method),
			slog.Duration("took", time.Since(began)),
			slog.String("code", status.Code(err).String()),
		}
		if m, ok := req.(proto.Message); ok {
			attrs = append(attrs, describe(m.ProtoReflect())...)
		}
		if err != nil {
			attrs = append(attrs, slog.String("error", status.Convert(err).Message()))
		}
		log.LogAttrs(ctx, level, "csi call", attrs...)
		return resp, err
	}
}

// answered is the interceptor within: it refuses calls that no pool can do, keeps a panic in one
// call from ending all others, and gives every error its code.
func answered(log *slog.Logger, has features) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		if !has.serves(info.FullMethod) {
			return nil, status.Errorf(codes.Unimplemented, "%s: no pool here can do this, and the capability is not advertised", info.FullMethod)
		}
		defer func() {
			if p := recover(); p != nil {
				log.ErrorContext(ctx, "a call panicked", "method", info.FullMethod, "panic", clip(fmt.Sprint(p)), "stack", string(debug.Stack()))
				resp, err = nil, toStatus(errs.E(errs.Internal, "%s: a defect in Dozo; its log has the details", info.FullMethod))
			}
		}()
		resp, err = next(ctx, req)
		if err != nil {
			return nil, toStatus(err)
		}
		return resp, nil
	}
}
