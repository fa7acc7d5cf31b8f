// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/overlay/announce"
)

// standing is what this node thinks of a peer. It is kept for peers that were
// asked, which are those of the config.
type standing struct {
	guard     Guard
	latency   time.Duration // of the first verified group, smoothed; 0: never
	shunned   time.Time     // not to be asked before
	penalties int
}

// lie is what a peer sent that cannot be true.
type lie struct{ err error }

func (l *lie) Error() string { return "the peer lied: " + l.err.Error() }
func (l *lie) Unwrap() error { return l.err }

func lied(format string, args ...any) error { return &lie{fmt.Errorf(format, args...)} }

// errStalled says that a peer was too slow.
var errStalled = errors.New("the peer is too slow")

// standing returns the peer's; the Fetcher's mu is held.
func (f *Fetcher) standing(peer string) *standing {
	s := f.peers[peer]
	if s == nil {
		s = &standing{}
		if f.cfg.Guard != nil {
			s.guard = f.cfg.Guard(peer)
		}
		f.peers[peer] = s
	}
	return s
}

// candidates are the peers to ask for the tag, the fastest first and who was never
// asked before them all, less those in not. The Fetcher's mu is held.
func (f *Fetcher) candidates(tag announce.Tag, not map[string]bool) []string {
	now := f.cfg.Now()
	ids := slices.DeleteFunc(f.cfg.Known.Holders(tag), func(id string) bool {
		return not[id] || now.Before(f.standing(id).shunned)
	})
	slices.SortStableFunc(ids, func(a, b string) int { return cmp.Compare(f.peers[a].latency, f.peers[b].latency) })
	return ids
}

// Holders are the peers that announced the tenant's object and are asked for it where
// it is wanted, the fastest first. No call is made.
func (f *Fetcher) Holders(tenant macronode.TenantID, addr b3.Addr) []string {
	key, ok := f.secrets.Load().Key(tenant)
	if !ok {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.candidates(key.Tag(addr), nil)
}

// Trusted reports whether what the peer announces counts: not for a while after it
// lied.
func (f *Fetcher) Trusted(peer string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.peers[peer]
	return s == nil || !f.cfg.Now().Before(s.shunned)
}

// enter asks the peer's guard.
func (f *Fetcher) enter(peer string) (leave func(error), err error) {
	f.mu.Lock()
	g := f.standing(peer).guard
	f.mu.Unlock()
	if g == nil {
		return func(error) {}, nil
	}
	return g.Enter()
}

// hedge is how long to wait for the peer before another is asked too.
func (f *Fetcher) hedge(peer string) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.standing(peer).latency; l > 0 {
		return min(max(3*l, minHedge), f.cfg.Timeout/2)
	}
	return f.cfg.Hedge
}

// answered remembers how long the peer took.
func (f *Fetcher) answered(peer string, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.standing(peer)
	if s.latency == 0 {
		s.latency = max(took, 1)
	} else {
		s.latency += (took - s.latency) / 8
	}
}

// blame draws the consequences of how a call to the peer ended. excused says that
// the asker ended it: then only a lie is the peer's fault.
func (f *Fetcher) blame(t *target, peer string, err error, excused bool) {
	if l, ok := errors.AsType[*lie](err); ok {
		f.expose(t, peer, l)
		return
	}
	switch {
	case macronode.KindOf(err) == macronode.NotFound:
		f.cfg.Known.Disown(peer, t.tag) // it says so itself
		f.cfg.Metrics.count(outcomeGone)
	case !excused:
		f.cfg.Metrics.count(outcomeFailed)
		f.cfg.Log.Info("a peer did not deliver an object that it announced", "event", "overlay.fetch_failed", "peer", peer, "error", err)
	}
}

// expose makes it known that the peer lied: its announcements are forgotten, its
// session ends, and it is not asked for a while.
func (f *Fetcher) expose(t *target, peer string, l *lie) {
	f.mu.Lock()
	s := f.standing(peer)
	s.shunned = f.cfg.Now().Add(f.cfg.Distrust)
	s.penalties++
	f.mu.Unlock()
	f.cfg.Known.Leave(peer)
	f.cfg.Metrics.lies.Inc()
	how := howOf(l)
	f.cfg.Log.Error("a peer sent bytes that are not what was asked for", "event", "overlay.lie", "peer", peer, "tenant", t.tenant.String(), "how", how, "error", l.err)
	if f.cfg.Audit != nil {
		f.cfg.Audit.Record(macronode.AuditEvent{
			Stream: "node", Kind: "overlay.lie", Actor: "peer:" + peer, Subject: "node/overlay", Reason: "integrity", Attrs: map[string]any{"how": how}, Must: true,
		})
	}
	if f.cfg.Lied != nil {
		f.cfg.Lied(peer, how)
	}
	f.cfg.Sessions.Penalise(peer, "it lied about an object: "+how)
}

// howOf is a word for the lie.
func howOf(l *lie) string {
	if d, ok := errors.AsType[*b3.DamageError](l.err); ok {
		if d.Tree {
			return "tree"
		}
		return "bytes"
	}
	switch {
	case errors.Is(l.err, errTruncated):
		return "truncated"
	case errors.Is(l.err, errSurplus):
		return "too_long"
	default:
		return "length"
	}
}

// refusal is what the caller is told where nobody delivered, given how each ended.
func refusal(errs []error) error {
	worst := notFound()
	for _, err := range errs {
		if _, ok := errors.AsType[*lie](err); ok {
			if macronode.KindOf(worst) == macronode.NotFound {
				worst = macronode.Wrap(macronode.Integrity, "another node's bytes are damaged", err)
			}
			continue
		}
		switch macronode.KindOf(err) {
		case macronode.NotFound:
		case macronode.Overload:
			return err
		default:
			worst = macronode.Wrap(macronode.Unavailable, "another node has the object and cannot be reached", err)
		}
	}
	return worst
}
