// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/report"
)

const putWorkers = 16

// putGoal is how many times MinIO's rate the node is to reach.
func putGoal(size int64) float64 {
	switch {
	case size <= kib:
		return 5
	case size <= 64*kib:
		return 3
	}
	return 1.5
}

func measurePut(ctx context.Context, b *bench) (*report.Section, error) {
	const nodeName, minioName, rawName = "macronode", "MinIO", "raw: write, fdatasync"
	sec := &report.Section{Head: []string{"size", "server", "puts/s", "range", "MB/s", "p50 ms", "p99 ms", "node is", "goal", ""}}
	sec.Note("%d workers, each with one keep-alive connection; new incompressible bytes every time; %s a run, each server once a round on an empty directory, %d rounds; median (range) over the rounds. "+
		"The raw control appends the same bytes to a file a worker on the same disk, with an fdatasync after each.", putWorkers, b.set.putTime, b.set.rounds)
	runs := uint64(0)
	listed := false
	for _, size := range b.set.sizes {
		got := map[string][]report.Result{}
		starts := []func(context.Context) (*server, error){
			func(ctx context.Context) (*server, error) { return b.startNode(ctx, 0) },
			b.startMinIO,
			func(context.Context) (*server, error) { return nil, nil },
		}
		var seen []*server
		for round := range b.set.rounds {
			for i := range starts {
				runs++
				s, err := starts[(i+round)%len(starts)](ctx)
				if err != nil {
					return nil, err
				}
				r, name, err := b.putRun(ctx, s, size, runs)
				if err != nil {
					return nil, err
				}
				if name == "" {
					name = rawName
				} else {
					seen = append(seen, s)
				}
				report.Say("put %s round %d %s: %.0f/s, p99 %.2f ms", sizeName(size), round+1, name, r.Rate, r.P99)
				got[name] = append(got[name], r)
			}
		}
		if !listed {
			servers(sec, seen[:2]...)
			listed = true
		}
		sec.Compare(sizeName(size), size, got[nodeName], []report.Peer{{Name: minioName, Runs: got[minioName], Goal: putGoal(size), P99: true}, {Name: rawName, Runs: got[rawName], Goal: 0, P99: false}})
	}
	return sec, nil
}

// putRun is one run on one server, or on bare files where s is nil. The server
// is stopped and its directory removed.
func (b *bench) putRun(ctx context.Context, s *server, size int64, run uint64) (report.Result, string, error) {
	writers := newWriters(putWorkers, size, run)
	if s == nil {
		r, err := b.rawRun(ctx, writers)
		return r, "", err
	}
	client := newClient(putWorkers)
	r, err := drive.Run(ctx, putWorkers, b.set.putTime, func(ctx context.Context, w, call int) error {
		_, err := storeOne(ctx, client, s, fmt.Sprintf("%d-%d-%d", run, w, call), writers[w].body())
		return err
	})
	client.CloseIdleConnections()
	s.Kill()
	if err != nil {
		return report.Result{}, s.name, s.Failed(err)
	}
	err = os.RemoveAll(s.dir)
	syscall.Sync() // what was removed is trimmed now, not in the next run
	return r, s.name, err
}

// rawRun is what the disk gives to as many writers.
func (b *bench) rawRun(ctx context.Context, writers []*writer) (report.Result, error) {
	dir, err := b.scratch("raw")
	if err != nil {
		return report.Result{}, err
	}
	files := make([]*os.File, len(writers))
	for i := range files {
		if files[i], err = os.Create(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			return report.Result{}, err
		}
		defer func() { _ = files[i].Close() }()
	}
	r, err := drive.Run(ctx, len(writers), b.set.putTime, func(ctx context.Context, w, _ int) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := files[w].Write(writers[w].body()); err != nil {
			return err
		}
		return syscall.Fdatasync(int(files[w].Fd()))
	})
	if err != nil {
		return report.Result{}, err
	}
	err = os.RemoveAll(dir)
	syscall.Sync()
	return r, err
}
