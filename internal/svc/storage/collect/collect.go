// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package collect gives space back while the node works: it removes bytes that
// nobody refers to, moves what still lives out of packs that are mostly dead,
// and lets tenants that hold the same object share its bytes.
//
// It never takes what was just put again: every put writes bytes of its own, in a
// new place, and a place is never used twice. What it does is made of small steps,
// each complete in itself, so it may be stopped or killed anywhere and goes on
// from what it finds. Between steps it rests, so that it takes a fraction of one
// core. Memory is bounded by the constants below, whatever is stored.
//
// # Steps
//
//   - Released bytes wait in a queue until no reply reads them, and are removed.
//   - A volume that is sealed and not settled is walked: bytes that metadata does
//     not know, left by a crash between an upload's two commits, are removed. Then it
//     is settled and not walked again. So a start costs little, however much is stored.
//   - A pack of which at most half lives is emptied: each living object is read,
//     verified, written anew, and its references moved in one transaction.
//   - Of tenants' copies of one object, one that verifies is kept and the others'
//     references moved to it. This also mends a damaged copy.
package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rustyonions/macronode/internal/store"
)

const (
	// batch bounds one transaction, which other writers wait for.
	batch = 256
	// orphanBatch bounds the unknown places held in memory.
	orphanBatch = 4096
	// sharePart bounds the references held in memory, some 130 bytes each.
	sharePart = 100_000
	// rest is how long a background step is followed by rest, in its own length.
	rest = 3
	// retryFree is when removals that failed are tried again.
	retryFree = 5 * time.Second
	// retryPass is when a pass that failed is begun anew.
	retryPass = time.Minute
)

// Defaults of Config.
const (
	DefaultEvery      = 5 * time.Minute
	DefaultShareEvery = 6 * time.Hour
)

// Readers knows which places replies read from.
type Readers interface {
	// Condemn keeps new readers from l until Forget; it reports false, and does
	// nothing, while there are readers.
	Condemn(l store.Loc) bool
	Forget(l store.Loc)
}

// Config is what a Collector works with. All but Log, Every and ShareEvery are
// required.
type Config struct {
	KV      store.KV
	Objects store.Objects
	Readers Readers
	// Quiesce returns once no upload has bytes that were stored before the call
	// and that it has yet to refer to.
	Quiesce func(context.Context) error
	// Damaged is told of bytes that do not verify. It quarantines them.
	Damaged func(ctx context.Context, l store.Loc, err error)
	Metrics Metrics
	Log     *slog.Logger
	// Every is the time between passes, ShareEvery that between looks for
	// copies; zero means the defaults, negative never.
	Every, ShareEvery time.Duration
}

// Metrics is what a Collector counts.
type Metrics struct {
	Freed, Orphans, Moved, Shared func(n int)
	Queue                         func(n int) // released places that wait, as last seen
}

// Collector does the work. It is safe for concurrent use.
type Collector struct {
	c    Config
	log  *slog.Logger
	kick chan struct{} // capacity 1: bytes were released
	turn chan struct{} // held by the one pass
	hurt func(error)   // told of damaged metadata
}

// New returns a Collector that works once Serve runs, or Run is called.
func New(c Config) *Collector {
	if c.Every == 0 {
		c.Every = DefaultEvery
	}
	if c.ShareEvery == 0 {
		c.ShareEvery = DefaultShareEvery
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Collector{c: c, log: c.Log, kick: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
}

// Wake tells the remover that bytes were released, or that a reader is done.
func (c *Collector) Wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Serve works in the background until ctx ends, or metadata turns out to be
// damaged, which it returns.
func (c *Collector) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fatal := make(chan error, 2)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, loop := range []func(context.Context) error{c.removeLoop, c.passLoop} {
		wg.Go(func() {
			defer cancel()
			fatal <- loop(ctx)
		})
	}
	<-ctx.Done()
	wg.Wait()
	return errors.Join(<-fatal, <-fatal)
}

// judge returns err where it is for Serve to return, and logs others.
func (c *Collector) judge(event string, err error) error {
	switch {
	case err == nil || errors.Is(err, context.Canceled) || errors.Is(err, store.ErrClosed):
	case errors.Is(err, errMeta):
		return err
	default:
		c.log.Warn("background work failed, to be tried again", "event", event, "error", err)
	}
	return nil
}

// errMeta marks damaged metadata, told from damaged bytes.
var errMeta = errors.New("metadata")

// meta marks an error of the metadata store.
func meta(err error) error {
	if errors.Is(err, store.ErrCorrupt) {
		return fmt.Errorf("%w: %w", errMeta, err)
	}
	return err
}

func (c *Collector) passLoop(ctx context.Context) error {
	if c.c.Every < 0 {
		<-ctx.Done()
		return nil
	}
	var shared time.Time
	// Calls that the service's last run cut off may have left bytes in volumes
	// that are still being filled; later ones see to theirs themselves.
	o := Options{Open: true}
	for {
		now := time.Now()
		o.Share = c.c.ShareEvery > 0 && !shared.IsZero() && now.Sub(shared) >= c.c.ShareEvery
		wait := c.c.Every
		_, err := c.pass(ctx, o, true)
		if err != nil {
			wait = min(wait, retryPass)
		} else {
			o.Open = false
		}
		if o.Share && err == nil || shared.IsZero() {
			shared = now // the first look is one interval after the start
		}
		if err := c.judge("object.collect", err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// Options says what a pass does.
type Options struct {
	DryRun bool
	Share  bool // look for copies too
	Open   bool // sweep volumes that are not sealed too
}

// Run does one pass now, at full speed, and reports what it did, or with DryRun
// would do. It waits for a pass under way.
func (c *Collector) Run(ctx context.Context, o Options) (*Report, error) {
	r, err := c.pass(ctx, o, false)
	if errors.Is(err, errMeta) && c.hurt != nil {
		c.hurt(err)
	}
	return r, err
}

// OnDamage makes f hear of damaged metadata that Run meets.
func (c *Collector) OnDamage(f func(error)) { c.hurt = f }

func (c *Collector) pass(ctx context.Context, o Options, gently bool) (*Report, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-c.turn }()
	p := &pass{Collector: c, o: o, gently: gently, r: newReport(o.DryRun)}
	err := p.run(ctx)
	p.r.end(err)
	return p.r, err
}

// pass is one pass under way.
type pass struct {
	*Collector
	o      Options
	gently bool
	r      *Report
}

func (p *pass) run(ctx context.Context) error {
	if err := p.released(ctx); err != nil {
		return err
	}
	volumes, err := p.c.Objects.Volumes(ctx)
	if err != nil {
		return err
	}
	p.r.Volumes = len(volumes)
	for i := range volumes {
		if err := p.sweep(ctx, &volumes[i]); err != nil {
			return err
		}
	}
	if err := p.moveAll(ctx, volumes); err != nil {
		return err
	}
	if p.o.Share {
		return p.share(ctx)
	}
	return nil
}

// pause follows a step that began at t. A pass in the background rests.
func (p *pass) pause(ctx context.Context, t time.Time) error {
	if !p.gently {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(rest*time.Since(t), time.Second)):
		return nil
	}
}
