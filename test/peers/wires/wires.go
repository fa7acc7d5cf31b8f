// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package wires measures the node's two wires beside each other and beside
// grpc-go: the same bytes, read by one program.
package wires

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/operate"
	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/peers/rounds"
)

// What is measured, and what was wanted.
const (
	streams   = 64 // calls at a time on one connection
	httpConns = 32
	smallSize = 1 << 10
	bulkSize  = 64 << 20
	bulkRead  = 256 << 10 // of a reader of bulk
	goalHTTP  = 2.0       // times the rate
	goalGRPC  = 1.5
	goalBulk  = 0.9
)

// bench is what the measurements share.
type bench struct {
	plan  rounds.Plan
	dir   string
	procs children.Group
	sec   *report.Section
}

// Measure is the part of the report.
func Measure(ctx context.Context, plan rounds.Plan) (_ *report.Section, err error) {
	b := &bench{plan: plan, sec: &report.Section{Head: []string{"read", "wire", "calls/s", "range", "MB/s", "p50 ms", "p99 ms", "server's µs a call", "client's µs a call", "refused %", "OAP/1 is", "goal", ""}}}
	if b.dir, err = os.MkdirTemp(plan.Dir, "wires-"); err != nil {
		return nil, err
	}
	defer func() {
		b.procs.KillAll()
		err = errors.Join(err, os.RemoveAll(b.dir))
	}()
	b.sec.Note("One Go program reads with package client over both of the node's wires, and with grpc-go, %s a run, in turn, %d rounds, medians; a first round is not counted. It and the servers share the processors. "+
		"Small reads: %d calls at a time over one connection of OAP/1, %d over as many of HTTP/1.1, %d over one of grpc-go. Bulk: one read at a time. "+
		"The node authenticates, decides and meters each call; the grpc server does none of it, its messages are bytes as they are (no protobuf), and it has `NumStreamWorkers` of as many processors as there are. "+
		"What the node refuses with 503 counts as refused alone. Processor time is user and system.", plan.Span, plan.Rounds, streams, httpConns, streams)
	if err := b.codec(ctx); err != nil {
		return nil, err
	}
	plain, err := b.node(ctx, nil)
	if err != nil {
		return nil, err
	}
	if err := b.small(ctx, plain); err != nil {
		return nil, err
	}
	if err := b.bulk(ctx, "64 MiB", plain); err != nil {
		return nil, err
	}
	plain.proc.Kill()
	authority, err := operate.NewAuthority()
	if err != nil {
		return nil, err
	}
	secure, err := b.node(ctx, authority)
	if err != nil {
		return nil, err
	}
	return b.sec, b.bulk(ctx, "64 MiB, TLS", secure)
}

// node is a running one with an object of each size.
type node struct {
	*operate.Node
	proc        *children.Proc
	token       string
	small, bulk string // paths
}

// node starts one, with TLS where there is an authority.
func (b *bench) node(ctx context.Context, authority *operate.Authority) (*node, error) {
	dir, err := os.MkdirTemp(b.dir, "node-")
	if err != nil {
		return nil, err
	}
	n := &node{}
	if n.Node, err = operate.Init(ctx, b.plan.Bin, dir); err != nil {
		return nil, err
	}
	note := "tls off"
	if authority != nil {
		note = "[server] tls with a P-256 key"
		pair, err := authority.NewPair(dir)
		if err == nil {
			err = authority.ServeTLS(ctx, n.Node, pair)
		}
		if err != nil {
			return nil, err
		}
	}
	if n.proc, err = n.Run(ctx, &b.procs, filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	if n.token, err = n.Token(); err != nil {
		return nil, err
	}
	c, err := n.dial(false, 1)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for path, size := range map[*string]int64{&n.small: smallSize, &n.bulk: bulkSize} {
		put, err := c.Put(ctx, bytes.NewReader(content(size)), client.PutOptions{})
		if err != nil {
			return nil, n.proc.Failed(err)
		}
		*path = "/o/" + put.Addr.String()
	}
	version, err := n.Tool(ctx, "version")
	line, _, _ := strings.Cut(string(version), "\n")
	b.sec.Servers = append(b.sec.Servers, fmt.Sprintf("macronode (%s): `macronode run --config DIR/macronode.bundle.toml --data DIR` after `macronode init --tls none --tenant bench`, %s", line, note))
	return n, err
}

// dial is a client on one of the wires.
func (n *node) dial(oap bool, conns int) (*client.Client, error) {
	url := n.URL
	switch {
	case oap && n.Roots != nil:
		url = "oaps://" + n.OAP
	case oap:
		url = "oap://" + n.OAP
	}
	return client.Dial(url, client.Options{Token: n.token, CA: n.Roots, IdleConns: conns, Retries: -1})
}

// content is the same pseudorandom bytes each time.
func content(size int64) []byte {
	b := make([]byte, size)
	_, _ = io.ReadFull(rand.NewChaCha8([32]byte{1}), b) // it does not fail
	return b
}

// lanes are the node's wires, OAP/1 first.
func (n *node) lanes(path string, size int64, oapWorkers, httpWorkers int) ([]*lane, error) {
	oap, err1 := n.dial(true, 1)
	web, err2 := n.dial(false, httpWorkers)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return []*lane{
		{name: "OAP/1", server: n.proc, workers: oapWorkers, call: get(oap, path, size), done: oap.Close},
		{name: "HTTP/1.1", server: n.proc, workers: httpWorkers, call: get(web, path, size), done: web.Close},
	}, nil
}

// small compares the wires where a call is all that there is.
func (b *bench) small(ctx context.Context, n *node) error {
	lanes, err := n.lanes(n.small, smallSize, streams, httpConns)
	if err != nil {
		return err
	}
	peer, err := b.grpc(ctx)
	if err != nil {
		return err
	}
	lanes = append(lanes, peer)
	return b.compare(ctx, "1 KiB", smallSize, 4<<10, lanes, []float64{0, goalHTTP, goalGRPC})
}

// bulk compares them where bytes are.
func (b *bench) bulk(ctx context.Context, cell string, n *node) error {
	lanes, err := n.lanes(n.bulk, bulkSize, 1, 1)
	if err != nil {
		return err
	}
	return b.compare(ctx, cell, bulkSize, bulkRead, lanes, []float64{0, goalBulk})
}

// compare races the lanes and adds a row for each; goals are the first one's
// rate as multiples of theirs.
func (b *bench) compare(ctx context.Context, cell string, size int64, bufBytes int, lanes []*lane, goals []float64) error {
	if err := race(ctx, b.plan.Rounds, b.plan.Span, bufBytes, lanes); err != nil {
		return fmt.Errorf("%s: %w", cell, err)
	}
	first := report.StatOf(lanes[0].runs, rateOf).Median
	for i, l := range lanes {
		l.done()
		rate := report.StatOf(l.runs, rateOf)
		median := func(f func(run) float64) float64 { return report.StatOf(l.runs, f).Median }
		row := []string{cell, l.name, report.Number(rate.Median), report.Number(rate.Low) + "-" + report.Number(rate.High), report.Number(rate.Median * float64(size) / 1e6),
			fmt.Sprintf("%.2f", median(func(r run) float64 { return r.P50 })), fmt.Sprintf("%.2f", median(func(r run) float64 { return r.P99 })),
			report.Number(median(func(r run) float64 { return r.server })), report.Number(median(func(r run) float64 { return r.client })), fmt.Sprintf("%.2f", median(func(r run) float64 { return r.refused })), "", "", ""}
		if i > 0 {
			ratio := first / rate.Median
			got, want := fmt.Sprintf("%.2f×", ratio), fmt.Sprintf("≥ %g×", goals[i])
			row = append(row[:10], got, want, b.sec.Judge(cell+": OAP/1 to "+l.name, want, got, ratio >= goals[i]))
		}
		b.sec.Row(row...)
		kept := report.Run{Cell: cell, Server: l.name}
		for _, r := range l.runs {
			kept.Rounds = append(kept.Rounds, r.Result)
		}
		b.sec.Runs = append(b.sec.Runs, kept)
	}
	return nil
}

// grpc starts the peer, in a process of its own as the node.
func (b *bench) grpc(ctx context.Context) (*lane, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	port, err := children.FreePort()
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	proc, err := b.procs.Start("grpc", filepath.Join(b.dir, "grpc.log"), nil, self, "grpc", addr)
	if err != nil {
		return nil, err
	}
	conn, err := dialGRPC(addr)
	if err != nil {
		return nil, err
	}
	for conn.Connect(); ; {
		s := conn.GetState()
		if s.String() == "READY" {
			break
		}
		if !conn.WaitForStateChange(ctx, s) {
			return nil, proc.Failed(ctx.Err())
		}
	}
	name := []byte(strings.Repeat("b", 67)) // as long as an address
	b.sec.Servers = append(b.sec.Servers, "grpc-go ("+grpcVersion()+"): `peers grpc 127.0.0.1:PORT`, unary, unencrypted")
	return &lane{name: "grpc-go", server: proc, workers: streams, done: func() { _ = conn.Close() }, call: func(ctx context.Context, buf []byte) error {
		in, out := name, buf[:0]
		if err := conn.Invoke(ctx, getMethod, &in, &out); err != nil {
			return err
		}
		if len(out) != smallSize {
			return fmt.Errorf("%d bytes came, not %d", len(out), smallSize)
		}
		return nil
	}}, nil
}

// GRPC is the peer's process.
func GRPC(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return ServeGRPC(l, map[string][]byte{strings.Repeat("b", 67): content(smallSize)})
}
