// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
	"github.com/rustyonions/macronode/registry"
)

// Signatures is the body of an approval or a rejection.
type Signatures struct {
	Signatures []registry.Signature `json:"signatures"`
	Reason     string               `json:"reason,omitempty"`
}

// Withdrawal is the body that withdraws a proposal.
type Withdrawal struct {
	Reason string `json:"reason,omitempty"`
}

// SignRequest asks the node to sign with a key of its key service.
type SignRequest struct {
	Key      string            `json:"key"` // KMS:key/NAME, of purpose registry
	Decision registry.Decision `json:"decision"`
}

// decide takes signatures for or against a proposal.
func (s *Service) decide(d registry.Decision) idem.Handler {
	return func(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
		var req Signatures
		if err := readBody(body, &req); err != nil {
			return nil, err
		}
		if err := checkReason(req.Reason); err != nil {
			return nil, err
		}
		if err := byCapability(a); err != nil {
			return nil, err
		}
		id, err := proposalID(a)
		if err != nil {
			return nil, err
		}
		registry.SortSignatures(req.Signatures)
		c, err := s.begin(ctx)
		if err != nil {
			return nil, err
		}
		defer s.unlock()
		reply, err := s.decided(ctx, c, a.Actor(), id, d, &req, claim)
		result := "counted"
		if err != nil {
			result = "refused"
		}
		s.c.Metrics.approvals.WithLabelValues(result).Inc()
		return reply, err
	}
}

// decided is decide with the lock held.
func (s *Service) decided(ctx context.Context, c *chain.Chain, actor string, id b3.Addr, d registry.Decision, req *Signatures, claim *idem.Claim) (*macronode.Reply, error) {
	h, err := s.openNow(ctx, c, id)
	if err != nil {
		return nil, err
	}
	keys, err := mustCount(c.State, h.p, d, req.Signatures)
	if err != nil {
		return nil, err
	}
	nowMS := s.now().UnixMilli()
	list := &h.rec.Approvals
	if d == registry.Reject {
		list = &h.rec.Rejections
	}
	*list = merge(*list, req.Signatures)
	for _, key := range keys {
		h.rec.Notes = slices.DeleteFunc(h.rec.Notes, func(n Note) bool { return n.Key == key && n.Decision == d })
		h.rec.Notes = append(h.rec.Notes, Note{Key: key, Decision: d, Reason: req.Reason, By: actor, TSMS: nowMS})
	}
	if len(h.rec.Notes) > maxNotes {
		return nil, macronode.Errorf(macronode.Conflict, "the proposal has seen more decisions than it can hold; make it anew")
	}
	// Who decides anew takes the earlier decision back.
	other := &h.rec.Rejections
	if d == registry.Reject {
		other = &h.rec.Approvals
	}
	*other = slices.DeleteFunc(*other, func(sig registry.Signature) bool { return slices.Contains(keys, keyNameOf(sig.KeyID)) })
	t, err := c.State.Count(h.p, d, *list)
	if err != nil {
		return nil, refusal(err)
	}
	*list = t.Counted
	if d == registry.Approve && t.Done() {
		return s.commit(ctx, c, actor, h, claim)
	}
	kind := "registry.approve"
	if d == registry.Reject {
		kind = "registry.reject"
		if t.Blocked() {
			reason := req.Reason
			if reason == "" {
				reason = "rejected by " + strings.Join(t.Names, ", ")
			}
			h.close(stateRejected, reason, nowMS)
		}
	}
	return s.keep(ctx, c, actor, kind, h, keys, claim)
}

// keep makes a decision durable that commits nothing.
func (s *Service) keep(ctx context.Context, c *chain.Chain, actor, kind string, h *held, keys []string, claim *idem.Claim) (*macronode.Reply, error) {
	event := macronode.AuditEvent{Stream: "node", Kind: kind, Actor: actor, Subject: subject("proposal", h.id), Attrs: map[string]any{"keys": shortList(keys)}}
	if err := s.record(ctx, event); err != nil {
		return nil, err
	}
	reply, err := s.reply(200, c.State, h)
	if err == nil {
		err = s.kv.Update(ctx, func(tx store.Tx) error {
			if err := h.put(tx); err != nil {
				return err
			}
			return claim.Keep(tx, reply)
		})
	}
	if err != nil {
		err = s.unsure(err)
		s.failed(event, err)
		return nil, err
	}
	s.closed(h)
	return reply, nil
}

// mustCount refuses signatures of which one does not count, and returns their keys.
func mustCount(state *registry.State, p *registry.Proposal, d registry.Decision, list []registry.Signature) ([]string, error) {
	if len(list) == 0 {
		return nil, macronode.Errorf(macronode.Malformed, "signatures is a list of at least one")
	}
	t, err := state.Count(p, d, list)
	if err != nil {
		return nil, refusal(err)
	}
	if len(t.Counted) == len(list) {
		return t.Keys, nil
	}
	for _, sig := range list {
		if !slices.ContainsFunc(t.Counted, func(x registry.Signature) bool { return x.KeyID == sig.KeyID }) {
			return nil, macronode.Errorf(macronode.Denied, "%s is no signer's, or one half of a hybrid key alone", sig.KeyID)
		}
	}
	return nil, macronode.Errorf(macronode.Denied, "a signature does not count")
}

// merge is old with what is new, by key id.
func merge(old, list []registry.Signature) []registry.Signature {
	out := slices.Clone(list)
	for _, sig := range old {
		if !slices.ContainsFunc(list, func(x registry.Signature) bool { return x.KeyID == sig.KeyID }) {
			out = append(out, sig)
		}
	}
	registry.SortSignatures(out)
	return out
}

// keyNameOf is "NAME#vN" of a signature's key id.
func keyNameOf(keyID string) string {
	name, _, _ := strings.Cut(keyID, "/")
	return name
}

// shortList fits an audit record.
func shortList(keys []string) string {
	s := strings.Join(keys, " ")
	if len(s) > 512 {
		s = s[:512]
	}
	return s
}

// commit puts the proposal of h, which has its approvals, into the chain.
func (s *Service) commit(ctx context.Context, c *chain.Chain, actor string, h *held, claim *idem.Claim) (*macronode.Reply, error) {
	nowMS := s.now().UnixMilli()
	e, next, err := c.State.Next(h.p, h.rec.Approvals, nowMS)
	if errors.Is(err, registry.ErrStale) || errors.Is(err, registry.ErrRule) {
		return nil, s.outdated(ctx, h, err)
	}
	if err != nil {
		return nil, refusal(err)
	}
	step, err := s.prepare(c, e, next)
	if err != nil {
		return nil, err
	}
	h.close(stateCommitted, "", nowMS)
	h.rec.Seq = e.Seq
	others, err := s.aftermath(ctx, c.State, next, h, nowMS)
	if err != nil {
		return nil, s.storeError(err)
	}
	event := macronode.AuditEvent{Stream: "node", Kind: "registry.commit", Actor: actor, Subject: subject("proposal", h.id),
		Attrs: map[string]any{"seq": int64(e.Seq), "entry": next.Head().String(), "state": e.State}} //nolint:gosec // within MaxSize
	if err := s.record(ctx, event); err != nil {
		return nil, err
	}
	reply, err := s.reply(200, next, h)
	if err == nil {
		err = s.kv.Update(ctx, func(tx store.Tx) error {
			for _, x := range append(others, h) {
				if err := x.put(tx); err != nil {
					return err
				}
			}
			if err := step.write(tx); err != nil {
				return err
			}
			return claim.Keep(tx, reply)
		})
	}
	if err != nil {
		err = s.unsure(err)
		s.failed(event, err)
		return nil, err
	}
	s.took(step)
	for _, x := range append(others, h) {
		s.closed(x)
	}
	return reply, nil
}

// outdated closes a proposal that cannot be committed any more.
func (s *Service) outdated(ctx context.Context, h *held, cause error) error {
	h.close(stateSuperseded, cause.Error(), s.now().UnixMilli())
	if err := s.kv.Update(ctx, h.put); err != nil {
		return s.unsure(err)
	}
	s.closed(h)
	return refusal(cause)
}

// aftermath is what a commit does to the other proposals that are open: it ends those
// that it supersedes and those that do not apply any more, and takes approvals from
// them that count no more.
func (s *Service) aftermath(ctx context.Context, was, next *registry.State, done *held, nowMS int64) (changed []*held, err error) {
	list, err := s.openOnes(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		if x.id == done.id {
			continue
		}
		switch err := next.Try(x.p); {
		case done.p.Ends(x.id):
			x.close(stateSuperseded, "by "+done.id.String(), nowMS)
		case err != nil:
			x.close(stateSuperseded, "after "+done.id.String()+": "+err.Error(), nowMS)
		case was.SignersAddr() == next.SignersAddr() || !dropStrangers(next, x):
			continue
		}
		changed = append(changed, x)
	}
	return changed, nil
}

// dropStrangers takes signatures from x whose keys are registered no more, nor would
// be by x itself. A key's name and version are never given to another, so names tell.
func dropStrangers(state *registry.State, x *held) (dropped bool) {
	known := make(map[string]bool)
	note := func(list []bundle.Anchor) {
		for i := range list {
			known[registry.KeyName(&list[i])] = true
		}
	}
	note(state.Signers().Signers)
	for i := range x.p.Changes {
		if d := x.p.Changes[i].Descriptor; d != nil && d.Signers != nil {
			note(d.Signers.Signers)
		}
	}
	strange := func(sig registry.Signature) bool {
		gone := !known[keyNameOf(sig.KeyID)]
		dropped = dropped || gone
		return gone
	}
	x.rec.Approvals = slices.DeleteFunc(x.rec.Approvals, strange)
	x.rec.Rejections = slices.DeleteFunc(x.rec.Rejections, strange)
	return dropped
}

// step is a change of the chain: entries behind those that there are.
type step struct {
	prev    *chain.Chain
	entries []*registry.Entry
	texts   [][]byte
	states  []*registry.State // after each
	signed  []byte            // the head
	head    *registry.Head
}

// prepare makes the step of one entry that this node commits. The tree is put ahead
// for the signature and back again: it is shown when the step was taken.
func (s *Service) prepare(c *chain.Chain, e *registry.Entry, next *registry.State) (*step, error) {
	text, err := e.Encode()
	if err != nil {
		return nil, refusal(err)
	}
	st := &step{prev: c, entries: []*registry.Entry{e}, texts: [][]byte{text}, states: []*registry.State{next}}
	s.trees.RLock()
	ahead := c.Tree.Clone()
	s.trees.RUnlock()
	if err := ahead.Add(registry.LeafOf(text)); err != nil {
		return nil, store.Refusal(err)
	}
	if st.signed, st.head, err = s.sign(next, ahead); err != nil {
		return nil, macronode.Wrap(macronode.Unavailable, "the head cannot be signed now, so nothing was done", err)
	}
	return st, nil
}

// write is the step in a transaction.
func (st *step) write(tx store.Tx) error {
	prev := st.prev.State
	for i, e := range st.entries {
		if err := chain.Append(tx, e, st.texts[i], prev, st.states[i]); err != nil {
			return err
		}
		prev = st.states[i]
	}
	return chain.SetSigned(tx, st.signed)
}

// took shows a step that was made durable.
func (s *Service) took(st *step) {
	c := *st.prev
	s.trees.Lock()
	for _, text := range st.texts {
		if err := c.Tree.Add(registry.LeafOf(text)); err != nil {
			s.stuck = true // it is read again before the next change
		}
	}
	s.trees.Unlock()
	c.Signed, c.Head = st.signed, st.head
	if n := len(st.states); n > 0 {
		c.State = st.states[n-1]
	}
	s.show(&c)
	s.c.Tell(c.Signed)
}
