// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
	"github.com/rustyonions/macronode/registry"
)

const (
	proposalPrefix = "registry/proposal/"
	openPrefix     = "registry/open/"
	closedPrefix   = "registry/closed/"
)

func idKey(prefix string, id b3.Addr) []byte { return append([]byte(prefix), id[:]...) }

func closedKey(ms int64, id b3.Addr) []byte {
	return append(binary.BigEndian.AppendUint64([]byte(closedPrefix), uint64(ms)), id[:]...) //nolint:gosec // not negative
}

// States of a proposal.
const (
	stateOpen       = "open"
	stateCommitted  = "committed"
	stateRejected   = "rejected"
	stateSuperseded = "superseded"
	stateWithdrawn  = "withdrawn"
	stateExpired    = "expired"
)

func states() []string {
	return []string{stateOpen, stateCommitted, stateRejected, stateSuperseded, stateWithdrawn, stateExpired}
}

const (
	// maxOpen bounds the proposals that wait at a time.
	maxOpen = 64
	// keepClosed is how long a proposal is shown after it was closed; maxClosed is
	// how many are.
	keepClosed = 30 * 24 * time.Hour
	maxClosed  = 1024
	sweepEvery = time.Minute
)

// record is a proposal as stored.
type record struct {
	Proposal   json.RawMessage      `json:"proposal"`
	State      string               `json:"state"`
	Reason     string               `json:"reason,omitempty"`
	By         string               `json:"by"`
	OpenedMS   int64                `json:"opened_ms"`
	ClosedMS   int64                `json:"closed_ms,omitempty"`
	Seq        uint64               `json:"seq,omitempty"` // of the entry that committed it
	Approvals  []registry.Signature `json:"approvals,omitempty"`
	Rejections []registry.Signature `json:"rejections,omitempty"`
	Notes      []Note               `json:"notes,omitempty"`
}

// Note is who decided what, when, and through which capability.
type Note struct {
	Key      string            `json:"key"` // "NAME#vN"
	Decision registry.Decision `json:"decision"`
	Reason   string            `json:"reason,omitempty"`
	By       string            `json:"by"`
	TSMS     int64             `json:"ts_ms"`
}

// maxNotes bounds the notes of a proposal.
const maxNotes = 4 * registry.MaxSigners

// Proposal is a proposal as the routes show it.
type Proposal struct {
	ID    string `json:"id"`
	State string `json:"state"` // open, committed, rejected, superseded, withdrawn, expired
	// Reason is why it was closed.
	Reason   string `json:"reason,omitempty"`
	By       string `json:"by"`
	OpenedMS int64  `json:"opened_ms"`
	ClosedMS int64  `json:"closed_ms,omitempty"`
	// Seq is the place of the entry that committed it.
	Seq uint64 `json:"seq,omitempty"`
	// Approved and Rejected are names of signers that are registered now; of a
	// proposal that is closed, those that were when it was closed.
	Approved  []string `json:"approved"`
	Rejected  []string `json:"rejected"`
	Threshold int      `json:"threshold"` // names needed
	Of        int      `json:"of"`        // names there are
	// Missing are keys that it would register and that have not signed.
	Missing  []string        `json:"missing"`
	Notes    []Note          `json:"notes"`
	Proposal json.RawMessage `json:"proposal"`
}

func decodeRecord(v []byte) (*record, *registry.Proposal, error) {
	rec := &record{}
	if err := json.Unmarshal(v, rec); err != nil {
		return nil, nil, chain.Corrupt("a proposal's record is not JSON")
	}
	p, err := registry.ParseProposal(rec.Proposal)
	if err != nil {
		return nil, nil, chain.Corrupt("a proposal's record: %v", err)
	}
	return rec, p, nil
}

// held is a proposal as a change found it.
type held struct {
	id  b3.Addr
	raw []byte
	rec *record
	p   *registry.Proposal
}

func readHeld(r store.Reader, id b3.Addr) (*held, error) {
	raw, err := r.Get(idKey(proposalPrefix, id))
	if err != nil {
		return nil, err
	}
	rec, p, err := decodeRecord(raw)
	if err != nil {
		return nil, err
	}
	return &held{id, raw, rec, p}, nil
}

// find reads a proposal; NotFound.
func (s *Service) find(ctx context.Context, id b3.Addr) (h *held, err error) {
	err = s.kv.View(ctx, func(r store.Reader) error { h, err = readHeld(r, id); return err })
	if errors.Is(err, store.ErrNotFound) {
		return nil, macronode.Errorf(macronode.NotFound, "there is no such proposal")
	}
	return h, s.storeError(err)
}

func (s *Service) storeError(err error) error {
	if errors.Is(err, store.ErrCorrupt) {
		s.log.Error("the store is damaged", "event", "registry.damage", "error", err)
	}
	return store.Refusal(err)
}

// put writes the record of h as it is now, in a transaction that finds it as it was.
func (h *held) put(tx store.Tx) error {
	now, err := tx.Get(idKey(proposalPrefix, h.id))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if !bytes.Equal(now, h.raw) {
		return chain.ErrMoved
	}
	text, err := json.Marshal(h.rec)
	if err != nil {
		return err
	}
	if err := tx.Set(idKey(proposalPrefix, h.id), text); err != nil {
		return err
	}
	if h.rec.State == stateOpen {
		return tx.Set(idKey(openPrefix, h.id), nil)
	}
	if err := tx.Delete(idKey(openPrefix, h.id)); err != nil {
		return err
	}
	return tx.Set(closedKey(h.rec.ClosedMS, h.id), nil)
}

// close ends the proposal in memory; put makes it so.
func (h *held) close(state, reason string, nowMS int64) {
	h.rec.State, h.rec.Reason, h.rec.ClosedMS = state, reason, nowMS
}

// openOnes are the proposals that are open.
func (s *Service) openOnes(ctx context.Context) (list []*held, err error) {
	err = s.kv.View(ctx, func(r store.Reader) error {
		list = list[:0]
		ids, err := openIDs(r)
		if err != nil {
			return err
		}
		for _, id := range ids {
			h, err := readHeld(r, id)
			if errors.Is(err, store.ErrNotFound) {
				return chain.Corrupt("a proposal that is open has no record")
			}
			if err != nil {
				return err
			}
			list = append(list, h)
		}
		return nil
	})
	return list, err
}

func openIDs(r store.Reader) (ids []b3.Addr, err error) {
	err = r.Scan([]byte(openPrefix), chain.After([]byte(openPrefix)), func(k, _ []byte) bool {
		if len(k) == len(openPrefix)+b3.Size {
			ids = append(ids, b3.Addr(k[len(openPrefix):]))
		}
		return true
	})
	return ids, err
}

// shown is a proposal as it is told. Of one that is open it says who counts now.
func (s *Service) shown(state *registry.State, h *held) Proposal {
	out := Proposal{ID: h.id.String(), State: h.rec.State, Reason: h.rec.Reason, By: h.rec.By, OpenedMS: h.rec.OpenedMS, ClosedMS: h.rec.ClosedMS, Seq: h.rec.Seq,
		Approved: []string{}, Rejected: []string{}, Missing: []string{}, Notes: h.rec.Notes, Proposal: h.rec.Proposal, Threshold: state.Signers().Threshold}
	if out.Notes == nil {
		out.Notes = []Note{}
	}
	if h.rec.State != stateOpen {
		for _, n := range h.rec.Notes {
			name, _, _ := strings.Cut(n.Key, "#")
			list := &out.Approved
			if n.Decision == registry.Reject {
				list = &out.Rejected
			}
			if !slices.Contains(*list, name) {
				*list = append(*list, name)
			}
		}
	}
	if t, err := state.Count(h.p, registry.Approve, h.rec.Approvals); err == nil {
		out.Of = t.Of
		if h.rec.State == stateOpen {
			out.Approved, out.Missing = append(out.Approved, t.Names...), append(out.Missing, t.Missing...)
		}
	}
	if t, err := state.Count(h.p, registry.Reject, h.rec.Rejections); err == nil && h.rec.State == stateOpen {
		out.Rejected = append(out.Rejected, t.Names...)
	}
	return out
}

// mayWrite refuses where another node commits. What would move that to another node
// is committed there: the present one may be gone, and cannot sign for it.
func (s *Service) mayWrite(c *chain.Chain, p *registry.Proposal) error {
	w := p.Writer()
	if w == "" {
		w = c.State.Writer()
	}
	if w != s.c.NodeID {
		return macronode.Errorf(macronode.Conflict, "this node follows: such a proposal is made and approved at %s, the registry's writer", w)
	}
	return nil
}

// propose opens a proposal.
func (s *Service) propose(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	if err := byCapability(a); err != nil {
		return nil, err
	}
	p, err := registry.ParseProposal(body)
	if err != nil {
		return nil, refusal(err)
	}
	id, err := p.Addr()
	if err != nil {
		return nil, refusal(err)
	}
	c, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.unlock()
	nowMS := s.now().UnixMilli()
	if err := s.mayWrite(c, p); err != nil {
		return nil, err
	}
	if p.ExpiresMS <= nowMS {
		return nil, refusal(registry.ErrExpired)
	}
	if err := c.State.Try(p); err != nil {
		return nil, refusal(err)
	}
	text, err := p.Encode()
	if err != nil {
		return nil, refusal(err)
	}
	if err := s.room(ctx, id); err != nil {
		return nil, err
	}
	event := macronode.AuditEvent{Stream: "node", Kind: "registry.propose", Actor: a.Actor(), Subject: subject("proposal", id), Attrs: map[string]any{"changes": int64(len(p.Changes))}}
	if err := s.record(ctx, event); err != nil {
		return nil, err
	}
	h := &held{id: id, p: p, rec: &record{Proposal: text, State: stateOpen, By: a.Actor(), OpenedMS: nowMS}}
	reply, err := s.reply(201, c.State, h)
	if err == nil {
		reply.Header = macronode.Header{"Location": {"/v1/registry/proposals/" + id.String()}}
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
	s.c.Metrics.proposals.WithLabelValues(wasOpened).Inc()
	s.c.Metrics.open.Inc()
	s.tellOf(h)
	return reply, nil
}

// room refuses a proposal that is there already, and one too many.
func (s *Service) room(ctx context.Context, id b3.Addr) error {
	open, there := 0, false
	err := s.kv.View(ctx, func(r store.Reader) error {
		ids, err := openIDs(r)
		if err != nil {
			return err
		}
		open = len(ids)
		_, err = r.Get(idKey(proposalPrefix, id))
		if there = err == nil; errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return s.storeError(err)
	case there:
		return macronode.Errorf(macronode.Conflict, "this proposal was made already")
	case open >= maxOpen:
		return macronode.Errorf(macronode.QuotaObjects, "at most %d proposals are open at a time", maxOpen)
	}
	return nil
}

// unsure notes that a transaction's outcome may be unknown, so that memory is read
// again, and gives the error its kind.
func (s *Service) unsure(err error) error {
	if _, own := errors.AsType[*macronode.Error](err); !own {
		s.stuck = true
	}
	if errors.Is(err, chain.ErrMoved) {
		return macronode.Wrap(macronode.Unavailable, "the registry changed meanwhile", err)
	}
	return s.storeError(err)
}

func (s *Service) reply(status int, state *registry.State, h *held) (*macronode.Reply, error) {
	return jsonReply(status, s.shown(state, h))
}

// withdraw closes a proposal for who made it.
func (s *Service) withdraw(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	var req Withdrawal
	if err := readBody(body, &req); err != nil {
		return nil, err
	}
	if err := checkReason(req.Reason); err != nil {
		return nil, err
	}
	return s.amend(ctx, a, claim, "registry.withdraw", func(_ *chain.Chain, h *held, nowMS int64) error {
		if h.rec.By != a.Actor() {
			return macronode.Errorf(macronode.Denied, "a proposal is withdrawn with the capability that it was made with; others reject it, or supersede it")
		}
		h.close(stateWithdrawn, req.Reason, nowMS)
		return nil
	})
}

// amend changes one open proposal in one transaction.
func (s *Service) amend(ctx context.Context, a *macronode.Admitted, claim *idem.Claim, kind string, edit func(*chain.Chain, *held, int64) error) (*macronode.Reply, error) {
	if err := byCapability(a); err != nil {
		return nil, err
	}
	id, err := proposalID(a)
	if err != nil {
		return nil, err
	}
	c, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.unlock()
	h, err := s.openNow(ctx, c, id)
	if err != nil {
		return nil, err
	}
	if err := edit(c, h, s.now().UnixMilli()); err != nil {
		return nil, err
	}
	event := macronode.AuditEvent{Stream: "node", Kind: kind, Actor: a.Actor(), Subject: subject("proposal", id)}
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

// openNow is a proposal that can be decided on; one whose time is over is closed.
func (s *Service) openNow(ctx context.Context, c *chain.Chain, id b3.Addr) (*held, error) {
	h, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := s.mayWrite(c, h.p); err != nil {
		return nil, err
	}
	if h.rec.State == stateOpen && s.now().UnixMilli() > h.p.ExpiresMS {
		if err := s.expire(ctx, h); err != nil {
			return nil, err
		}
	}
	if h.rec.State != stateOpen {
		return nil, macronode.Errorf(macronode.Conflict, "the proposal is %s", h.rec.State)
	}
	return h, nil
}

func (s *Service) expire(ctx context.Context, h *held) error {
	h.close(stateExpired, "it was not committed in time", s.now().UnixMilli())
	if err := s.kv.Update(ctx, h.put); err != nil {
		return s.unsure(err)
	}
	s.closed(h)
	return nil
}

// closed counts a proposal that is not open any more, and tells of any change.
func (s *Service) closed(h *held) {
	if h.rec.State != stateOpen {
		s.c.Metrics.proposals.WithLabelValues(h.rec.State).Inc()
		s.c.Metrics.open.Dec()
	}
	s.tellOf(h)
}

// sweep ends proposals whose time is over, and forgets old ones.
func (s *Service) sweep(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	list, err := s.openOnes(ctx)
	if err != nil {
		return err
	}
	s.c.Metrics.open.Set(float64(len(list)))
	nowMS := s.now().UnixMilli()
	for _, h := range list {
		if nowMS > h.p.ExpiresMS {
			if err := s.expire(ctx, h); err != nil {
				return err
			}
		}
	}
	return s.forget(ctx, nowMS-keepClosed.Milliseconds())
}

// forget drops proposals that were closed before then, and the oldest where there
// are too many.
func (s *Service) forget(ctx context.Context, before int64) error {
	var keys [][]byte
	n := 0
	err := s.kv.View(ctx, func(r store.Reader) error {
		return r.ScanDesc([]byte(closedPrefix), chain.After([]byte(closedPrefix)), func(k, _ []byte) bool {
			if len(k) != len(closedPrefix)+8+b3.Size {
				return true
			}
			ms := int64(binary.BigEndian.Uint64(k[len(closedPrefix):])) //nolint:gosec // as it was written
			if n++; n > maxClosed || ms < before {
				keys = append(keys, bytes.Clone(k))
			}
			return len(keys) < 2*maxClosed
		})
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	return s.kv.Reclaim(ctx, func(tx store.Tx) error {
		for _, k := range keys {
			if err := tx.Delete(k); err != nil {
				return err
			}
			if err := tx.Delete(append([]byte(proposalPrefix), k[len(closedPrefix)+8:]...)); err != nil {
				return err
			}
		}
		return nil
	})
}

func byCapability(a *macronode.Admitted) error {
	if a.Principal.Kind != macronode.Capability {
		return macronode.Errorf(macronode.Denied, "changing the registry takes a capability")
	}
	return nil
}

func proposalID(a *macronode.Admitted) (b3.Addr, error) {
	id, err := b3.Parse(a.Arg("id"))
	if err != nil {
		return id, macronode.Errorf(macronode.Malformed, "a proposal is named by its address, b3: and 64 lower-case hex digits")
	}
	return id, nil
}

func checkReason(s string) error {
	if len(s) > registry.MaxReasonBytes || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return macronode.Errorf(macronode.Invalid, "the reason is one line of at most %d bytes", registry.MaxReasonBytes)
	}
	return nil
}
