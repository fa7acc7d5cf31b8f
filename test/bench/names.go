// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/bench/wrk"
)

const (
	namesGoal = 0.8  // the least rate of look-ups, as a share of that of objects of 1 KiB
	manyNames = 1000 // that there are
)

// measureNames races look-ups of names against reads of objects of 1 KiB, on one node
// in turns.
func measureNames(ctx context.Context, b *bench) (*report.Section, error) {
	node, err := b.startNodeWithCache(ctx)
	if err != nil {
		return nil, err
	}
	objects, err := store(ctx, node, kib, 16)
	if err != nil {
		return nil, err
	}
	looked, served := make([]string, manyNames), make([]string, manyNames)
	client := newClient(8)
	defer client.CloseIdleConnections()
	for i := range manyNames {
		name := fmt.Sprintf("site.page-%d", i)
		looked[i], served[i] = "/v1/names/"+name, "/n/bench/"+name // the tenant of startNode
		body := strings.NewReader(fmt.Sprintf(`{"addr":%q,"ttl_s":60}`, strings.TrimPrefix(objects[i%len(objects)], "/o/")))
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, node.url+looked[i], body)
		if err != nil {
			return nil, err
		}
		req.Header.Set(node.getHeader[0], node.getHeader[1])
		if _, err = send(client, req); err != nil {
			return nil, node.Failed(err)
		}
	}
	ways := []struct {
		name  string
		paths []string
		size  int64
	}{{"GET /o/ADDR, 1 KiB", objects, kib}, {"GET /v1/names/NAME", looked, 100}, {"GET /n/TENANT/NAME, 1 KiB", served, kib}}
	runs := make([][]report.Result, len(ways))
	for round := range b.set.rounds + 1 {
		for k := range ways {
			i := (k + round) % len(ways)
			job := wrk.Job{Bin: b.set.wrk, URL: node.url, Dir: node.dir, Header: node.getHeader, Paths: ways[i].paths, Size: ways[i].size, Span: b.set.getTime}
			r, err := job.Run(ctx)
			if err != nil { // a few calls may be shed while the node learns what they cost
				r, err = job.Run(ctx)
			}
			if err != nil {
				return nil, node.Failed(err)
			}
			if round > 0 { // the first warms caches and connections
				report.Say("names round %d %s: %.0f req/s, p99 %.2f ms", round, ways[i].name, r.Rate, r.P99)
				runs[i] = append(runs[i], r)
			}
		}
	}
	sec := &report.Section{Head: []string{"call", "of", "req/s", "range", "MB/s", "p50 ms", "p99 ms", "node is", "goal", ""}}
	sec.Note("`wrk -t1 -c%d -d%ds`, HTTP/1.1 keep-alive on loopback, each call once a round, %d rounds; median (range) over the rounds. %d names point at 16 objects.",
		wrk.Connections, int(b.set.getTime.Seconds()), b.set.rounds, manyNames)
	servers(sec, node)
	sec.Compare(ways[1].name, ways[1].size, runs[1], []report.Peer{{Name: ways[0].name, Runs: runs[0], Goal: namesGoal}})
	sec.Compare(ways[2].name, ways[2].size, runs[2], []report.Peer{{Name: ways[0].name, Runs: runs[0]}})
	return sec, nil
}
