// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/memo"
	"github.com/rustyonions/macronode/internal/svc/index/manifest"
)

// Name is the service's name in config, metrics and logs.
const Name = "svc-index"

// NameVersion is what a name points at.
type NameVersion struct {
	Addr    b3.Addr
	Version uint64
	TTL     int64 // seconds; 0: none
	Meta    map[string]string
	SetMS   int64 // when the version was set
}

// Names are a tenant's names.
type Names interface {
	// Canonical returns the one form in which a name is kept; Invalid where it
	// can be none.
	Canonical(name string) (string, error)
	// Lookup returns what the canonical name points at; NotFound where there is
	// no such name.
	Lookup(ctx context.Context, tenant macronode.TenantID, name string) (NameVersion, error)
}

// Object is what is known of an object without its bytes.
type Object struct {
	Size        int64
	ContentType string
	CreatedMS   int64 // 0: not known
}

// Objects are the tenant's objects of this node.
type Objects interface {
	// Look returns the object's; NotFound where this node does not have it.
	Look(ctx context.Context, tenant macronode.TenantID, addr b3.Addr) (Object, error)
	// Open reads the object, wherever it is, verified as it is read.
	Open(ctx context.Context, tenant macronode.TenantID, addr b3.Addr) (io.ReadCloser, error)
}

// Peers are the other nodes.
type Peers interface {
	// Self is this node's id.
	Self() string
	// Holders are the nodes that announced the object for this tenant, the fastest
	// first. No call is made.
	Holders(tenant macronode.TenantID, addr b3.Addr) []string
	// Find asks them for the object; NotFound where none of them has it, or none
	// is to be asked.
	Find(ctx context.Context, tenant macronode.TenantID, addr b3.Addr) (Object, error)
}

// Guard keeps calls from a neighbour that does not answer.
type Guard interface {
	// Enter refuses, or returns what is to be called with the outcome.
	Enter() (leave func(error), err error)
}

// Neighbour names one of those who are asked.
type Neighbour string

// The neighbours, in the order in which they are asked.
const (
	ByName  Neighbour = "names"
	ByStore Neighbour = "objects"
	ByPeers Neighbour = "peers"
)

// Neighbours is the closed list.
var Neighbours = []Neighbour{ByName, ByStore, ByPeers}

// Budgets: how long one neighbour may take of a call.
const (
	DefaultNear     = time.Second // names and objects, which are this node's
	DefaultFar      = 1500 * time.Millisecond
	DefaultManifest = time.Second
	// manifests are how many are read at once.
	manifests = 4
)

// Times for which is remembered what peers said. They are short, since nobody tells
// when it becomes wrong.
const (
	rememberFound   = 30 * time.Second
	rememberMissing = 2 * time.Second
	rememberAway    = 500 * time.Millisecond
)

// Sizes of what is remembered, in entries.
const (
	maxRemembered = 16 << 10
	maxSummaries  = 4 << 10
)

// Config is what New needs. Names, Objects and Peers are required; a zero member else
// means its default.
type Config struct {
	Names   Names
	Objects Objects
	Peers   Peers
	// Generation is how many changes of the tenant's names and objects are durable,
	// at least those that were acknowledged before the call; nil: they are not
	// counted. It says nothing of other tenants'.
	Generation func(context.Context, macronode.TenantID) (uint64, error)
	// Guard is the neighbour's; nil: nothing is held back.
	Guard               func(Neighbour) Guard
	Near, Far, Manifest time.Duration
	Metrics             *Metrics     // nil: nothing is counted
	Log                 *slog.Logger // nil: nothing is logged
	Now                 func() time.Time
}

func (c *Config) fill() error {
	if c.Names == nil || c.Objects == nil || c.Peers == nil {
		return errors.New("index: Names, Objects and Peers are required")
	}
	if c.Generation == nil {
		c.Generation = func(context.Context, macronode.TenantID) (uint64, error) { return 0, nil }
	}
	if c.Near <= 0 {
		c.Near = DefaultNear
	}
	if c.Far <= 0 {
		c.Far = DefaultFar
	}
	if c.Manifest <= 0 {
		c.Manifest = DefaultManifest
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// Service is svc-index.
type Service struct {
	cfg    Config
	guards map[Neighbour]Guard

	said      *memo.Memo[spot, said]             // of peers
	summaries *memo.Memo[spot, manifest.Summary] // of manifests, which never change
	reading   chan struct{}                      // one place for each manifest being read
}

// spot is a tenant's object.
type spot struct {
	tenant macronode.TenantID
	addr   b3.Addr
}

var _ macronode.Service = (*Service)(nil)

// New returns a service that works once its handlers are called.
func New(c Config) (*Service, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	s := &Service{
		cfg: c, guards: make(map[Neighbour]Guard), reading: make(chan struct{}, manifests),
		said: memo.New[spot, said](maxRemembered, c.Now), summaries: memo.New[spot, manifest.Summary](maxSummaries, c.Now),
	}
	for _, n := range Neighbours {
		if c.Guard != nil {
			s.guards[n] = c.Guard(n)
		}
	}
	return s, nil
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// Serve implements macronode.Service: it begins with nothing remembered.
func (s *Service) Serve(ctx context.Context) error {
	s.Forget()
	<-ctx.Done()
	return nil
}

// Ready implements macronode.Service. What the neighbours lack they say themselves.
func (s *Service) Ready(context.Context) error { return nil }

// Forget throws away all that is remembered.
func (s *Service) Forget() {
	s.said.Clear()
	s.summaries.Clear()
}

// Remembered is how many answers of peers and summaries of manifests are kept.
func (s *Service) Remembered() (answers, summaries int) { return s.said.Len(), s.summaries.Len() }

// ask calls a neighbour within its budget, past its guard. A refusal by the guard,
// and a budget that ran out, are Unavailable.
func (s *Service) ask(ctx context.Context, n Neighbour, budget time.Duration, f func(context.Context) error) error {
	leave := func(error) {}
	if g := s.guards[n]; g != nil {
		var err error
		if leave, err = g.Enter(); err != nil {
			s.cfg.Metrics.asked(n, outcomeHeld)
			return err
		}
	}
	mine, cancel := context.WithTimeoutCause(ctx, budget, errBudget)
	defer cancel()
	err := f(mine)
	switch {
	case err != nil && ctx.Err() != nil:
		leave(context.Canceled) // the caller's doing
		return macronode.Wrap(macronode.ClientGone, "", err)
	case err != nil && errors.Is(context.Cause(mine), errBudget):
		leave(errBudget)
		s.cfg.Metrics.asked(n, outcomeLate)
		return macronode.Wrap(macronode.Unavailable, "the "+string(n)+" did not answer in time", err)
	}
	leave(err)
	switch {
	case err == nil:
		s.cfg.Metrics.asked(n, outcomeFound)
	case macronode.KindOf(err) == macronode.NotFound:
		s.cfg.Metrics.asked(n, outcomeMissing)
	default:
		s.cfg.Metrics.asked(n, outcomeFailed)
	}
	return err
}

var errBudget = errors.New("the neighbour's share of the call's time is over")

// away reports whether err says that a neighbour cannot be asked now, as opposed to
// what it answered.
func away(err error) bool { return Failed(err) || macronode.KindOf(err) == macronode.Integrity }

// Failed reports whether err, given to a Guard, is a failure of the neighbour. Damage
// of one object is none: who asks for that object must not keep others from theirs.
func Failed(err error) bool {
	switch macronode.KindOf(err) {
	case macronode.Unavailable, macronode.Overload, macronode.DeadlineExceeded, macronode.Internal:
		return true
	}
	return false
}
