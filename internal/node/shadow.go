// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"

	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/policy/shadow"
)

// makeWatcher makes what sees policy decisions from the side.
func (n *Node) makeWatcher(c *config.Policy) *shadow.Watcher {
	n.watcher = shadow.New(shadow.Config{Record: int(c.Record), Metrics: shadow.NewMetrics(n.metrics)})
	n.metrics.Queue("policy_observe", n.watcher.Depth)
	return n.watcher
}

// prepareShadow verifies the candidate that the config names as if it were to be
// in force: signature, pin, expiry, its own tests. Nil where none is named.
func (n *Node) prepareShadow(ctx context.Context, c *config.Policy) (*policy.Set, error) {
	if c.ShadowKMS.IsZero() {
		return nil, nil
	}
	set, err := n.policy.PrepareFrom(ctx, parts.KeysSource{Keys: n.keys, Ref: c.ShadowKMS}, c.ShadowHash.String())
	if err != nil {
		return nil, fmt.Errorf("shadow policy %s: %w", c.ShadowKMS, err)
	}
	return set, nil
}

// startShadow asks the candidate from the start. One that is not in order keeps
// no node from starting: it decides nothing.
func (n *Node) startShadow(ctx context.Context, c *config.Policy) {
	set, err := n.prepareShadow(ctx, c)
	if err != nil {
		n.log.Error("the shadow policy is refused; the node starts without it", "event", "policy_shadow", "outcome", "refused", "reason", err.Error())
	}
	n.setShadow(set)
}

func (n *Node) setShadow(set *policy.Set) {
	if set == nil {
		n.watcher.SetCandidate(nil)
		return
	}
	n.watcher.SetCandidate(set.Set)
}
