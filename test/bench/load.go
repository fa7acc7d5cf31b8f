// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rustyonions/macronode/test/bench/report"
)

// content makes the i-th object of a size: incompressible, and the same in every
// process.
func content(size int64, i int) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(size))
	binary.LittleEndian.PutUint64(seed[8:], uint64(i))
	out := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(out)
	return out
}

// post makes a request whose body can be sent again.
func post(url string, body []byte) (*http.Request, error) {
	return http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
}

// newClient keeps one connection a worker alive.
func newClient(workers int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: workers, MaxIdleConns: workers, DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
	}}
}

// send returns the reply's body; anything but 2xx is an error.
func send(c *http.Client, req *http.Request) ([]byte, error) {
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %.300s", req.Method, req.URL.Path, res.Status, body)
	}
	return body, nil
}

// drive lets workers call op until the time is up; the first tenth (at most a
// second) is not counted. op is told its worker and how many calls that worker
// has made.
func drive(ctx context.Context, workers int, span time.Duration, op func(ctx context.Context, worker, call int) error) (report.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := time.Now()
	from := begun.Add(min(time.Second, span/10))
	until := from.Add(span)
	took := make([][]time.Duration, workers)
	errs := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for call := 0; ; call++ {
				start := time.Now()
				if start.After(until) {
					return
				}
				if err := op(ctx, w, call); err != nil {
					errs[w] = err
					cancel() // the others need not go on
					return
				}
				if end := time.Now(); start.After(from) && !end.After(until) {
					took[w] = append(took[w], end.Sub(start))
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return report.Result{}, err
	}
	all := slices.Concat(took...)
	if len(all) == 0 {
		return report.Result{}, fmt.Errorf("no call ended within %s", span)
	}
	slices.Sort(all)
	return report.Result{Rate: float64(len(all)) / span.Seconds(), P50: millis(percentile(all, 50)), P99: millis(percentile(all, 99))}, nil
}

// percentile of a sorted, non-empty list: the smallest value that p percent do
// not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// writer makes bodies that nobody has seen before: random bytes that begin with
// a number of their own.
type writer struct {
	buf  []byte
	next uint64
}

// newWriters makes one for each worker; run makes their numbers differ from
// those of other runs.
func newWriters(workers int, size int64, run uint64) []*writer {
	all := make([]*writer, workers)
	for w := range all {
		all[w] = &writer{buf: content(size, w), next: run<<40 | uint64(w)<<32}
	}
	return all
}

// body is valid until the next call.
func (w *writer) body() []byte {
	w.next++
	binary.BigEndian.PutUint64(w.buf, w.next)
	return w.buf
}

// store puts objects 0 to n-1 of a size and returns their paths.
func store(ctx context.Context, s *server, size int64, n int) ([]string, error) {
	const workers = 8
	client := newClient(workers)
	defer client.CloseIdleConnections()
	paths := make([]string, n)
	errs := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < n && errs[w] == nil && ctx.Err() == nil; i += workers {
				name := fmt.Sprintf("o-%d-%d", size, i)
				paths[i], errs[w] = storeOne(ctx, client, s, name, content(size, i))
			}
		})
	}
	group.Wait()
	return paths, errors.Join(append(errs, ctx.Err())...)
}

// storeOne puts an object and returns its path.
func storeOne(ctx context.Context, c *http.Client, s *server, name string, body []byte) (string, error) {
	req, err := s.put(name, body)
	if err != nil {
		return "", err
	}
	reply, err := send(c, req.WithContext(ctx))
	if err != nil {
		return "", err
	}
	return s.path(name, reply)
}
