// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/openloop"
	"github.com/rustyonions/macronode/test/bench/report"
)

// stormSettings are those of the part "overload".
type stormSettings struct {
	span     time.Duration // of a phase
	servers  []string
	requests []crowdRequest
}

func readStorm(span time.Duration, servers, requests string) (stormSettings, error) {
	s := stormSettings{span: span, servers: strings.Fields(servers)}
	for _, name := range s.servers {
		if !slices.Contains([]string{"macronode", "MinIO", "nginx"}, name) {
			return s, fmt.Errorf("there is no server %q", name)
		}
	}
	for _, text := range strings.Fields(requests) {
		r, err := parseRequest(text)
		if err != nil {
			return s, err
		}
		s.requests = append(s.requests, r)
	}
	if len(s.servers) == 0 || len(s.requests) == 0 {
		return s, errors.New("nothing is to be measured")
	}
	return s, nil
}

// Goals of a storm.
const (
	goodputGoal  = 0.85 // of the peak
	othersGoal   = 2.0  // p99 of the others in the storm and without it
	admittedGoal = 120.0
	refusedGoal  = 50.0
)

// Connections are enough to hold what is asked in this time, so that a request
// seldom waits for one.
const inHand = 250 * time.Millisecond

// levels are the connections of each tenant in the search for the peak.
var levels = []int{1, 2, 4, 8}

// stormPhase is a load in multiples of the peak: that of the nine together and
// that of the one. calm is the phase it is compared with.
type stormPhase struct {
	name      string
	nine, one float64
	calm      int
}

var stormPhases = []stormPhase{
	{"the nine alone, ½", 0.5, 0, -1},
	{"storm: the nine ½, the one 4½", 0.5, 4.5, 0},
	{"the nine alone, 2½", 2.5, 0, -1},
	{"storm: the nine 2½, the one 2½", 2.5, 2.5, 2},
}

func measureOverload(ctx context.Context, b *bench) (*report.Section, error) {
	if runtime.NumCPU() < 2 {
		return nil, errors.New("it takes two cores: one for the server, one for the generator")
	}
	b.procs.Before, b.procs.Env = []string{"taskset", "-c", "0"}, []string{"GOMAXPROCS=1"}
	defer func() { b.procs.Before, b.procs.Env = nil, nil }()
	sec := &report.Section{Head: []string{"request", "server", "phase", "asked/s", "good/s", "of peak", "the nine: good/s", "p50 ms", "p99 ms", "the one: good/s", "admitted p99 ms", "refused p99 ms", "answers", "RSS MiB", "server's core", "generator's core, lateness p99 / max ms", "goals"}}
	sec.Note("Each server alone on the first core (`taskset -c 0`, `GOMAXPROCS=1`), the generator ([test/bench/openloop](../test/bench/openloop)) alone on the second. "+
		"GET: each of ten tenants (clients, where a server knows no tenants) reads its own %d objects in turn; the node has a cache of %s, so that it reads and checks nearly all of them. PUT: new incompressible bytes, durable when answered; the body is sent at once and not after a `100 Continue`. "+
		"What a request costs the server stands in the row of its peak: where that is less than a millisecond, refusing four fifths of the load weighs more than it should. "+
		"Every tenant has weight 1 and no other quota, and an address of its own (127.0.0.2 to 127.0.0.%d).", objectsEach, sizeName(crowdCache), crowd+1)
	sec.Note("*Peak* is the most good answers a second of a closed loop with %d, %d, %d or %d connections; the best of these again after the storms, and the mean of both counts. "+
		"The other phases are open loops of %s: Poisson arrivals at a rate that does not depend on answers, each tenant's its own; a request that finds none of its tenant's connections idle (there are enough for %s of its rate, 32 to 900) waits for one. "+
		"**Latency is from the time a request was due**, so that a server pays for all whom it keeps waiting. Refused requests are not repeated; a refusal's connection is used again. The generator never sleeps, since waking it would be the server's work here, and over a network is not. "+
		"*Answers* are those of requests that were due in the phase; *no answer* are those given up after ten seconds or left when the phase was over. *Lateness* is the generator's own delay, which is in the latencies too.",
		crowd*levels[0], crowd*levels[1], crowd*levels[2], crowd*levels[3], b.set.storm.span, inHand)
	sec.Note("Two storms, both five times the peak. In the first the nine ask for half of the peak, which is less than their nine tenths, and lose nothing where shares are fair; one tenant adds four and a half times the peak. " +
		"In the second half of the load is the one's and half the nine's, who then ask for more than there is themselves. Each is compared with the same nine alone. Goals: good answers at least 85 %% of the peak; the nine's p99 at most twice theirs alone; p99 of admitted requests at most 120 ms and of refusals 50 ms; " +
		"memory in the second half of a storm no more than in its first (a tenth and 8 MiB are noise); every request answered on a connection that stays, every refusal with `Retry-After`.")
	starts := map[string]func(context.Context, crowdRequest) (*crowdServer, error){"macronode": b.crowdNode, "MinIO": b.crowdMinIO, "nginx": b.crowdNginx}
	listed := map[string]bool{}
	for _, request := range b.set.storm.requests {
		for _, name := range b.set.storm.servers {
			if request.put && name == "nginx" {
				continue
			}
			s, err := starts[name](ctx, request)
			if err != nil {
				return nil, err
			}
			if !listed[name] {
				listed[name] = true
				s.command = "`taskset -c 0 env GOMAXPROCS=1 …` before " + s.command
				servers(sec, s.server)
			}
			if err := (&storm{b: b, s: s, sec: sec, req: request}).run(ctx); err != nil {
				return nil, s.Failed(err)
			}
			s.Kill()
			if err := os.RemoveAll(s.dir); err != nil {
				return nil, err
			}
			syscall.Sync() // what was removed is trimmed now, not in the next run
		}
	}
	return sec, nil
}

// storm measures one kind of request on one server.
type storm struct {
	b    *bench
	s    *crowdServer
	sec  *report.Section
	req  crowdRequest
	seed uint64
	done []*outcome
}

// outcome is a phase's.
type outcome struct {
	*openloop.Result
	core   float64  // of the server's core
	before int64    // its memory
	rss    [2]int64 // the most in each half
}

func (m *storm) run(ctx context.Context) error {
	span := m.b.set.storm.span
	best, at := 0.0, 0
	for _, n := range levels {
		o, err := m.phase(ctx, max(span/4, 2*time.Second), func(int) (float64, int) { return 0, n })
		if err != nil {
			return err
		}
		if r := o.Good(all); r > best {
			best, at = r, n
		}
	}
	if best == 0 {
		return errors.New("no good answer in a closed loop")
	}
	for _, p := range stormPhases {
		o, err := m.phase(ctx, span, func(i int) (float64, int) {
			rate := p.nine * best / (crowd - 1)
			if i == 0 {
				rate = p.one * best
			}
			if rate == 0 {
				return 0, 0
			}
			return rate, int(min(900, max(32, rate*inHand.Seconds())))
		})
		if err != nil {
			return err
		}
		m.done = append(m.done, o)
	}
	o, err := m.phase(ctx, span/2, func(int) (float64, int) { return 0, at })
	if err != nil {
		return err
	}
	after := o.Good(all)
	peak := (best + after) / 2
	name := fmt.Sprintf("peak, %d connections: %s before, %s after", crowd*at, report.Number(best), report.Number(after))
	m.report(stormPhase{name: name, calm: -1}, o, peak)
	for i, p := range stormPhases {
		m.report(p, m.done[i], peak)
	}
	return nil
}

// phase runs the generator; load gives each tenant its rate and connections.
func (m *storm) phase(ctx context.Context, span time.Duration, load func(i int) (float64, int)) (*outcome, error) {
	m.seed++
	spec := &openloop.Spec{Addr: strings.TrimPrefix(m.s.url, "http://"), Span: span, Warm: min(2*time.Second, span/4), Spin: true, Grace: 5 * time.Second, Timeout: 10 * time.Second, Seed: uint64(os.Getpid())<<16 | m.seed}
	for i := range crowd {
		f := openloop.Flow{Name: tenantName(i), From: fmt.Sprintf("127.0.0.%d", i+2), Heads: m.s.heads[i], Good: m.s.good, Bytes: m.req.size}
		if m.req.put {
			f.Body, f.Bytes = int(m.req.size), -1
		}
		if f.Rate, f.Conns = load(i); f.Conns > 0 {
			spec.Flows = append(spec.Flows, f)
		}
	}
	return m.generate(ctx, spec)
}

// generate runs this program as the generator, and watches the server meanwhile.
func (m *storm) generate(ctx context.Context, spec *openloop.Spec) (*outcome, error) {
	in, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	o := &outcome{}
	if o.before, err = m.s.Memory(); err != nil {
		return nil, err
	}
	used, err := m.s.CPU()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	cmd := children.Command(ctx, "taskset", "-c", "1", self, "generate")
	var out, errs bytes.Buffer
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case err = <-ended:
			tick.Stop()
		case <-tick.C:
			half := 0
			if time.Since(begun) > spec.Warm+spec.Span/2 {
				half = 1
			}
			if n, err := m.s.Memory(); err == nil {
				o.rss[half] = max(o.rss[half], n)
			}
			continue
		}
		break
	}
	if err != nil {
		return nil, fmt.Errorf("the generator: %w\n%s", err, errs.Bytes())
	}
	after, err := m.s.CPU()
	if err != nil {
		return nil, err
	}
	o.core = float64(after-used) / float64(time.Since(begun))
	return o, json.Unmarshal(out.Bytes(), &o.Result)
}

// generate is the generator's process: a specification comes in, a result goes
// out.
func generate([]string) error {
	var spec openloop.Spec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return err
	}
	res, err := openloop.Run(context.Background(), &spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(res)
}

// Whose part of an outcome is looked at.
func all(string) bool       { return true }
func theOne(n string) bool  { return n == tenantName(0) }
func theNine(n string) bool { return n != tenantName(0) }

// flat reports whether memory had stopped growing by the middle of the phase.
func (o *outcome) flat() bool { return o.rss[1] <= o.rss[0]+o.rss[0]/10+8*mib }

// report adds a phase's row, and judges the node in a storm.
func (m *storm) report(p stormPhase, o *outcome, peak float64) {
	request := m.req.String()
	asked := o.Asked(all)
	if p.calm < 0 && p.nine == 0 {
		asked = math.NaN() // a closed loop
	}
	lag := o.LagUS
	late := fmt.Sprintf("%.0f %%", o.CPU*100)
	if len(lag) > 0 {
		p99 := openloop.Millis(lag, 99)
		late += fmt.Sprintf(", %s / %s", ms(p99), ms(openloop.Millis(lag, 100)))
		if p99 > 5 || o.CPU > 0.95 {
			late += " **the generator could not keep up**"
		}
	}
	used := fmt.Sprintf("%.0f %%", o.core*100)
	if p.nine == 0 {
		used += fmt.Sprintf(", %.2f ms a request", o.core*1000/o.Good(all))
	}
	row := []string{request, m.s.name, p.name, ms(asked), report.Number(o.Good(all)), fmt.Sprintf("%.0f %%", o.Good(all)/peak*100),
		report.Number(o.Good(theNine)), ms(o.At(theNine, 50, openloop.Admitted)), ms(o.At(theNine, 99, openloop.Admitted)), report.Number(o.Good(theOne)),
		ms(o.At(all, 99, openloop.Admitted)), ms(o.At(all, 99, openloop.Refused)), o.Answers(), fmt.Sprintf("%d, then %d and %d", o.before/mib, o.rss[0]/mib, o.rss[1]/mib), used, late}
	if m.s.forks {
		row[13], row[14] = "", ""
	}
	verdict := ""
	if p.calm >= 0 && m.s.name == "macronode" {
		verdict = m.judge(request+", "+p.name, m.done[p.calm], o, peak)
	}
	m.sec.Row(append(row, verdict)...)
	m.sec.Runs = append(m.sec.Runs, report.Run{Cell: request + ", " + p.name, Server: m.s.name,
		Rounds: []report.Result{{Rate: o.Good(all), P50: orZero(o.At(theNine, 50, openloop.Admitted)), P99: orZero(o.At(theNine, 99, openloop.Admitted))}}})
	report.Say("%s: %s", row[1], row[0]+", "+p.name)
	fmt.Printf("    asked %s/s, good %s/s = %s of peak; admitted p99 %s ms, refused p99 %s ms; the nine %s/s, p50 %s, p99 %s ms; the one %s/s\n", row[3], row[4], row[5], row[10], row[11], row[6], row[7], row[8], row[9])
	fmt.Printf("    %s; RSS MiB %s; core %s; generator %s\n", row[12], row[13], row[14], row[15])
	if verdict != "" {
		fmt.Printf("    %s\n", verdict)
	}
}

// judge holds a storm against its goals.
func (m *storm) judge(what string, calm, o *outcome, peak float64) string {
	share := o.Good(all) / peak
	ratio := o.At(theNine, 99, openloop.Admitted) / calm.At(theNine, 99, openloop.Admitted) // NaN is no goal met
	in, out := o.At(all, 99, openloop.Admitted), o.At(all, 99, openloop.Refused)
	in, out = orZero(in), orZero(out) // nobody was admitted, or refused
	goals := []string{
		"goodput " + m.sec.Judge(what+": goodput of peak", "≥ 85 %", fmt.Sprintf("%.0f %%", share*100), share >= goodputGoal),
		fmt.Sprintf("the nine's p99 %.2f× %s", ratio, m.sec.Judge(what+": p99 of the nine", "≤ 2×", fmt.Sprintf("%.2f×", ratio), ratio <= othersGoal)),
		"admitted " + m.sec.Judge(what+": p99 of admitted", "≤ 120 ms", ms(in), in <= admittedGoal),
		"refused " + m.sec.Judge(what+": p99 of refusals", "≤ 50 ms", ms(out), out <= refusedGoal),
		"memory " + m.sec.Judge(what+": memory", "flat", fmt.Sprint(o.rss), o.flat()),
		"form " + m.sec.Judge(what+": answers", "all, in form", o.Answers(), o.Tidy()),
	}
	return strings.Join(goals, "; ")
}

// ms prints milliseconds, or nothing where there are none.
func ms(f float64) string {
	if math.IsNaN(f) {
		return ""
	}
	return report.Number(f)
}

// orZero is for JSON, which has no NaN.
func orZero(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return f
}
