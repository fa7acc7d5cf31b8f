// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
)

const (
	// FoldAbove is how many refusals of one reason have their own record each
	// second, unless the config says otherwise.
	FoldAbove = 1000
	// foldEvery is how often folded refusals are looked at.
	foldEvery = time.Second
	// maxFolds bounds the records that a second's folded refusals may become.
	maxFolds = 4096
	// FoldedKind is the kind of a record that counts refusals.
	FoldedKind = "refusals"
	// netAttr is the attribute that holds the caller's /24 or /64.
	netAttr = "net"
)

// folder counts refusals by second.
type folder struct {
	folded prometheus.Counter
	above  atomic.Int64 // refusals of one reason a second with a record of their own

	mu      sync.Mutex
	second  int64
	reasons map[string]int // own records in this second
	counts  map[foldKey]int64
}

// foldKey is what refusals must share to be counted together.
type foldKey struct {
	second int64
	reason string
	stream string
	net    string
}

// take counts e and reports whether it is folded, and so must not be queued.
func (f *folder) take(e *macronode.AuditEvent, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sec := now.Unix(); sec != f.second || f.reasons == nil {
		f.second, f.reasons = sec, make(map[string]int, len(macronode.Reasons))
	}
	// The reasons are codes from a closed list; bounded all the same.
	if _, ok := f.reasons[e.Reason]; !ok && len(f.reasons) >= maxFolds {
		return false
	}
	if int64(f.reasons[e.Reason]) < f.above.Load() {
		f.reasons[e.Reason]++
		return false
	}
	k := foldKey{second: f.second, reason: e.Reason, stream: e.Stream}
	k.net, _ = e.Attrs[netAttr].(string)
	if f.counts == nil {
		f.counts = map[foldKey]int64{}
	}
	if _, ok := f.counts[k]; !ok && len(f.counts) >= maxFolds {
		k.stream, k.net = "node", "" // too many to tell apart
	}
	f.counts[k]++
	f.folded.Inc()
	return true
}

// fold is one record's worth.
type fold struct {
	foldKey
	n int64
}

// over removes and returns the counts of seconds before now's, oldest first.
func (f *folder) over(now int64) []fold {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []fold
	for k, n := range f.counts {
		if k.second < now {
			out = append(out, fold{k, n})
			delete(f.counts, k)
		}
	}
	slices.SortFunc(out, func(a, b fold) int {
		return cmp.Or(cmp.Compare(a.second, b.second), cmp.Compare(a.reason, b.reason), cmp.Compare(a.stream, b.stream), cmp.Compare(a.net, b.net))
	})
	return out
}

// folds are the events of seconds that are over; of all, at the end.
func (s *Service) folds(all bool) []item {
	now := s.cfg.Now()
	sec := now.Unix()
	if all {
		sec++
	}
	var out []item
	for _, f := range s.fold.over(sec) {
		e := macronode.AuditEvent{Stream: f.stream, Kind: FoldedKind, Reason: f.reason, Attrs: map[string]any{"count": f.n, "second": f.second}}
		if f.net != "" {
			e.Attrs[netAttr] = f.net
		}
		out = append(out, item{event: e, at: now})
	}
	return out
}
