// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package facets puts a node's facets into their frame: config, breakers and what
// each needs of the others.
package facets

import (
	"errors"
	"log/slog"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/journal"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/naming"
	"github.com/rustyonions/macronode/internal/svc/omnigate"
	"github.com/rustyonions/macronode/internal/svc/omnigate/feed"
	"github.com/rustyonions/macronode/internal/svc/omnigate/graph"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search"
	"github.com/rustyonions/macronode/internal/svc/storage"
)

// Deps are what facets work with.
type Deps struct {
	Breakers *breaker.Registry
	Metrics  *metrics.Registry
	Log      *slog.Logger
	KV       store.KV
	Idem     *idem.Keeper
	Journal  *journal.Journal
	Dir      datadir.Dir
	Storage  *storage.Service
	Naming   *naming.Service
	Media    media.Objects
	// Panicked hears of panics of the service of this name.
	Panicked func(service string, value any, stack []byte)
}

// Set is the service of all facets.
type Set struct {
	*omnigate.Service
	graph   *graph.Facet
	feed    *feed.Facet
	search  *search.Facet
	journal *journal.Journal
}

// New makes the facets and the frame around them. A new facet is one in the list.
func New(c *config.Config, d Deps) (*Set, error) {
	s := &Set{journal: d.Journal}
	var err error
	if s.search, err = newSearch(d); err != nil {
		return nil, err
	}
	if err = s.makeGraph(c, d); err != nil {
		return nil, err
	}
	m, err := newMedia(d)
	if err != nil {
		return nil, err
	}
	list := []omnigate.Facet{s.graph, s.feed, s.search, m}
	s.Service, err = omnigate.New(omnigate.Config{
		Breaker:  func(name string) omnigate.Breaker { return newSwitch(d.Breakers, name) },
		Settings: settings(c), Metrics: omnigate.NewMetrics(d.Metrics), Log: d.Log,
		Panicked: func(value any, stack []byte) { d.Panicked(omnigate.Name, value, stack) },
	}, list)
	if err != nil {
		return nil, err
	}
	return s, s.quiet(c)
}

// Check says what of [facets] makes no sense.
func Check(c *config.Config) error {
	return errors.Join(settings(c).Validate(), graphSettings(c).Validate(), feedSettings(c).Validate())
}

// Set applies what a reload changes.
func (s *Set) Set(c *config.Config) error {
	return errors.Join(s.SetSettings(settings(c)), s.graph.SetSettings(graphSettings(c)), s.feed.SetSettings(feedSettings(c)), s.quiet(c))
}

// settings are what [facets] says of the frame.
func settings(c *config.Config) omnigate.Settings {
	f := &c.Facets
	permits := map[string]config.Permits{"graph": f.Graph.Permits, "feed": f.Feed.Permits, "search": f.Search.Permits, "media": f.Media.Permits}
	s := omnigate.Settings{Permits: make(map[string]int64, len(f.Enable))}
	for _, name := range f.Enable {
		p := permits[name]
		s.Permits[name] = p.Count()
	}
	return s
}

// killSwitch is the breaker of a facet as omnigate wants it.
type killSwitch struct{ b *breaker.Breaker }

func newSwitch(r *breaker.Registry, facet string) killSwitch {
	return killSwitch{r.Add(breaker.Config{Name: "facet-" + facet, Refusal: macronode.FacetDown, Judge: judge})}
}

// judge: a refusal is an answer, and a caller who went away says nothing.
func judge(err error) breaker.Verdict {
	kind := macronode.KindOf(err)
	switch {
	case errors.Is(err, omnigate.ErrFailed):
		return breaker.Failed
	case kind == macronode.ClientGone, kind == macronode.DeadlineExceeded:
		return breaker.Unknown
	}
	return breaker.Answered
}

// Enter implements omnigate.Breaker.
func (k killSwitch) Enter() (func(error), error) {
	p, err := k.b.Enter()
	if err != nil {
		return nil, err
	}
	return p.Leave, nil
}

// Check implements omnigate.Breaker.
func (k killSwitch) Check() error { return k.b.Check() }
