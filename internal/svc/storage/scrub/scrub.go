// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package scrub reads what is stored, slowly and without end, to find damage
// before somebody needs the bytes. What does not verify is reported once and
// quarantined; what is in quarantine and verifies again is released. The place that
// it has come to is kept, so that a restart costs a second of reading, not a round.
package scrub

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// DefaultRate is how many bytes a second are read: 16 MiB, 1.4 TB a day.
const DefaultRate = 16 << 20

const (
	// page bounds the references held at once.
	page = 256
	// saveEvery is how often the place is kept.
	saveEvery = 10 * time.Second
	// roundRest is the least time between the beginnings of two rounds.
	roundRest = time.Hour
	// retry is when reading goes on after the stores failed.
	retry = time.Minute
	// objectCost is added to an object's size: finding one costs more than its
	// bytes, on a disk that turns above all.
	objectCost = 64 << 10
)

// cursorKey holds the reference that comes next.
const cursorKey = refs.JobPrefix + "scrub"

// Config is what a Scrubber works with. KV, Objects and Damaged are required.
type Config struct {
	KV      store.KV
	Objects store.Objects
	// Rate is bytes a second; 0 means DefaultRate, negative never.
	Rate int64
	// Damaged is told of bytes that do not verify. It quarantines them.
	Damaged func(ctx context.Context, l store.Loc, err error)
	// Healed is told of quarantined bytes that verify again; nil: nobody is.
	Healed func(l store.Loc)
	// Read is told of bytes read; nil: nobody is.
	Read func(n int64)
	Log  *slog.Logger
	// RoundRest is the least time between two rounds; 0 means an hour.
	RoundRest time.Duration
}

// Status is how far a Scrubber has come.
type Status struct {
	Running  bool  `json:"running"`
	BeganMS  int64 `json:"began_ms"` // the round; 0: none since start
	EndedMS  int64 `json:"ended_ms"` // the last whole round; 0: none since start
	Objects  int64 `json:"objects"`  // read in this round, since start
	Bytes    int64 `json:"bytes"`
	RateByte int64 `json:"bytes_per_second"`
}

// Scrubber reads.
type Scrubber struct {
	c   Config
	log *slog.Logger

	mu     sync.Mutex
	status Status
}

// New returns a Scrubber that works while Serve runs.
func New(c Config) *Scrubber {
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	if c.RoundRest == 0 {
		c.RoundRest = roundRest
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Healed == nil {
		c.Healed = func(store.Loc) {}
	}
	if c.Read == nil {
		c.Read = func(int64) {}
	}
	return &Scrubber{c: c, log: c.Log, status: Status{RateByte: max(c.Rate, 0)}}
}

// Status returns how far it has come.
func (s *Scrubber) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *Scrubber) note(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
}

// Serve reads until ctx ends, or metadata turns out to be damaged, which it returns.
func (s *Scrubber) Serve(ctx context.Context) error {
	if s.c.Rate < 0 {
		<-ctx.Done()
		return nil
	}
	for {
		began := time.Now()
		err := s.round(ctx)
		wait := max(s.c.RoundRest-time.Since(began), 0)
		switch {
		case errors.Is(err, errMeta):
			return err
		case err != nil && ctx.Err() == nil:
			s.log.Warn("the scrub was interrupted, to go on later", "event", "object.scrub", "error", err)
			wait = retry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// errMeta marks damaged metadata, told from damaged bytes.
var errMeta = errors.New("metadata")

// meta marks an error of the metadata store.
func meta(err error) error {
	if errors.Is(err, store.ErrCorrupt) {
		return errors.Join(errMeta, err)
	}
	return err
}

// round goes from the kept place to the end.
func (s *Scrubber) round(ctx context.Context) error {
	at, err := s.load(ctx)
	if err != nil {
		return err
	}
	s.note(func(st *Status) {
		st.Running, st.BeganMS, st.Objects, st.Bytes = true, time.Now().UnixMilli(), 0, 0
	})
	defer s.note(func(st *Status) { st.Running = false })
	saved := time.Now()
	p := pacer{rate: s.c.Rate, next: time.Now()}
	for {
		some, err := s.page(ctx, at)
		if err != nil {
			return err
		}
		if len(some) == 0 {
			s.note(func(st *Status) { st.EndedMS = time.Now().UnixMilli() })
			return s.save(ctx, nil)
		}
		for _, o := range some {
			if err := s.one(ctx, o, &p); err != nil {
				return err
			}
			at = append(o.owner.Key(), 0)
			if time.Since(saved) >= saveEvery {
				saved = time.Now()
				if err := s.save(ctx, at); err != nil {
					return err
				}
			}
		}
	}
}

type held struct {
	owner refs.Owner
	ref   refs.Reference
}

// page returns the references from the key at on.
func (s *Scrubber) page(ctx context.Context, at []byte) (some []held, err error) {
	if at == nil {
		at = []byte(refs.RefPrefix)
	}
	var bad error
	err = s.c.KV.View(ctx, func(r store.Reader) error {
		some, bad = some[:0], nil
		return r.Scan(at, refs.After([]byte(refs.RefPrefix)), func(key, value []byte) bool {
			var h held
			if h.owner, bad = refs.ParseOwner(key[len(refs.RefPrefix):]); bad != nil {
				return false
			}
			if h.ref, bad = refs.Decode(value); bad != nil {
				return false
			}
			some = append(some, h)
			return len(some) < page
		})
	})
	return some, meta(errors.Join(err, bad))
}

// one reads one object, at the rate, and tells what it finds.
func (s *Scrubber) one(ctx context.Context, h held, p *pacer) error {
	if err := p.spend(ctx, objectCost); err != nil {
		return err
	}
	err := s.read(ctx, h, p)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		s.note(func(st *Status) { st.Objects++; st.Bytes += h.ref.Size })
		return s.release(ctx, h.ref.Loc)
	case errors.Is(err, store.ErrCorrupt):
		s.c.Damaged(ctx, h.ref.Loc, err)
		return nil
	case errors.Is(err, store.ErrNotFound):
		return s.gone(ctx, h, err)
	default:
		return err
	}
}

// gone tells bytes that are missing from a reference that moved, or was dropped,
// since it was read.
func (s *Scrubber) gone(ctx context.Context, h held, cause error) error {
	var now refs.Reference
	err := s.c.KV.View(ctx, func(r store.Reader) (err error) {
		now, err = refs.Get(r, h.owner)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return meta(err)
	case now.Loc == h.ref.Loc:
		s.c.Damaged(ctx, h.ref.Loc, cause)
	}
	return nil
}

func (s *Scrubber) read(ctx context.Context, h held, p *pacer) error {
	o, err := s.c.Objects.Open(ctx, h.ref.Loc, h.owner.Addr, h.ref.Size)
	if err != nil {
		return err
	}
	defer o.Close()
	const piece = 64 * b3.GroupBytes
	for off := int64(0); off < h.ref.Size; {
		n := min(piece, h.ref.Size-off)
		if err := p.spend(ctx, n); err != nil {
			return err
		}
		if _, err := o.WriteRange(io.Discard, off, n); err != nil {
			return err
		}
		s.c.Read(n)
		off += n
	}
	return nil
}

// release ends the quarantine of bytes that verify.
func (s *Scrubber) release(ctx context.Context, l store.Loc) error {
	var bad bool
	err := s.c.KV.View(ctx, func(r store.Reader) (err error) {
		bad, err = refs.Quarantined(r, l)
		return err
	})
	if err != nil || !bad {
		return meta(err)
	}
	if err := s.c.KV.Reclaim(ctx, func(tx store.Tx) error { return refs.Release(tx, l) }); err != nil {
		return meta(err)
	}
	s.c.Healed(l)
	return nil
}

func (s *Scrubber) load(ctx context.Context) (at []byte, err error) {
	err = s.c.KV.View(ctx, func(r store.Reader) (err error) {
		at, err = r.Get([]byte(cursorKey))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return at, meta(err)
}

// save keeps the place; nil is the beginning.
func (s *Scrubber) save(ctx context.Context, at []byte) error {
	return meta(s.c.KV.Reclaim(ctx, func(tx store.Tx) error {
		if at == nil {
			return tx.Delete([]byte(cursorKey))
		}
		return tx.Set([]byte(cursorKey), at)
	}))
}

// pacer spends bytes at a rate, with up to a second of credit.
type pacer struct {
	rate int64
	next time.Time // when the bytes spent so far are paid for
}

func (p *pacer) spend(ctx context.Context, n int64) error {
	now := time.Now()
	if p.next.Before(now.Add(-time.Second)) {
		p.next = now.Add(-time.Second)
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	wait := time.Until(p.next)
	if wait <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}
