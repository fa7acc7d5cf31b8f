// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wires

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/report"
)

// caller makes one call and checks how many bytes came; buf is its own.
type caller func(ctx context.Context, buf []byte) error

// lane is one of those that are compared.
type lane struct {
	name    string
	server  *children.Proc
	workers int
	call    caller
	done    func()
	runs    []run
}

// run is one turn of a lane.
type run struct {
	report.Result
	server, client float64 // µs of processor time a call
	refused        float64 // calls of a hundred that the server turned away; they count for nothing else
}

func rateOf(r run) float64 { return r.Rate }

// drive has the lane's workers call, each the next time when its last call is
// done, for as long as span.
func (l *lane) drive(ctx context.Context, span time.Duration, bufBytes int) (run, error) {
	took := make([][]time.Duration, l.workers)
	errs := make([]error, l.workers)
	away := make([]int, l.workers)
	served, err := l.server.CPU()
	if err != nil {
		return run{}, err
	}
	own := processorTime()
	begun := time.Now()
	end := begun.Add(span)
	var wg sync.WaitGroup
	for w := range l.workers {
		wg.Go(func() {
			buf := make([]byte, bufBytes)
			for at := time.Now(); at.Before(end) && errs[w] == nil && ctx.Err() == nil; {
				err := l.call(ctx, buf)
				now := time.Now()
				if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusServiceUnavailable {
					away[w]++
				} else {
					errs[w] = err
					took[w] = append(took[w], now.Sub(at))
				}
				at = now
			}
		})
	}
	wg.Wait()
	wall := time.Since(begun)
	own = processorTime() - own
	after, err := l.server.CPU()
	if err := errors.Join(append(errs, err, ctx.Err())...); err != nil {
		return run{}, fmt.Errorf("%s: %w", l.name, err)
	}
	all := slices.Concat(took...)
	if len(all) == 0 {
		return run{}, fmt.Errorf("%s: every call was turned away", l.name)
	}
	slices.Sort(all)
	n, refused := float64(len(all)), 0.0
	for _, a := range away {
		refused += float64(a)
	}
	at := func(q float64) float64 { return all[int(q*(n-1))].Seconds() * 1e3 }
	return run{report.Result{Rate: n / wall.Seconds(), P50: at(0.5), P99: at(0.99)},
		(after - served).Seconds() * 1e6 / n, own.Seconds() * 1e6 / n, 100 * refused / (n + refused)}, nil
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no way to fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// get reads path with the public client, whichever wire it is on.
func get(c *client.Client, path string, size int64) caller {
	return func(ctx context.Context, buf []byte) error {
		resp, err := c.Do(ctx, client.Request{Method: "GET", Path: path})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var n int64
		for {
			m, err := resp.Body.Read(buf)
			n += int64(m)
			switch {
			case err == io.EOF && n == size:
				return nil
			case err == io.EOF:
				return fmt.Errorf("%d bytes came, not %d", n, size)
			case err != nil:
				return err
			}
		}
	}
}

// race drives the lanes in turn, the other way around in every second round. A
// first round warms up and is not counted.
func race(ctx context.Context, rounds int, span time.Duration, bufBytes int, lanes []*lane) error {
	for round := range rounds + 1 {
		order := slices.Clone(lanes)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, l := range order {
			r, err := l.drive(ctx, span, bufBytes)
			if err != nil {
				return err
			}
			if round > 0 {
				report.Say("round %d %s: %s/s, p99 %.2f ms, %s µs of the server, %s of the client, %.2f %% refused", round, l.name, report.Number(r.Rate), r.P99, report.Number(r.server), report.Number(r.client), r.refused)
				l.runs = append(l.runs, r)
			}
		}
	}
	return nil
}
