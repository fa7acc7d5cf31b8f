// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/bench/wrk"
)

// getCell is one row group of the GET table.
type getCell struct {
	size    int64
	walk    bool // a list of objects, four times the node's cache, instead of a few
	objects int
	// goals as ratios of the node's rate; 0: none
	minio, bare float64
}

// getCells are the cells of the wanted sizes. The few objects of "verified
// cache" fill a sixteenth of the cache at most.
func getCells(set settings) []getCell {
	var cells []getCell
	for _, n := range set.sizes {
		few := int(max(1, min(16, set.cache/16/n)))
		switch {
		case n <= 64*kib:
			cells = append(cells, getCell{size: n, objects: few, minio: 3, bare: 0.7})
		case n <= mib:
			cells = append(cells, getCell{size: n, walk: true, objects: walked(set, n), minio: 1}, getCell{size: n, objects: few, minio: 1.2})
		default:
			cells = append(cells, getCell{size: n, walk: true, objects: walked(set, n), minio: 0.7}, getCell{size: n, objects: few, minio: 0.9})
		}
	}
	return cells
}

// walked is how many objects are four caches.
func walked(set settings, size int64) int { return int(max(4, 4*set.cache/size)) }

func (c getCell) name() string {
	from, s := "verified cache", "s"
	if c.walk {
		from = "page cache"
	}
	if c.objects == 1 {
		s = ""
	}
	return fmt.Sprintf("%s, %d object%s (%s)", sizeName(c.size), c.objects, s, from)
}

// startNodeWithCache asks for the cache size where the node knows it as that of
// objects, and takes the node as it is where the key is refused.
func (b *bench) startNodeWithCache(ctx context.Context) (*server, error) {
	s, err := b.startNode(ctx, b.set.cache)
	if err == nil || ctx.Err() != nil {
		return s, err
	}
	report.Say("cache_bytes is refused; the node keeps its default: %v", err)
	return b.startNode(ctx, 0)
}

func measureGet(ctx context.Context, b *bench) (*report.Section, error) {
	cells := getCells(b.set)
	node, err := b.startNodeWithCache(ctx)
	if err != nil {
		return nil, err
	}
	minio, err := b.startMinIO(ctx)
	if err != nil {
		return nil, err
	}
	bare, err := b.startBare(ctx, b.set.sizes)
	if err != nil {
		return nil, err
	}
	sec := &report.Section{Head: []string{"size and set", "server", "req/s", "range", "MB/s", "p50 ms", "p99 ms", "node is", "goal", ""}}
	sec.Note("`wrk -t1 -c%d -d%ds`, HTTP/1.1 keep-alive on loopback, each server once a round, %d rounds; median (range) over the rounds. A shorter run of each before the first round is not counted. What was stored is in the page cache.",
		wrk.Connections, int(b.set.getTime.Seconds()), b.set.rounds)
	servers(sec, node, minio, bare)

	for _, c := range cells {
		paths := map[*server][]string{bare: {"/" + strconv.FormatInt(c.size, 10)}}
		for _, s := range []*server{node, minio} {
			report.Say("storing %d objects of %s in %s", c.objects, sizeName(c.size), s.name)
			if paths[s], err = store(ctx, s, c.size, c.objects); err != nil {
				return nil, err
			}
		}
		order := []*server{node, minio, bare}
		if c.walk {
			order = order[:2]
		}
		runs := map[*server][]report.Result{}
		for round := range b.set.rounds + 1 {
			for i := range order {
				s := order[(i+round)%len(order)]
				span := b.set.getTime
				if round == 0 {
					span = max(span/4, 1e9) // warms caches and connections; not counted
				}
				r, err := wrk.Job{Bin: b.set.wrk, URL: s.url, Dir: s.dir, Header: s.getHeader, Paths: paths[s], Size: c.size, Span: span}.Run(ctx)
				if err != nil {
					return nil, s.Failed(err)
				}
				if round > 0 {
					report.Say("get %s round %d %s: %.0f req/s, p99 %.2f ms", c.name(), round, s.name, r.Rate, r.P99)
					runs[s] = append(runs[s], r)
				}
			}
		}
		sec.Compare(c.name(), c.size, runs[node], []report.Peer{{Name: minio.name, Runs: runs[minio], Goal: c.minio, P99: true}, {Name: bare.name, Runs: runs[bare], Goal: c.bare, P99: false}})
	}
	return sec, nil
}
