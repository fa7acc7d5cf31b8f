// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/peers/rounds"
)

// What was wanted.
const (
	policies    = 100
	goalCedar   = 8.0    // times as fast as plain cedar-go
	goalOPA     = 10.0   // times as fast as the fastest way of OPA
	goalCached  = 1000.0 // nanoseconds
	goalFlat    = 1.5    // slowest to fastest, from 10 to 10 000 policies
	forEver     = time.Hour
	ourUncached = "macronode, uncached"
	ourCached   = "macronode, cached"
	cedarAlone  = "cedar-go alone"
)

// Measure is the part of the report.
func Measure(ctx context.Context, plan rounds.Plan) (*report.Section, error) {
	sec := &report.Section{Head: []string{"case", "engine", "ns", "range", "allocations", "node is", "goal", ""}}
	sec.Note("Nanoseconds of processor time for one decision, the garbage collector's included; one goroutine, %s a turn, the engines in turn, %d rounds, medians. The world: %d policies (%d let a group read a bucket "+
		"under conditions on the user and the call, one forbids suspended users), 1000 entities (800 users, 100 groups, 100 buckets); hundreds of different requests, "+
		"all to be allowed (or denied). Each engine is asked before the run and must give the right answer to each. cedar-go and OPA are handed requests in their own form, made beforehand; "+
		"the node's figure includes making its key. OPA v1.22.2 is a prepared query with parsed input over a store that keeps AST values; the fastest way counts.", plan.Turn, plan.Rounds, policies, policies-1)
	if err := compare(ctx, plan, sec); err != nil {
		return nil, err
	}
	if err := flatness(ctx, plan, sec); err != nil {
		return nil, err
	}
	return sec, nil
}

// engines makes a racer of each engine, and refuses one that answers wrongly.
func engines(ctx context.Context, allow bool) ([]rounds.Racer, error) {
	list := calls(policies, allow)
	var out []rounds.Racer
	add := func(name string, decide func(i int) bool) error {
		for i := range list {
			if decide(i) != allow {
				return fmt.Errorf("%s: allow is %v for user %d and bucket %d", name, !allow, list[i].user, list[i].bucket)
			}
		}
		n := len(list)
		out = append(out, rounds.Racer{Name: name, Do: func(i int) { decide(i % n) }})
		return nil
	}
	ours, err := newNode(policies, users, fullRule)
	if err != nil {
		return nil, err
	}
	reqs := ours.requests(list)
	if err := add(ourUncached, func(i int) bool { return ours.decide(reqs[i], 0) }); err != nil {
		return nil, err
	}
	if err := add(ourCached, func(i int) bool { return ours.decide(reqs[i], forEver) }); err != nil {
		return nil, err
	}
	alone, err := newPlainCedar(policies)
	if err != nil {
		return nil, err
	}
	plain := alone.requests(list)
	if err := add(cedarAlone, func(i int) bool { return alone.decide(plain[i]) }); err != nil {
		return nil, err
	}
	for _, way := range []string{regoIndexed, regoLookup, regoData} {
		o, err := newOPA(ctx, way, policies)
		if err != nil {
			return nil, err
		}
		inputs, err := o.requests(list)
		if err != nil {
			return nil, err
		}
		if err := add("OPA, "+way, func(i int) bool { return o.decide(ctx, inputs[i]) }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func compare(ctx context.Context, plan rounds.Plan, sec *report.Section) error {
	for _, allow := range []bool{true, false} {
		name := "deny"
		if allow {
			name = "allow"
		}
		racers, err := engines(ctx, allow)
		if err != nil {
			return err
		}
		laps, err := rounds.Run(ctx, plan, racers)
		if err != nil {
			return err
		}
		ours, fastest := laps[0].Median(), math.Inf(1)
		for _, l := range laps[3:] {
			fastest = min(fastest, l.Median())
		}
		for _, l := range laps {
			ratio, want, verdict := "", "", ""
			times := l.Median() / ours
			switch {
			case l.Name == ourCached:
				want = fmt.Sprintf("≤ %g ns", goalCached)
				verdict = sec.Judge(name+": cached", want, report.Number(l.Median())+" ns", l.Median() <= goalCached)
			case l.Name == cedarAlone:
				ratio, want = fmt.Sprintf("%.1f×", times), fmt.Sprintf("≥ %g×", goalCedar)
				verdict = sec.Judge(name+": to "+l.Name, want, ratio, times >= goalCedar)
			case l.Median() == fastest:
				ratio, want = fmt.Sprintf("%.1f×", times), fmt.Sprintf("≥ %g×", goalOPA)
				verdict = sec.Judge(name+": to "+l.Name, want, ratio, times >= goalOPA)
			case l.Name != ourUncached:
				ratio = fmt.Sprintf("%.1f×", times)
			}
			row(sec, name, l, ratio, want, verdict)
		}
	}
	return nil
}

func row(sec *report.Section, name string, l *rounds.Lap, ratio, want, verdict string) {
	low, high := l.Range()
	report.Say("%s, %s: %s ns", name, l.Name, report.Number(l.Median()))
	sec.Row(name, l.Name, report.Number(l.Median()), report.Number(low)+"-"+report.Number(high), fmt.Sprintf("%.0f, %.0f B", l.Allocs, l.Bytes), ratio, want, verdict)
}

// flatness asks worlds of more and more policies, all else equal.
func flatness(ctx context.Context, plan rounds.Plan, sec *report.Section) error {
	var racers []rounds.Racer
	for _, n := range []int{10, 100, 1000, 10000} {
		w, err := newNode(n, groups, shortRule)
		if err != nil {
			return fmt.Errorf("%d policies: %w", n, err)
		}
		// What the smallest can answer, of the users that all have.
		list := slices.DeleteFunc(calls(10, true), func(c call) bool { return c.user >= groups })
		reqs := w.requests(list)
		for i, r := range reqs {
			if !w.decide(r, 0) {
				return fmt.Errorf("%d policies: user %d and bucket %d are denied", n, list[i].user, list[i].bucket)
			}
		}
		racers = append(racers, rounds.Racer{Name: fmt.Sprintf("%d policies", n), Do: func(i int) { w.decide(reqs[i%len(reqs)], 0) }})
	}
	laps, err := rounds.Run(ctx, plan, racers)
	if err != nil {
		return err
	}
	slow, fast := 0.0, math.Inf(1)
	for _, l := range laps {
		slow, fast = max(slow, l.Median()), min(fast, l.Median())
	}
	for i, l := range laps {
		want, got, verdict := "", "", ""
		if i == len(laps)-1 {
			want, got = fmt.Sprintf("slowest ≤ %g× fastest", goalFlat), fmt.Sprintf("%.2f×", slow/fast)
			verdict = sec.Judge("flat from 10 to 10 000 policies", want, got, slow <= goalFlat*fast)
		}
		row(sec, "allow, short policies, uncached", l, got, want, verdict)
	}
	return nil
}
