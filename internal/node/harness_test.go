// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/datadir"
)

// patience bounds every wait; nothing here is timed.
const patience = 30 * time.Second

// logBuffer is a log that a test can read while the node writes it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// prepareDev makes a development data directory and says how to run from it.
func prepareDev(tb testing.TB, dir string) Options {
	tb.Helper()
	o := Options{Dir: dir, HTTP: "127.0.0.1:0", OAP: "127.0.0.1:0", Stderr: &logBuffer{}}
	if err := PrepareDev(tb.Context(), &o); err != nil {
		tb.Fatal(err)
	}
	return o
}

// begin starts a node that stops with the test, and waits until it is ready.
func begin(tb testing.TB, o Options) *Node {
	tb.Helper()
	n, err := Start(tb.Context(), o)
	if err != nil {
		tb.Fatalf("start: %v\n%s", err, o.Stderr)
	}
	tb.Cleanup(func() { end(tb, n) })
	poll(tb, "readiness", func() bool { ready, _ := n.ready.Probe(tb.Context()); return ready })
	return n
}

// end stops a node, once.
func end(tb testing.TB, n *Node) {
	tb.Helper()
	if n.stopping.Load() {
		return
	}
	if err := n.Stop(context.Background()); err != nil {
		tb.Errorf("stop: %v", err)
	}
}

func beginDev(tb testing.TB) *Node {
	tb.Helper()
	return begin(tb, prepareDev(tb, tb.TempDir()))
}

// poll waits until done reports true.
func poll(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			tb.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// token reads a capability file of the data directory.
func (n *Node) token(tb testing.TB, name string) string {
	tb.Helper()
	text, err := os.ReadFile(n.dir.At(name))
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// dial is a client with the capability in a file of the data directory.
func (n *Node) dial(tb testing.TB, capability string) *client.Client {
	tb.Helper()
	c, err := client.Dial(n.endpoints().HTTP, client.Options{Token: n.token(tb, capability), InsecureTLS: true, Retries: -1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

func (n *Node) operator(tb testing.TB) *client.Client { return n.dial(tb, datadir.OperatorCapName) }
func (n *Node) tenant(tb testing.TB) *client.Client   { return n.dial(tb, datadir.TenantCapName) }
