// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/report"
)

// calm is how long readers are watched before the collection.
const calm = 5 * time.Second

// collectMany drops two of three objects, has the node collect at full speed, and
// watches what one reader sees of it, and the node's memory.
func collectMany(ctx context.Context, sec *report.Section, s *server, paths []string) error {
	var kept, gone []string
	for i, p := range paths {
		if i%3 == 0 {
			kept = append(kept, p)
		} else {
			gone = append(gone, p)
		}
	}
	begun := time.Now()
	if err := drop(ctx, s, gone); err != nil {
		return err
	}
	took := time.Since(begun)
	sec.Value("deleting two thirds", fmt.Sprintf("%.0f s, %.0f deletes/s", took.Seconds(), float64(len(gone))/took.Seconds()), "", nil)
	quiet, err := watch(ctx, s, kept, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(calm):
			return nil
		}
	})
	if err != nil {
		return err
	}
	var report struct {
		TookMS int64 `json:"took_ms"`
		Items  []struct {
			Reason  string `json:"reason"`
			Objects int64  `json:"objects"`
		} `json:"items"`
	}
	before, err := s.Memory()
	if err != nil {
		return err
	}
	busy, err := watch(ctx, s, kept, func(ctx context.Context) error {
		reply, err := asOperator(ctx, s, "/v1/admin/collect")
		if err != nil {
			return err
		}
		return json.Unmarshal(reply, &report)
	})
	if err != nil {
		return err
	}
	moved := int64(0)
	for _, i := range report.Items {
		if i.Reason == "sparse" {
			moved = i.Objects
		}
	}
	_, size, err := children.CountFiles(s.dir)
	if err != nil {
		return err
	}
	sec.Value("collecting", fmt.Sprintf("%.0f s, %d objects moved at full speed; %.0f MiB are left under the data directory", float64(report.TookMS)/1000, moved, float64(size)/float64(mib)), "", nil)
	sec.Value("one reader meanwhile", fmt.Sprintf("longest %.1f ms, p99.9 %.1f ms, p50 %.2f ms; before it %.1f, %.1f, %.2f ms",
		busy.longest, busy.p999, busy.p50, quiet.longest, quiet.p999, quiet.p50), "≤ 50 ms", ptr(busy.longest <= 50))
	grown := float64(busy.memory-before) / float64(mib)
	sec.Value("memory more while collecting", fmt.Sprintf("%.0f MiB", max(grown, 0)), "≤ 64 MiB", ptr(grown <= 64))
	return nil
}

// drop deletes the objects, by many connections.
func drop(ctx context.Context, s *server, paths []string) error {
	client := newClient(fillWorkers)
	defer client.CloseIdleConnections()
	errs := make([]error, fillWorkers)
	var next atomic.Int64
	var group sync.WaitGroup
	for w := range fillWorkers {
		group.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(paths) && errs[w] == nil; i = next.Add(1) - 1 {
				req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.url+paths[i], nil)
				if err == nil {
					req.Header.Set(s.getHeader[0], s.getHeader[1])
					_, err = send(client, req)
				}
				errs[w] = err
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// asOperator posts an empty request as the operator.
func asOperator(ctx context.Context, s *server, path string) ([]byte, error) {
	token, err := os.ReadFile(filepath.Join(s.dir, "data", "operator.cap"))
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader([]byte("{}")))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	client := newClient(1)
	defer client.CloseIdleConnections()
	client.Timeout = 0 // it takes as long as it takes
	return send(client, req)
}

// seen is what a reader saw, in milliseconds, and the node's greatest memory.
type seen struct {
	p50, p999, longest float64
	memory             int64
}

// watch reads one object after the other while f runs.
func watch(ctx context.Context, s *server, paths []string, f func(context.Context) error) (seen, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	client := newClient(1)
	defer client.CloseIdleConnections()
	var took []float64
	var out seen
	for {
		select {
		case err := <-done:
			slices.Sort(took)
			if n := len(took); n > 0 {
				out.p50, out.p999, out.longest = took[n/2], took[n*999/1000], took[n-1]
			}
			return out, err
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+paths[rand.IntN(len(paths))], nil)
		if err != nil {
			return out, err
		}
		req.Header.Set(s.getHeader[0], s.getHeader[1])
		begun := time.Now()
		if _, err := send(client, req); err != nil {
			return out, err
		}
		took = append(took, float64(time.Since(begun).Microseconds())/1000)
		if len(took)%500 == 0 {
			m, err := s.Memory()
			if err != nil {
				return out, err
			}
			out.memory = max(out.memory, m)
		}
	}
}
