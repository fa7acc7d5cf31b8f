// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package queue races the mailbox with NATS JetStream and Redis Streams.
package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rustyonions/macronode/test/bench/queue"
	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/peers/rounds"
)

// Settings are what the environment says; scripts/bench.sh documents them.
type Settings struct {
	NATS, Redis, RedisBenchmark, Wrk string
	Only                             []string // names of contests and of the rest; none: all
	Who                              []string // first words of the lanes; none: all
	Backlog                          int      // messages to be received
	Queued                           int      // of the large queue
	Topics, Waiting                  int
}

// lane is one of those that are compared.
type lane struct {
	name  string
	run   func(ctx context.Context) (result, error)
	goals []goal // of a lane of the node's
	runs  []result
}

// result is a run with what it cost the server.
type result struct {
	report.Result
	micros  float64 // of processor time a message
	refused float64 // calls of a hundred that the server turned away
}

// measured runs load and looks at the server's processor time meanwhile.
func measured(s *queue.Server, load func() (report.Result, error)) (got result, err error) {
	before, err := s.CPU()
	if err != nil {
		return got, err
	}
	begun := time.Now()
	if got.Result, err = load(); err != nil {
		return got, err
	}
	wall := time.Since(begun)
	after, err := s.CPU()
	got.micros = (after - before).Seconds() * 1e6 / (got.Rate * wall.Seconds())
	return got, err
}

// goal is a rate as a multiple of another lane's, or the longest p99.
type goal struct {
	peer   string
	ratio  float64
	millis float64
}

// contest is what lanes do alike.
type contest struct {
	key, name string
	lanes     []*lane
}

// race is what all share.
type race struct {
	queue.Bench
	set    Settings
	rounds int
	sec    *report.Section
	seen   map[string]bool // servers that the report names
}

// Measure is the part of the report.
func Measure(ctx context.Context, plan rounds.Plan, set Settings) (_ *report.Section, err error) {
	r := &race{set: set, rounds: plan.Rounds, seen: map[string]bool{}, sec: &report.Section{Head: []string{"what", "who", "messages/s", "range", "p50 ms", "p99 ms", "server's µs a message", "refused %", "the node is", "goal", ""}}}
	r.Bench = queue.Bench{Bin: plan.Bin, NATS: set.NATS, Redis: set.Redis, Bench: set.RedisBenchmark, Wrk: set.Wrk, Span: plan.Span}
	if r.Dir, err = os.MkdirTemp(plan.Dir, "queue-"); err != nil {
		return nil, err
	}
	defer func() {
		r.Procs.KillAll()
		err = errors.Join(err, os.RemoveAll(r.Dir))
	}()
	r.sec.Note("Messages of %d bytes. Each server runs alone, on a new empty directory in each run, in turn, the other way around in every second round; %s a run, %d rounds, medians (range) over the rounds. Clients and servers share the processors. "+
		"Redis syncs every command (`appendfsync always`), NATS each message (`always`) or none before it answers (`default`); the node answers when a message is on the disk. "+
		"HTTP is sent with wrk (one thread), Redis with redis-benchmark and with go-redis, NATS with nats.go over one connection, OAP/1 over one connection, with package client or, where that is not said, with package oap/mux alone for single messages. "+
		"What is received was sent before; one consumer takes a hundred, checks them and acknowledges them, in two calls. What the node turns away with 503 is sent again and counts as refused alone. Processor time is user and system.", queue.Bytes, plan.Span, plan.Rounds)
	for _, c := range r.contests() {
		if !r.wanted(c.key) {
			continue
		}
		if err := r.hold(ctx, c); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for _, rest := range []struct {
		key     string
		measure func() error
	}{
		{"syncs", func() error { return r.syncs(ctx) }},
		{"topics", func() error { return r.Bench.Topics(ctx, r.sec, set.Topics) }},
		{"waiting", func() error { return r.Bench.Waiting(ctx, r.sec, set.Waiting) }},
		{"many", func() error { return r.Many(ctx, r.sec, set.Queued, plan.Rounds) }},
	} {
		if !r.wanted(rest.key) {
			continue
		}
		if err := rest.measure(); err != nil {
			return nil, fmt.Errorf("%s: %w", rest.key, err)
		}
	}
	return r.sec, nil
}

func (r *race) wanted(key string) bool { return among(r.set.Only, key) }

// among: an empty list is everything.
func among(list []string, word string) bool { return len(list) == 0 || slices.Contains(list, word) }

const (
	redisC  = "Redis, redis-benchmark"
	redisGo = "Redis, go-redis"
	always  = "NATS always"
	lax     = "NATS default"
	rawDisk = "append, fdatasync"
)

func (r *race) contests() []*contest {
	const at = 64
	return []*contest{
		{"send", "one message a call, 64 at a time", []*lane{
			r.node("HTTP", func(ctx context.Context, n *queue.Node) (report.Result, error) { return r.SendHTTP(ctx, n, at) },
				goal{peer: always, ratio: 4}, goal{peer: redisC, ratio: 0.5}, goal{millis: 10}),
			r.node("OAP/1", func(ctx context.Context, n *queue.Node) (report.Result, error) { return r.SendDirect(ctx, n, at) }, goal{peer: redisC, ratio: 1}),
			r.node("OAP/1, package client", func(ctx context.Context, n *queue.Node) (report.Result, error) {
				return r.SendOne(ctx, n, queue.OverOAP, at)
			}),
			r.nats(always, func(ctx context.Context, s *queue.Server) (report.Result, error) {
				return publish(ctx, &r.Bench, s, at)
			}),
			r.redis(redisC, func(ctx context.Context, s *queue.Server) (report.Result, error) {
				return r.RedisBenchmark(ctx, s, at, r.span(50_000))
			}),
			r.redis(redisGo, func(ctx context.Context, s *queue.Server) (report.Result, error) { return xadd(ctx, &r.Bench, s, at) }),
		}},
		{"lone", "one publisher, one message a call", []*lane{
			r.node("HTTP", func(ctx context.Context, n *queue.Node) (report.Result, error) { return r.SendHTTP(ctx, n, 1) }, goal{peer: rawDisk, ratio: 0.7}),
			r.node("OAP/1", func(ctx context.Context, n *queue.Node) (report.Result, error) {
				return r.SendOne(ctx, n, queue.OverOAP, 1)
			}),
			{name: rawDisk, run: func(ctx context.Context) (got result, err error) {
				got.Result, err = r.Raw(ctx)
				return got, err
			}},
		}},
		{"batch", "batches of 100, 5 at a time", []*lane{
			r.node("OAP/1, CBOR", func(ctx context.Context, n *queue.Node) (report.Result, error) {
				return r.SendBatches(ctx, n, queue.OverOAP, 5, 100)
			}, goal{peer: lax, ratio: 1}),
			r.node("HTTP, CBOR", func(ctx context.Context, n *queue.Node) (report.Result, error) {
				return r.SendBatches(ctx, n, queue.OverCBOR, 5, 100)
			}, goal{peer: lax, ratio: 1}),
			r.nats(lax, func(ctx context.Context, s *queue.Server) (report.Result, error) {
				return publishAsync(ctx, &r.Bench, s)
			}),
		}},
		{"receive", "receive and acknowledge, 100 a call", []*lane{
			r.drain(queue.OverJSON, 0.5), r.drain(queue.OverCBOR, 1), r.drain(queue.OverOAP, 1.3),
			r.peer(redisGo, r.StartRedis, func(ctx context.Context, s *queue.Server) error { return fill(ctx, s, r.set.Backlog) },
				func(ctx context.Context, s *queue.Server) (report.Result, error) { return drain(ctx, s, r.set.Backlog) }),
		}},
	}
}

// span is how many calls fill a run at a rate.
func (r *race) span(rate float64) int { return int(rate * r.Span.Seconds()) }

// node is a lane on a new node.
func (r *race) node(wire string, run func(context.Context, *queue.Node) (report.Result, error), goals ...goal) *lane {
	return r.filled(wire, nil, run, goals...)
}

// filled is one that is prepared first.
func (r *race) filled(wire string, prepare func(context.Context, *queue.Node) error, run func(context.Context, *queue.Node) (report.Result, error), goals ...goal) *lane {
	return &lane{name: "macronode, " + wire, goals: goals, run: func(ctx context.Context) (got result, err error) {
		n, err := r.StartNode(ctx, nil)
		if err != nil {
			return got, err
		}
		defer func() { err = errors.Join(err, n.End()) }()
		r.name(n.Server)
		if prepare != nil {
			if err := prepare(ctx, n); err != nil {
				return got, err
			}
		}
		before := n.Refused()
		got, err = measured(n.Server, func() (report.Result, error) { return run(ctx, n) })
		refused := float64(n.Refused() - before)
		got.refused = 100 * refused / (refused + got.Rate*r.Span.Seconds())
		return got, err
	}}
}

// drain is a lane on a new node that is filled first.
func (r *race) drain(w queue.Wire, ratio float64) *lane {
	return r.filled(w.Name, func(ctx context.Context, n *queue.Node) error { return n.Fill(ctx, r.set.Backlog) },
		func(ctx context.Context, n *queue.Node) (report.Result, error) {
			return r.Drain(ctx, n, w, r.set.Backlog)
		}, goal{peer: redisGo, ratio: ratio})
}

func (r *race) nats(name string, run func(context.Context, *queue.Server) (report.Result, error)) *lane {
	return r.peer(name, func(ctx context.Context) (*queue.Server, error) { return r.StartNATS(ctx, name == always) }, nil, run)
}

func (r *race) redis(name string, run func(context.Context, *queue.Server) (report.Result, error)) *lane {
	return r.peer(name, r.StartRedis, nil, run)
}

// peer is a lane on a new server, which is prepared first where that is needed.
func (r *race) peer(name string, start func(context.Context) (*queue.Server, error), prepare func(context.Context, *queue.Server) error, run func(context.Context, *queue.Server) (report.Result, error)) *lane {
	return &lane{name: name, run: func(ctx context.Context) (got result, err error) {
		s, err := start(ctx)
		if err != nil {
			return got, err
		}
		defer func() { err = errors.Join(err, s.End()) }()
		r.name(s)
		if prepare != nil {
			if err := prepare(ctx, s); err != nil {
				return got, err
			}
		}
		return measured(s, func() (report.Result, error) { return run(ctx, s) })
	}}
}

// name puts a server into the report, once.
func (r *race) name(s *queue.Server) {
	line := fmt.Sprintf("%s (%s): %s", s.Name, s.Version, s.Command)
	if s.Name == "Redis" {
		line += ", loaded with " + queue.BenchmarkCommand
	}
	if !r.seen[line] {
		r.seen[line] = true
		r.sec.Servers = append(r.sec.Servers, line)
	}
}

// hold has the lanes run in turn and adds a row for each.
func (r *race) hold(ctx context.Context, c *contest) error {
	c.lanes = slices.DeleteFunc(c.lanes, func(l *lane) bool { return !among(r.set.Who, firstWord(l.name)) })
	for round := range r.rounds {
		order := slices.Clone(c.lanes)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, l := range order {
			got, err := l.run(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			report.Say("%s, round %d, %s: %s/s, p50 %.2f ms, p99 %.2f ms, %s µs of the server, %.2f %% refused", c.key, round+1, l.name, report.Number(got.Rate), got.P50, got.P99, report.Number(got.micros), got.refused)
			l.runs = append(l.runs, got)
		}
	}
	for _, l := range c.lanes {
		rate := stat(l, rateOf)
		is, want, verdict := "", "", ""
		for _, g := range l.goals {
			if len(r.set.Who) > 0 && g.peer != "" && !slices.Contains(r.set.Who, firstWord(g.peer)) {
				continue // it did not run
			}
			i, w, v := r.judge(c, l, g)
			is, want, verdict = join(is, i), join(want, w), join(verdict, v)
		}
		r.sec.Row(c.name, l.name, report.Number(rate.Median), report.Number(rate.Low)+"-"+report.Number(rate.High),
			fmt.Sprintf("%.2f", stat(l, p50Of).Median), fmt.Sprintf("%.2f", stat(l, p99Of).Median),
			report.Number(stat(l, func(r result) float64 { return r.micros }).Median), fmt.Sprintf("%.2f", stat(l, func(r result) float64 { return r.refused }).Median), is, want, verdict)
		kept := report.Run{Cell: c.name, Server: l.name}
		for _, run := range l.runs {
			kept.Rounds = append(kept.Rounds, run.Result)
		}
		r.sec.Runs = append(r.sec.Runs, kept)
	}
	return nil
}

// judge holds a lane to a goal.
func (r *race) judge(c *contest, l *lane, g goal) (is, want, verdict string) {
	what := c.name + ", " + l.name
	if g.peer == "" {
		p99 := stat(l, p99Of).Median
		is, want = fmt.Sprintf("p99 %.2f ms", p99), fmt.Sprintf("p99 ≤ %g ms", g.millis)
		return is, want, r.sec.Judge(what+": p99", want, is, p99 <= g.millis)
	}
	ratio := math.NaN()
	for _, p := range c.lanes {
		if p.name == g.peer {
			ratio = stat(l, rateOf).Median / stat(p, rateOf).Median
		}
	}
	is, want = fmt.Sprintf("%.2f× %s", ratio, g.peer), fmt.Sprintf("≥ %g× %s", g.ratio, g.peer)
	return is, want, r.sec.Judge(what+": rate to "+g.peer, want, is, ratio >= g.ratio)
}

func rateOf(r result) float64 { return r.Rate }
func p50Of(r result) float64  { return r.P50 }
func p99Of(r result) float64  { return r.P99 }

func stat(l *lane, f func(result) float64) report.Stat { return report.StatOf(l.runs, f) }

func firstWord(s string) string { return strings.TrimRight(strings.Fields(s)[0], ",") }

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// syncs counts how often each server syncs for a message, in short runs of their
// own: the figures of the table are taken without.
func (r *race) syncs(ctx context.Context) error {
	short := &queue.Bench{Bin: r.Bin, NATS: r.NATS, Redis: r.Redis, Dir: r.Dir, Span: min(r.Span, 2*time.Second)}
	defer short.Procs.KillAll()
	count := func(what string, s *queue.Server, goal float64, load func() (report.Result, error)) error {
		var got report.Result
		n, err := short.Syncs(ctx, s.Proc, func() (err error) { got, err = load(); return err })
		if errors.Is(err, queue.ErrNoTrace) {
			r.sec.Note("Syncs were not counted: %v.", err)
			return nil
		}
		if err != nil {
			return s.Failed(err)
		}
		each := float64(n) / (got.Rate * short.Span.Seconds())
		text := fmt.Sprintf("%.3f a message", each)
		report.Say("syncs, %s, %s: %s", what, s.Name, text)
		verdict := ""
		if want := fmt.Sprintf("≥ %g", goal); goal > 0 {
			verdict = r.sec.Judge("syncs, "+what, want, text, each >= goal)
			r.sec.Row("syncs, "+what, s.Name, text, "", "", "", "", "", "", want, verdict)
			return nil
		}
		r.sec.Row("syncs, "+what, s.Name, text, "", "", "", "", "", "", "", verdict)
		return nil
	}
	run := func(start func(context.Context) (*queue.Server, error), use func(*queue.Server) error) (err error) {
		s, err := start(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.End()) }()
		return use(s)
	}
	node := func(workers int, goal float64) error {
		n, err := short.StartNode(ctx, nil)
		if err != nil {
			return err
		}
		return errors.Join(count(fmt.Sprintf("%d at a time", workers), n.Server, goal, func() (report.Result, error) { return short.SendOne(ctx, n, queue.OverOAP, workers) }), n.End())
	}
	return errors.Join(
		node(1, 1), node(64, 0),
		run(short.StartRedis, func(s *queue.Server) error {
			return count("64 at a time", s, 0, func() (report.Result, error) { return xadd(ctx, short, s, 64) })
		}),
		run(func(ctx context.Context) (*queue.Server, error) { return short.StartNATS(ctx, true) }, func(s *queue.Server) error {
			return count("64 at a time", s, 0, func() (report.Result, error) { return publish(ctx, short, s, 64) })
		}),
	)
}
