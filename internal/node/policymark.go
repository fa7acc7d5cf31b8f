// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/policy/mark"
)

// policyMarks are all who know how far this node's policy has come. A snapshot
// that is restored, and a witnessed checkpoint, are added here.
func (n *Node) policyMarks() []mark.Source {
	return []mark.Source{datadir.NewPolicyMark(n.keys)}
}

// judgePolicy refuses a policy that would take the node back. It changes nothing.
func (n *Node) judgePolicy(set *policy.Set, l *config.Loaded) (datadir.PolicyStep, error) {
	applied, err := n.dir.Applied()
	if err != nil {
		return datadir.PolicyStep{}, err
	}
	return datadir.JudgePolicy(set, l, applied, n.opts.Overrides.AllowRollback.Value, n.policyMarks()...)
}

// markPolicy remembers, durably, the policy that is about to decide. It comes
// before the config counts as applied: a policy is never in force unmarked, and
// what is marked and then not in force can be applied again.
func (n *Node) markPolicy(ctx context.Context, l *config.Loaded) error {
	s := n.policyStep
	b := s.Next.InForce()
	if s.RolledBack {
		n.log.Warn("an older policy comes into force because an operator allowed it", "event", "policy_rollback", "version", b.Version, "bundle_hash", b.Hash, "reason", s.Why)
		err := n.audit.Append(ctx, macronode.AuditEvent{Stream: "node", Kind: "policy.rollback", Actor: "node", Subject: "node/policy",
			Attrs: map[string]any{"version": b.Version, "bundle_hash": b.Hash, "mark": s.Next.Version, "config_version": int64(l.Version)}})
		if err != nil {
			return err
		}
	}
	if s.Skipped {
		n.log.Warn("this policy was built on an earlier one than the one it replaces; what changed in between is not in it unless it was put there",
			"event", "policy_skipped", "version", b.Version, "bundle_hash", b.Hash)
	}
	return datadir.NewPolicyMark(n.keys).Set(ctx, s.Next)
}
