// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/test/bench/operate"
	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/bench/steady"
)

const steadyWorkers = 64

// measureSteady changes everything that can be changed while a node is asked
// for the same things at the same pace, and counts whoever notices.
func measureSteady(ctx context.Context, b *bench) (*report.Section, error) {
	sec := &report.Section{Head: []string{"what", "value", "goal", ""}}
	sec.Note("%d requests over TLS 1.3, one every 1/%d s whatever the answers, by %d workers with a keep-alive connection each; one in fifty makes a connection of its own, with a full handshake. "+
		"Of twenty requests twelve read %s and compare every byte, six put %s and compare the address, one signs with a key of the node and one verifies an earlier signature. Time counts from when a request was due; *slow* is more than a second. "+
		"A worker that an overloaded node tells when to come again does so, as this node's client does, until that would be slow; its time goes on. "+
		"Meanwhile, spread evenly: %d reloads (each changes `max_inflight`, `max_conns`, `stall_timeout`, `cache_ttl_ms` and the log level, each fourth the policy bundle as well), "+
		"%d key rotations (the tenant's minting key twice, the signing key otherwise; old tokens and signatures stay in use beside new ones), %d certificate rotations (new key, request, certificate by an authority, stored, reloaded; done when new connections are shown it).",
		b.set.requests, b.set.rate, steadyWorkers, sizeName(steady.ReadBytes), sizeName(steady.WriteBytes), steady.Reloads, steady.KeyRotations, steady.CertRotations)
	dir, err := b.scratch("steady")
	if err != nil {
		return nil, err
	}
	authority, err := operate.NewAuthority()
	if err != nil {
		return nil, err
	}
	pair, err := authority.NewPair(dir)
	if err != nil {
		return nil, err
	}
	s, err := b.startNodeWith(ctx, "[server] tls with an imported P-256 key", func(n *operate.Node) error { return authority.ServeTLS(ctx, n, pair) })
	if err != nil {
		return nil, err
	}
	servers(sec, s)
	changes, err := setUpSteady(ctx, s.node, authority)
	if err != nil {
		return nil, s.Failed(err)
	}
	load := func(seed uint8, requests int) *steady.Load {
		l := &steady.Load{Seed: seed, URL: s.url, Roots: s.node.Roots, Key: changes.Key, Requests: requests, Rate: float64(b.set.rate), Workers: steadyWorkers}
		l.Use(changes.Tenant.Token)
		return l
	}
	token, err := os.ReadFile(filepath.Join(s.node.Data, "operator.cap"))
	if err != nil {
		return nil, err
	}
	quiet := load(1, b.set.rate*5)
	quiet.Operator = strings.TrimSpace(string(token))
	before, err := quiet.Run(ctx)
	if err != nil {
		return nil, s.Failed(err)
	}
	memory, err := s.Memory()
	if err != nil {
		return nil, err
	}
	changes.Load = load(2, b.set.requests)
	changes.Load.Operator = quiet.Operator
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var made []steady.Change
	failed := make(chan error, 1)
	go func() {
		var err error
		if made, err = changes.Make(ctx); err != nil {
			cancel() // the load need not go on
		}
		failed <- err
	}()
	count, err := changes.Load.Run(ctx)
	if err != nil {
		cancel()
	}
	if err := errors.Join(<-failed, err); err != nil {
		return nil, s.Failed(fmt.Errorf("%w\n%s", err, strings.Join(count.Errors, "\n")))
	}
	after, err := s.Memory()
	if err != nil {
		return nil, err
	}
	changes.Report(sec, before, count, made)
	sec.Value("memory before and after", fmt.Sprintf("%d MiB, %d MiB", memory/mib, after/mib), "", nil)
	return sec, s.Stop()
}

// setUpSteady makes the tenant and the keys that the load uses.
func setUpSteady(ctx context.Context, n *operate.Node, a *operate.Authority) (*steady.Changes, error) {
	tenants, err := n.Tenants(ctx, "steady")
	if err == nil {
		err = n.Policy(ctx, tenants...)
	}
	if err == nil {
		err = n.Reload(ctx)
	}
	if err != nil {
		return nil, err
	}
	c := &steady.Changes{Node: n, Authority: a, Tenant: tenants[0], Key: "steady"}
	var cl *client.Client
	if cl, err = n.Client(); err != nil {
		return nil, err
	}
	defer cl.Close()
	return c, cl.JSON(ctx, "POST", "/v1/kms/keys", "", map[string]string{"name": c.Key, "alg": "ed25519", "purpose": "app"}, nil)
}
