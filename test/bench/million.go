// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/report"
)

// Workers that fill the large node; those that measure are putWorkers.
const fillWorkers = 64

// measureMillion compares a node that holds few objects with one that holds
// many, side by side, and asks what the many cost in files and in start-up.
func measureMillion(ctx context.Context, b *bench) (*report.Section, error) {
	sec := &report.Section{Head: []string{"what", "value", "goal", ""}}
	sec.Note("Objects of 1 KiB, put through the API by %d connections. Costs: %d workers, %s a run, a node with %d and one with %d objects in turn, %d rounds, medians; reads of %d objects, and of objects picked at random over all, which are too many for the cache.",
		fillWorkers, putWorkers, b.set.getTime, b.set.few, b.set.many, b.set.rounds, b.set.few)
	large, err := b.startNode(ctx, 0)
	if err != nil {
		return nil, err
	}
	servers(sec, large)
	begun := time.Now()
	paths, err := fill(ctx, large, b.set.many)
	if err != nil {
		return nil, large.Failed(err)
	}
	took := time.Since(begun)
	sec.Value("filling", fmt.Sprintf("%.0f s, %.0f puts/s", took.Seconds(), float64(b.set.many)/took.Seconds()), "", nil)

	files, size, err := children.CountFiles(large.dir)
	if err != nil {
		return nil, err
	}
	sec.Value("files under the data directory", fmt.Sprint(files), "< 20 000", ptr(files < 20_000))
	sec.Value("bytes under the data directory", fmt.Sprintf("%.0f MiB, %.2f of the objects' own", float64(size)/float64(mib), float64(size)/float64(kib)/float64(b.set.many)), "", nil)

	for _, how := range []struct {
		name string
		end  func() error
	}{{"start to ready after a clean stop", func() error { return large.Stop() }}, {"start to ready after kill -9", func() error { large.Kill(); return nil }}} {
		var starts []time.Duration
		for range b.set.rounds {
			if err := how.end(); err != nil {
				return nil, err
			}
			begun := time.Now()
			if large, err = large.again(ctx); err != nil {
				return nil, err
			}
			starts = append(starts, time.Since(begun))
		}
		s := report.StatOf(starts, func(d time.Duration) float64 { return d.Seconds() })
		sec.Value(how.name, fmt.Sprintf("%.2f s (%.2f-%.2f)", s.Median, s.Low, s.High), "< 2 s", ptr(s.High < 2))
	}
	if err := costs(ctx, b, sec, large, paths); err != nil {
		return nil, err
	}
	if err := collectMany(ctx, sec, large, paths); err != nil {
		return nil, large.Failed(err)
	}
	peak, err := large.Peak()
	if err != nil {
		return nil, err
	}
	sec.Value("VmHWM of the large node", fmt.Sprintf("%.0f MiB", float64(peak)/float64(mib)), "", nil)
	return sec, errors.Join(large.Stop(), os.RemoveAll(large.dir))
}

// fill puts n objects of 1 KiB and returns their paths.
func fill(ctx context.Context, s *server, n int) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := newClient(fillWorkers)
	defer client.CloseIdleConnections()
	paths := make([]string, n)
	errs := make([]error, fillWorkers)
	var next, said atomic.Int64
	var group sync.WaitGroup
	for w := range fillWorkers {
		group.Go(func() {
			body := content(kib, w)
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				copy(body, fmt.Sprintf("%016d", i))
				if paths[i], errs[w] = storeOne(ctx, client, s, "", body); errs[w] != nil {
					cancel()
					return
				}
				if tenth := int64(i+1) * 10 / int64(n); n >= 100_000 && tenth > said.Load() && said.CompareAndSwap(tenth-1, tenth) {
					report.Say("%d of %d objects stored", i+1, n)
				}
			}
		})
	}
	group.Wait()
	return paths, errors.Join(errs...)
}

// costs measures both nodes in turn. The small one is new each round, because
// the puts that measure it make it larger.
func costs(ctx context.Context, b *bench, sec *report.Section, large *server, paths []string) error {
	// spread is reads of all objects of the node, of which a cache helps with few.
	type run struct{ get, spread, put report.Result }
	var few, many []run
	var cpuFew, cpuMany []float64
	for round := range b.set.rounds {
		small, err := b.startNode(ctx, 0)
		if err != nil {
			return err
		}
		smallPaths, err := fill(ctx, small, b.set.few)
		if err != nil {
			return small.Failed(err)
		}
		var pair [2]run
		var cpu [2]float64
		for i := range 2 {
			which := (i + round) % 2
			s, p, all := small, smallPaths, smallPaths
			if which == 1 {
				s, p, all = large, paths[:b.set.few], paths
			}
			before, err := s.CPU()
			if err != nil {
				return err
			}
			if pair[which].get, err = getRandom(ctx, s, p, b.set.getTime); err != nil {
				return s.Failed(err)
			}
			after, err := s.CPU()
			if err != nil {
				return err
			}
			cpu[which] = (after - before).Seconds() * 1e6 / (pair[which].get.Rate * b.set.getTime.Seconds())
			if pair[which].spread, err = getRandom(ctx, s, all, b.set.getTime); err != nil {
				return s.Failed(err)
			}
			if pair[which].put, err = putMany(ctx, s, b.set.getTime, uint64(round*2+which)); err != nil {
				return s.Failed(err)
			}
			report.Say("round %d, %d objects: get %.0f/s, of all %.0f/s, put %.0f/s", round+1, len(all), pair[which].get.Rate, pair[which].spread.Rate, pair[which].put.Rate)
		}
		few, many = append(few, pair[0]), append(many, pair[1])
		cpuFew, cpuMany = append(cpuFew, cpu[0]), append(cpuMany, cpu[1])
		small.Kill()
		if err := os.RemoveAll(filepath.Clean(small.dir)); err != nil {
			return err
		}
	}
	row := func(what string, f func(run) float64) {
		a, z := report.StatOf(few, f), report.StatOf(many, f)
		ratio := a.Median / z.Median // time per call, so the other way round than rates
		sec.Value(what, fmt.Sprintf("%.0f/s at %d, %.0f/s at %d: %.2f times the cost", a.Median, b.set.few, z.Median, b.set.many, ratio), "≤ 1.3", ptr(ratio <= 1.3))
	}
	row(fmt.Sprintf("GET, the same %d objects again and again", b.set.few), func(r run) float64 { return r.get.Rate })
	row("GET, at random over all objects", func(r run) float64 { return r.spread.Rate })
	row("PUT", func(r run) float64 { return r.put.Rate })
	same := func(f float64) float64 { return f }
	a, z := report.StatOf(cpuFew, same), report.StatOf(cpuMany, same)
	sec.Value("processor time of the node a GET", fmt.Sprintf("%.0f us at %d, %.0f us at %d: %.2f times", a.Median, b.set.few, z.Median, b.set.many, z.Median/a.Median), "", nil)
	return nil
}

// getRandom reads paths picked at random.
func getRandom(ctx context.Context, s *server, paths []string, span time.Duration) (report.Result, error) {
	client := newClient(putWorkers)
	defer client.CloseIdleConnections()
	return drive.Run(ctx, putWorkers, span, func(ctx context.Context, _, _ int) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+paths[rand.IntN(len(paths))], nil)
		if err != nil {
			return err
		}
		req.Header.Set(s.getHeader[0], s.getHeader[1])
		_, err = send(client, req)
		return err
	})
}

// putMany stores new objects of 1 KiB.
func putMany(ctx context.Context, s *server, span time.Duration, run uint64) (report.Result, error) {
	client := newClient(putWorkers)
	defer client.CloseIdleConnections()
	writers := newWriters(putWorkers, kib, run)
	return drive.Run(ctx, putWorkers, span, func(ctx context.Context, w, _ int) error {
		_, err := storeOne(ctx, client, s, "", writers[w].body())
		return err
	})
}
