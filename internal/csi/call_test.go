package csi

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/dozo-dev/dozo/internal/errs"
)

func errDown() error { return errs.E(errs.Unavailable, "the storage does not answer") }

// methods is every unary call of CSI by its full gRPC name.
func methods() map[string]protoreflect.MethodDescriptor {
	all := map[string]protoreflect.MethodDescriptor{}
	services := csi.File_csi_proto.Services()
	for i := range services.Len() {
		s := services.Get(i)
		for j := range s.Methods().Len() {
			if m := s.Methods().Get(j); !m.IsStreamingServer() {
				all["/"+string(s.FullName())+"/"+string(m.Name())] = m
			}
		}
	}
	return all
}

func newMessage(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return mt.New().Interface()
}

// call makes a call by name, with an empty request for nil.
func call(t *testing.T, conn grpc.ClientConnInterface, method string, request proto.Message) (proto.Message, error) {
	t.Helper()
	m := methods()[method]
	if m == nil {
		t.Fatalf("no method %s", method)
	}
	if request == nil {
		request = newMessage(t, m.Input())
	}
	response := newMessage(t, m.Output())
	return response, conn.Invoke(t.Context(), method, request, response)
}

// methodFor is the call that a request belongs to.
func methodFor(t *testing.T, request proto.Message) string {
	t.Helper()
	for name, m := range methods() {
		if m.Input().FullName() == request.ProtoReflect().Descriptor().FullName() {
			return name
		}
	}
	t.Fatalf("no call takes a %s", strings.TrimPrefix(string(request.ProtoReflect().Descriptor().FullName()), "csi.v1."))
	return ""
}
