// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package drillbook remembers when each drill was last carried out and last
// passed, so that a drill nobody runs any more is seen. It keeps what it is told
// durably; who may tell it is the routes' affair.
package drillbook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// Names are the drills of the runbook, in order. A result of any other is refused.
func Names() []string {
	return []string{"bad-capability", "corrupt-object", "decompression-bomb", "disk-full", "facet-outage", "malformed-oap", "oversize", "policy-outage", "quota-storm",
		"service-crash", "slow-client"}
}

// Limits of a result.
const (
	maxError  = 1024
	maxDigest = 128
)

// prefix of the keys of metadata; a drill's name follows.
var prefix = []byte("drill/")

// sinceKey holds when the book was begun, in unix milliseconds.
const sinceKey = "since"

// Result is one drill, carried out.
type Result struct {
	Name    string  `json:"name"`
	Pass    bool    `json:"pass"`
	Error   string  `json:"error,omitempty"` // why it did not pass; at most 1024 bytes
	Seconds float64 `json:"seconds"`
	AtMS    int64   `json:"at_ms"` // when it ended, in unix milliseconds
	// Report is the BLAKE3 address of the whole report, so that who keeps one can
	// show that it is the one on record; empty where there is none.
	Report string `json:"report,omitempty"`
	Live   bool   `json:"live"` // against this node, not one thrown away
}

// Entry is what the book says of a drill.
type Entry struct {
	Name         string  `json:"name"`
	Last         *Result `json:"last,omitempty"`           // nil: never
	LastPassedMS int64   `json:"last_passed_ms,omitempty"` // 0: never
	// DueMS is when it should have passed again; OverdueMS how long ago that was,
	// 0 where it is not overdue.
	DueMS     int64 `json:"due_ms"`
	OverdueMS int64 `json:"overdue_ms"`
}

// Gauges is what the book needs of the registry of metrics.
type Gauges interface {
	GaugeSet(name, help, label string, read func() map[string]float64)
}

// Book keeps results. Its methods may be used from several goroutines.
type Book struct {
	kv    store.KV
	every time.Duration
	now   func() time.Time

	mu    sync.Mutex
	since int64
	known map[string]Entry
}

// Open reads what is kept. A drill is due again every so long after it passed, and
// one that never did so long after the book was begun. An error (damaged metadata,
// a full disk) leaves a book that works and begins now: a node starts without its
// drills.
func Open(ctx context.Context, kv store.KV, every time.Duration, now func() time.Time) (*Book, error) {
	b := &Book{kv: kv, every: every, now: now, known: map[string]Entry{}}
	err := kv.View(ctx, func(r store.Reader) error {
		raw, err := r.Get(key(sinceKey))
		if err == nil {
			err = json.Unmarshal(raw, &b.since)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		for _, name := range Names() {
			raw, err := r.Get(key(name))
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			var e Entry
			if err == nil {
				err = json.Unmarshal(raw, &e)
			}
			if err != nil {
				return fmt.Errorf("drill %s: %w", name, err)
			}
			b.known[name] = e
		}
		return nil
	})
	if b.since != 0 {
		return b, err
	}
	b.since = now().UnixMilli()
	if err != nil {
		return b, err
	}
	return b, kv.Update(ctx, func(tx store.Tx) error { return put(tx, sinceKey, b.since) })
}

func key(name string) []byte { return append(slices.Clone(prefix), name...) }

func put(tx store.Tx, name string, doc any) error {
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return tx.Set(key(name), raw)
}

// judge refuses what cannot be a result.
func (b *Book) judge(r *Result) error {
	switch {
	case !slices.Contains(Names(), r.Name):
		return macronode.Errorf(macronode.Invalid, "there is no drill of this name")
	case r.AtMS <= 0 || r.AtMS > b.now().Add(time.Minute).UnixMilli():
		return macronode.Errorf(macronode.Invalid, "at_ms must be in the past")
	case r.Seconds < 0 || r.Seconds > 86400:
		return macronode.Errorf(macronode.Invalid, "seconds must lie between 0 and 86400")
	case len(r.Error) > maxError || len(r.Report) > maxDigest:
		return macronode.Errorf(macronode.Invalid, "error and report take at most %d and %d bytes", maxError, maxDigest)
	case r.Pass != (r.Error == ""):
		return macronode.Errorf(macronode.Invalid, "a drill that passed has no error, and one that did not says why")
	}
	return nil
}

// Record keeps a result and returns once it is durable. A result that is older
// than the one kept changes nothing but the time of the last pass.
func (b *Book) Record(ctx context.Context, r Result) (Entry, error) {
	if err := b.judge(&r); err != nil {
		return Entry{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.known[r.Name]
	e.Name = r.Name
	if e.Last == nil || e.Last.AtMS <= r.AtMS {
		e.Last = &r
	}
	if r.Pass {
		e.LastPassedMS = max(e.LastPassedMS, r.AtMS)
	}
	err := b.kv.Update(ctx, func(tx store.Tx) error { return put(tx, r.Name, e) })
	if err != nil {
		return Entry{}, store.Refusal(err)
	}
	b.known[r.Name] = e
	return b.dated(e), nil
}

// dated adds what depends on the time.
func (b *Book) dated(e Entry) Entry {
	from := e.LastPassedMS
	if from == 0 {
		from = b.since
	}
	e.DueMS = from + b.every.Milliseconds()
	e.OverdueMS = max(0, b.now().UnixMilli()-e.DueMS)
	return e
}

// Entries returns every drill, by name.
func (b *Book) Entries() []Entry {
	b.mu.Lock()
	known := maps.Clone(b.known)
	b.mu.Unlock()
	list := make([]Entry, 0, len(known))
	for _, name := range Names() {
		e := known[name]
		e.Name = name
		list = append(list, b.dated(e))
	}
	return list
}

// Register adds the gauge that alerts read.
func (b *Book) Register(g Gauges) {
	g.GaugeSet("drill_last_passed_timestamp_seconds", "When each drill last passed, by the clock; for one that never did, when this node was first started.",
		"drill", func() map[string]float64 {
			b.mu.Lock()
			defer b.mu.Unlock()
			at := make(map[string]float64, len(b.known))
			for _, name := range Names() {
				passed := b.known[name].LastPassedMS
				if passed == 0 {
					passed = b.since
				}
				at[name] = float64(passed) / 1000
			}
			return at
		})
}
