// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package rounds times functions in turn, so that a slow minute of the machine
// hits all of them alike.
package rounds

import (
	"context"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// Plan is how long to measure.
type Plan struct {
	Rounds int
	Turn   time.Duration // of one function in one round, in processor time
	Span   time.Duration // of one run over loopback
	Bin    string        // folder of macronode
	Dir    string        // for scratch folders, on a real disk
}

// Racer is what is timed: Do does its work once; i counts up.
type Racer struct {
	Name string
	Do   func(i int)
}

// Lap is what one racer came to.
type Lap struct {
	Name   string
	Nanos  []float64 // a call, by round
	Allocs float64   // a call
	Bytes  float64   // a call
}

// Median is the middle of the rounds.
func (l *Lap) Median() float64 { return l.at(0.5) }

// Range is the best and the worst round.
func (l *Lap) Range() (low, high float64) { return l.at(0), l.at(1) }

func (l *Lap) at(q float64) float64 {
	v := slices.Sorted(slices.Values(l.Nanos))
	i := q * float64(len(v)-1)
	lo := v[int(i)]
	hi := v[min(int(i)+1, len(v)-1)]
	return lo + (hi-lo)*(i-float64(int(i)))
}

// Run times the racers, one after the other in each round, in an order that is
// turned around from round to round. A first round warms up and is not counted.
func Run(ctx context.Context, p Plan, racers []Racer) ([]*Lap, error) {
	laps := make([]*Lap, len(racers))
	for i, r := range racers {
		laps[i] = &Lap{Name: r.Name}
	}
	for round := range p.Rounds + 1 {
		for n := range racers {
			i := n
			if round%2 == 1 {
				i = len(racers) - 1 - n
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			nanos, allocs, bytes := turn(p.Turn, racers[i].Do)
			if round > 0 {
				laps[i].Nanos = append(laps[i].Nanos, nanos)
				laps[i].Allocs, laps[i].Bytes = allocs, bytes
			}
		}
	}
	return laps, nil
}

// turn calls f until it has taken d of processor time, looking at the clock
// seldom enough not to be measured itself. Processor time, because others may
// want the processors too; that of all threads, because the collector has its own.
func turn(d time.Duration, f func(int)) (nanos, allocs, bytes float64) {
	runtime.GC()
	n, batch := 0, 1
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := cpuTime()
	for {
		for range batch {
			f(n)
			n++
		}
		took := cpuTime() - begun
		if took >= d {
			runtime.ReadMemStats(&after)
			calls := float64(n)
			return float64(took) / calls, float64(after.Mallocs-before.Mallocs) / calls, float64(after.TotalAlloc-before.TotalAlloc) / calls
		}
		if took < d/100 {
			batch *= 2
		}
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no way to fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
