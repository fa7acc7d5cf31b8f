// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode/test/bench/children"
)

// Init makes a node's data directory in dir: both wires unencrypted on free ports
// of loopback, one tenant, everything else as init leaves it.
func Init(ctx context.Context, bin, dir string) (*Node, error) {
	bin, err := filepath.Abs(filepath.Join(bin, "macronode"))
	if err != nil {
		return nil, err
	}
	httpPort, err1 := children.FreePort()
	oapPort, err2 := children.FreePort()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(httpPort)
	n := &Node{Bin: bin, Data: filepath.Join(dir, "data"), URL: "http://" + addr, OAP: "127.0.0.1:" + strconv.Itoa(oapPort)}
	_, err = n.Tool(ctx, "init", "--data", n.Data, "--http", addr, "--oap", n.OAP, "--tls", "none", "--tenant", "bench")
	return n, err
}

// Token is the capability of the tenant that Init made.
func (n *Node) Token() (string, error) {
	text, err := os.ReadFile(filepath.Join(n.Data, "tenant.cap"))
	return strings.TrimSpace(string(text)), err
}

// Run starts the node, its output in the file log, and waits until it is ready.
func (n *Node) Run(ctx context.Context, procs *children.Group, log string) (*children.Proc, error) {
	p, err := procs.Start("macronode", log, nil, n.Bin, "run", "--config", n.Conf(), "--data", n.Data)
	if err != nil {
		return nil, err
	}
	return p, p.Ready(ctx, n.URL+"/readyz")
}
