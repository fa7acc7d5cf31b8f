// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/cmd/ronctl/drill/frames"
)

var malformedOAP = Drill{
	Name:    "malformed-oap",
	Shows:   "bytes that are no OAP/1 end their own connection or stream, with the code that says why, and nobody else's",
	NotLive: "it asserts on counts that others would disturb",
	play:    func(ctx context.Context, s *scene) error { return frames.Play(ctx, framesNode{s}) },
}

// framesNode is a scene as package frames wants it.
type framesNode struct{ s *scene }

func (n framesNode) Start(ctx context.Context) error { return n.s.startDev(ctx) }
func (n framesNode) OAP() string                     { return n.s.oapHost }
func (n framesNode) TenantCap() string               { return n.s.tenantCap }

func (n framesNode) Metric(ctx context.Context, name string, labels ...string) (float64, error) {
	return n.s.metric(ctx, name, labels...)
}

func (n framesNode) Await(ctx context.Context, within time.Duration, f func() error) error {
	return n.s.await(ctx, within, f)
}

func (n framesNode) Holds(ctx context.Context, addr b3.Addr, data []byte) error {
	return n.s.holds(ctx, []object{{addr, data}})
}

func (n framesNode) Step(ctx context.Context, did, expect string, f func(context.Context, frames.Step) error) error {
	return n.s.step(ctx, did, expect, func(ctx context.Context, st *Step) error { return f(ctx, noted{st}) })
}

type noted struct{ st *Step }

func (n noted) Count(name string, v float64)   { n.st.count(name, v) }
func (n noted) Saw(format string, args ...any) { n.st.saw(format, args...) }
