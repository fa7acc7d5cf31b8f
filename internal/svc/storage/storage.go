// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/collect"
	"github.com/rustyonions/macronode/internal/svc/storage/decode"
	"github.com/rustyonions/macronode/internal/svc/storage/hold"
	"github.com/rustyonions/macronode/internal/svc/storage/hot"
	"github.com/rustyonions/macronode/internal/svc/storage/neighbour"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
	"github.com/rustyonions/macronode/internal/svc/storage/reserve"
	"github.com/rustyonions/macronode/internal/svc/storage/scrub"
)

// Name is the service's name in config, metrics and logs.
const Name = "svc-storage"

// Limits are the [limits] and [oap] chunk_bytes of the config bundle. They
// change live; calls under way keep theirs.
type Limits struct {
	MaxObjectBytes  int64 // of decoded bytes
	ChunkBytes      int64 // the step in which uploads move
	DecompressRatio int64 // decoded bytes to encoded bytes, at most
	DecompressBytes int64 // decoded bytes beyond the encoded bytes, at most
}

// defaultLimits are those of a bundle that says nothing.
var defaultLimits = Limits{MaxObjectBytes: 5 << 30, ChunkBytes: 64 << 10, DecompressRatio: 10, DecompressBytes: 32 << 20}

// Validate reports every limit that makes no sense.
func (l Limits) Validate() error {
	var errs []error
	for _, c := range []struct {
		key      string
		v        int64
		low, top int64
	}{
		{"max_object_bytes", l.MaxObjectBytes, 0, 1 << 53},
		{"chunk_bytes", l.ChunkBytes, 1 << 10, 1 << 20},
		{"decompress_ratio", l.DecompressRatio, 1, 1 << 20},
		{"decompress_bytes", l.DecompressBytes, 0, 1 << 53},
	} {
		if c.v < c.low || c.v > c.top {
			errs = append(errs, fmt.Errorf("%s is %d, not %d to %d", c.key, c.v, c.low, c.top))
		}
	}
	return errors.Join(errs...)
}

// Config is what the service works with. KV, Objects and Idem are required.
type Config struct {
	KV      store.KV
	Objects store.Objects
	// Idem keeps first answers; the service sweeps it while it serves.
	Idem    *idem.Keeper
	Limits  Limits // zero: the defaults
	Metrics Metrics
	// Hot keeps what is read often; nil: nothing is kept. It is not closed.
	Hot *hot.Cache
	// Elsewhere is asked for what is not here; nil: nobody is.
	Elsewhere Elsewhere
	// Changes is told of every change, in the transaction that makes it; nil: nobody is.
	Changes neighbour.Changes
	Audit   macronode.Auditor // nil: nothing is recorded
	Log     *slog.Logger      // nil: nothing is logged
	Now     func() time.Time  // nil: time.Now
	// CollectEvery and ShareEvery are the times between collections, and between
	// looks for copies; zero: the defaults of collect, negative: never.
	CollectEvery, ShareEvery time.Duration
	// ScrubRate is bytes a second; zero: the default of scrub, negative: never.
	ScrubRate int64
}

// Service is svc-storage.
type Service struct {
	kv      store.KV
	objects store.Objects
	idem    *idem.Keeper
	m       Metrics
	audit   macronode.Auditor
	log     *slog.Logger
	now     func() time.Time

	ledger *reserve.Ledger
	limits atomic.Pointer[live]
	window hold.Window
	pins   hold.Pins
	fatal  chan error // capacity 1: what ends Serve
	heads  sync.Pool  // *[]byte of headBytes
	broken atomic.Pointer[error]
	hot    *hot.Cache
	pieces sync.Pool // *[]byte of pieceBytes
	fields fields

	elsewhere Elsewhere
	changes   neighbour.Changes

	decoders  decode.Zstd
	collector *collect.Collector
	scrubber  *scrub.Scrubber
	suspects  chan suspect
	recount   chan struct{} // capacity 1: what is in quarantine has changed
	bad       atomic.Int64  // objects in quarantine, as last counted
}

// live are limits with the buffers made for them.
type live struct {
	Limits
	chunks sync.Pool // *[]byte of ChunkBytes
}

var _ macronode.Service = (*Service)(nil)

// New returns a service that works once its handlers are called; Serve runs
// its background work.
func New(c Config) (*Service, error) {
	if c.KV == nil || c.Objects == nil || c.Idem == nil {
		return nil, errors.New("storage: KV, Objects and Idem are required")
	}
	if c.Limits == (Limits{}) {
		c.Limits = defaultLimits
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Audit == nil {
		c.Audit = noAudit{}
	}
	if c.Elsewhere == nil {
		c.Elsewhere = nowhere{}
	}
	if c.Changes == nil {
		c.Changes = neighbour.Unheard{}
	}
	c.Metrics.fill()
	s := &Service{
		kv: c.KV, objects: c.Objects, idem: c.Idem, m: c.Metrics, now: c.Now,
		log:   c.Log.With("service", Name),
		audit: c.Audit, fatal: make(chan error, 1), suspects: make(chan suspect, maxSuspects), recount: make(chan struct{}, 1),
		hot:       c.Hot,
		fields:    makeFields(),
		elsewhere: c.Elsewhere,
		changes:   c.Changes,
	}
	s.heads.New = func() any { b := make([]byte, headBytes); return &b }
	s.makeBackground(&c)
	s.ledger = reserve.New(func(ctx context.Context, t macronode.TenantID) (u refs.Usage, err error) {
		err = s.kv.View(ctx, func(r store.Reader) error { u, err = refs.GetUsage(r, t); return err })
		return u, err
	})
	s.pieces.New = func() any { b := make([]byte, pieceBytes); return &b }
	return s, s.SetLimits(c.Limits)
}

// SetLimits makes l hold for calls that begin from now on.
func (s *Service) SetLimits(l Limits) error {
	if err := l.Validate(); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	n := &live{Limits: l}
	n.chunks.New = func() any { b := make([]byte, l.ChunkBytes); return &b }
	s.limits.Store(n)
	return nil
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// Ready implements macronode.Service: both stores can serve.
func (s *Service) Ready(ctx context.Context) error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	if err := s.kv.Check(ctx); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if err := s.objects.Check(ctx); err != nil {
		return fmt.Errorf("objects: %w", err)
	}
	return nil
}

// Look is what other parts of the node may see of objects.
func (s *Service) Look() *neighbour.View {
	return &neighbour.View{KV: s.kv, Objects: s.objects, Damaged: s.suspected}
}

// Usage returns what the tenant stores; it is what its quota is held against.
func (s *Service) Usage(ctx context.Context, tenant macronode.TenantID) (bytes, objects int64, err error) {
	err = s.kv.View(ctx, func(r store.Reader) error {
		u, err := refs.GetUsage(r, tenant)
		bytes, objects = u.Bytes, u.Objects
		return err
	})
	return bytes, objects, s.metaError(err)
}

// metaError gives an error of the metadata store the kind that callers see.
// Damage ends the service: nothing that metadata says can be believed then.
func (s *Service) metaError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, store.ErrCorrupt) {
		s.fail(err)
		return macronode.Wrap(macronode.Unavailable, "the metadata is damaged", err)
	}
	return store.Refusal(err)
}

// objectError is metaError for the object store, whose damage is confined to
// the object.
func (s *Service) objectError(err error) error {
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound) {
		s.m.IntegrityFail.Inc()
		return macronode.Wrap(macronode.Integrity, "", err)
	}
	return store.Refusal(err)
}

// fail ends Serve with err.
func (s *Service) fail(err error) {
	s.broken.Store(&err)
	select {
	case s.fatal <- err:
	default:
	}
}
