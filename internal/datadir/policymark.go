// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/policy/mark"
)

// PolicyMark is a data directory's own mark: how far its policy has come. It lies
// sealed in the keystore, whose manifest tells of a record that was deleted or
// put back, so that it is not lowered by hand without notice.
type PolicyMark struct{ keys *kms.Store }

// NewPolicyMark is the mark in this keystore.
func NewPolicyMark(keys *kms.Store) PolicyMark { return PolicyMark{keys} }

var _ mark.Source = PolicyMark{}

// Name implements mark.Source.
func (PolicyMark) Name() string { return "the data directory" }

// Mark implements mark.Source.
func (p PolicyMark) Mark() (mark.Mark, error) {
	text, _, err := p.keys.Object(bundle.Ref{Kind: bundle.RefObject, Name: kms.PolicyMarkObject})
	if macronode.KindOf(err) == macronode.NotFound {
		return mark.Mark{}, nil
	}
	if err != nil {
		return mark.Mark{}, err
	}
	return mark.Decode(text)
}

// keptMarks is how many versions of the mark's record stay behind; the newest is
// the one that counts.
const keptMarks = 8

// Set makes m the directory's mark, durably, before it returns nil. What is the
// mark already is not written again.
func (p PolicyMark) Set(ctx context.Context, m mark.Mark) error {
	if now, err := p.Mark(); err == nil && reflect.DeepEqual(now, m) {
		return nil
	}
	text, err := m.Encode()
	if err != nil {
		return err
	}
	info, _, err := p.keys.PutObject(ctx, kms.PolicyMarkObject, 0, text)
	if err != nil {
		return fmt.Errorf("policy mark: %w", err)
	}
	if info.Version > keptMarks {
		// What stays behind by a failure here is only clutter.
		_ = p.keys.DropObject(ctx, bundle.Ref{Kind: bundle.RefObject, Name: kms.PolicyMarkObject, Version: info.Version - keptMarks})
	}
	return nil
}

// PolicyStep is a policy bundle about to come into force, judged.
type PolicyStep struct {
	Next mark.Mark // the mark to set, durably, before the bundle decides anything
	// RolledBack says that only --allow-rollback let the bundle in, which is
	// audited; Why is what would have kept it out.
	RolledBack bool
	Why        string
	// Skipped says that the bundle does not follow the one in force but an
	// earlier one: what was changed in between may be lost.
	Skipped bool
}

// JudgePolicy applies the one rule against going back, the same at a reload, at a
// cold start and after a restore, to the policy that a config bundle pins.
// allowRollback is the --allow-rollback of the command line: where it names this
// very config bundle, which pins one policy, that policy may be an older one. A
// refusal carries exit code 4.
func JudgePolicy(set *policy.Set, l *config.Loaded, applied config.Applied, allowRollback string, sources ...mark.Source) (PolicyStep, error) {
	allowed := false
	if allowRollback != "" {
		a, err := config.ParseRollback(allowRollback)
		allowed = err == nil && a == l.Applied()
	}
	now, err := mark.Highest(sources...)
	if err != nil && !allowed {
		return PolicyStep{}, Exitf(macronode.ExitTrust, "%w; it says which policy was in force, and is not guessed: %s", err, goBack(l))
	}
	b := mark.Bundle{Version: set.Version(), Hash: set.Hash(), Previous: set.Previous()}
	// A directory from before there were marks: what the config bundle pins that
	// was applied last is what was in force.
	if err == nil && now.IsZero() && !applied.IsZero() && applied == l.Applied() {
		next, err := now.Advance(b, true)
		return PolicyStep{Next: next}, err
	}
	refused := errors.Join(err, now.Judge(b))
	if refused != nil && !allowed {
		return PolicyStep{}, Exitf(macronode.ExitTrust, "policy bundle %s is refused: %w; %s", l.Config.Policy.BundleKMS, refused, goBack(l))
	}
	step := PolicyStep{RolledBack: refused != nil, Skipped: refused == nil && b.Version > now.Version && b.Previous != now.InForce().Hash}
	if refused != nil {
		step.Why = refused.Error()
	}
	step.Next, err = now.Advance(b, allowed)
	return step, err
}

// goBack tells the two ways to older content.
func goBack(l *config.Loaded) string {
	return fmt.Sprintf("issue the old content again as a new version with macronode policy build OLD.json, or start once with --allow-rollback %s", l.Applied())
}
