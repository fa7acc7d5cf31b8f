// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package facets

import (
	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/svc/omnigate/feed"
	"github.com/rustyonions/macronode/internal/svc/omnigate/graph"
	"github.com/rustyonions/macronode/name"
)

// makeGraph makes the graph, and the feed that goes along its edges.
func (s *Set) makeGraph(c *config.Config, d Deps) (err error) {
	s.graph, err = graph.New(graph.Config{KV: d.KV, Idem: d.Idem, Settings: graphSettings(c), Normal: normal, Metrics: graph.NewMetrics(d.Metrics), Log: d.Log})
	if err != nil {
		return err
	}
	s.feed, err = feed.New(feed.Config{KV: d.KV, Idem: d.Idem, Graph: s.graph, Settings: feedSettings(c), Normal: normal, Metrics: feed.NewMetrics(d.Metrics), Log: d.Log})
	return err
}

// normal makes the name of a vertex what naming makes of it.
func normal(s string) (string, error) {
	n, err := name.Normalize(s)
	if err != nil {
		return "", macronode.Errorf(macronode.Invalid, "the name is refused (%s): %w", name.RuleOf(err), err)
	}
	return n, nil
}

func graphSettings(c *config.Config) graph.Settings {
	return graph.Settings{MaxEdges: c.Facets.Graph.MaxEdges}
}

func feedSettings(c *config.Config) feed.Settings {
	f := &c.Facets.Feed
	return feed.Settings{MaxEntries: int(f.MaxEntries), MaxPosts: f.MaxPosts, MaxPending: f.MaxPending}
}
