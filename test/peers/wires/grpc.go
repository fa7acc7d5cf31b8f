// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wires

import (
	"context"
	"fmt"
	"net"
	"runtime"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// getMethod is the one method of the grpc server: the name of an object there,
// its bytes back.
const getMethod = "/bench.Objects/Get"

// plainBytes is a codec of messages that are bytes already, so that nothing is
// spent on an encoding. It copies where grpc-go's own codec would, and no more: an
// answer is copied once, out of grpc-go's buffers.
type plainBytes struct{}

func (plainBytes) Name() string { return "bytes" }

func (plainBytes) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
}

func (plainBytes) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is not bytes", v)
	}
	if n := data.Len(); cap(*b) < n {
		*b = make([]byte, n)
	} else {
		*b = (*b)[:n]
	}
	data.CopyTo(*b)
	return nil
}

// ServeGRPC serves objects by name with grpc-go until the listener ends.
func ServeGRPC(l net.Listener, objects map[string][]byte) error {
	get := func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var name []byte
		if err := decode(&name); err != nil {
			return nil, err
		}
		body, ok := objects[string(name)]
		if !ok {
			return nil, status.Error(codes.NotFound, "no such object")
		}
		return &body, nil
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(plainBytes{}), grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))), grpc.MaxConcurrentStreams(4*streams))
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Objects", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Get", Handler: get}}}, nil)
	return s.Serve(l)
}

// dialGRPC is a client with one connection.
func dialGRPC(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(plainBytes{})))
}
