// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/operate"
	"github.com/rustyonions/macronode/test/bench/report"
)

// What many messages may cost.
const (
	goalStart  = 2 * time.Second
	goalMemory = 400 << 20
	goalTail   = 2.0   // times the receive p99 of an empty queue
	goalIdle   = 0.005 // of a processor, for a thousand waiting consumers
)

// judge adds a row about the node alone.
func judge(sec *report.Section, what, got, want string, met bool) {
	report.Say("%s: %s, want %s", what, got, want)
	sec.Row(what, "macronode", got, "", "", "", "", "", "", want, sec.Judge(what, want, got, met))
}

// say adds a row that has no goal.
func say(sec *report.Section, what, got string) {
	report.Say("%s: %s", what, got)
	sec.Row(what, "macronode", got, "", "", "", "", "", "", "", "")
}

// Many queues count messages and asks what they cost: memory, a start, and a
// receive beside a node with an empty queue.
func (b *Bench) Many(ctx context.Context, sec *report.Section, count, rounds int) (err error) {
	roomy := operate.Set("mailbox", map[string]string{"max_depth": "20_000_000", "max_bytes": `"64GiB"`})
	large, err := b.StartNode(ctx, roomy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, large.End()) }()
	begun := time.Now()
	if err := large.Fill(ctx, count); err != nil {
		return err
	}
	name := fmt.Sprintf("%d queued: ", count)
	say(sec, name+"filling, batches of 100", report.Number(float64(count)/time.Since(begun).Seconds())+" messages/s")
	if err := memory(sec, name+"memory after filling", large); err != nil {
		return err
	}
	_, disk, err := children.CountFiles(large.Dir)
	if err != nil {
		return err
	}
	say(sec, name+"bytes on the disk", fmt.Sprintf("%.2f times the payloads", float64(disk)/float64(count)/Bytes))
	for _, how := range []struct {
		name string
		end  func() error
	}{{"start to ready after a clean stop", func() error { return large.Stop() }}, {"start to ready after kill -9", func() error { large.Kill(); return nil }}} {
		var starts []float64
		for range rounds {
			if err := how.end(); err != nil {
				return err
			}
			begun := time.Now()
			if err := b.restart(ctx, large); err != nil {
				return err
			}
			starts = append(starts, time.Since(begun).Seconds())
		}
		slowest := slices.Max(starts)
		judge(sec, name+how.name, fmt.Sprintf("%.2f s, slowest of %d", slowest, rounds), fmt.Sprintf("≤ %s", goalStart), slowest <= goalStart.Seconds())
	}
	if err := memory(sec, name+"memory after the last start", large); err != nil {
		return err
	}
	return b.tails(ctx, sec, name, large, rounds)
}

func memory(sec *report.Section, what string, n *Node) error {
	rss, err := n.Memory()
	if err != nil {
		return err
	}
	judge(sec, what, fmt.Sprintf("%.0f MiB", float64(rss)/(1<<20)), fmt.Sprintf("≤ %d MiB", goalMemory>>20), rss <= goalMemory)
	return nil
}

// tails has a node with a full queue and one with an empty one do the same in
// turn: one message sent, one received, one acknowledged.
func (b *Bench) tails(ctx context.Context, sec *report.Section, name string, large *Node, rounds int) (err error) {
	empty, err := b.StartNode(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, empty.End()) }()
	var p99 [2][]float64
	for range rounds {
		for i, n := range []*Node{empty, large} {
			took, err := b.oneByOne(ctx, n)
			if err != nil {
				return n.Failed(err)
			}
			p99[i] = append(p99[i], took)
		}
	}
	same := func(f float64) float64 { return f }
	few, many := report.StatOf(p99[0], same).Median, report.StatOf(p99[1], same).Median
	judge(sec, name+"receive p99 beside an empty queue", fmt.Sprintf("%.2f ms to %.2f ms: %.2f×", many, few, many/few), fmt.Sprintf("≤ %g×", goalTail), many <= goalTail*few)
	return nil
}

// oneByOne returns the p99 of receives, in milliseconds.
func (b *Bench) oneByOne(ctx context.Context, n *Node) (float64, error) {
	t, err := n.Topic(OverOAP, "bench", 1)
	if err != nil {
		return 0, err
	}
	defer t.Close()
	body := Payload()
	var took []time.Duration
	for begun := time.Now(); time.Since(begun) < b.Span; {
		if err := t.Send(ctx, body); err != nil {
			return 0, err
		}
		at := time.Now()
		list, err := t.Receive(ctx, 1, time.Second)
		took = append(took, time.Since(at))
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("%d messages came, not one", len(list))
		}
		if err == nil {
			err = t.Ack(ctx, list)
		}
		if err != nil {
			return 0, err
		}
	}
	return drive.Of(took, b.Span).P99, nil
}

// Topics sends to count topics at once, in turn, and takes everything out again.
func (b *Bench) Topics(ctx context.Context, sec *report.Section, count int) (err error) {
	const workers, each = 64, 5
	n, err := b.StartNode(ctx, operate.Set("mailbox", map[string]string{"max_topics": "20_000"}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	t, err := n.Topic(OverOAP, "bench", 1)
	if err != nil {
		return err
	}
	defer t.Close()
	name := fmt.Sprintf("%d topics: ", count)
	all := batches(workers, 1)
	sent, err := spread(ctx, workers, count*each, func(w, i int) error {
		Number(all[w][0], uint64(i))
		return t.Other(fmt.Sprint("t", i%count)).Send(ctx, all[w][0])
	})
	if err != nil {
		return n.Failed(err)
	}
	say(sec, name+fmt.Sprintf("one message a call, %d at a time", workers), report.Number(sent)+" messages/s")
	var came atomic.Int64
	took, err := spread(ctx, workers, count, func(_, i int) error {
		one := t.Other(fmt.Sprint("t", i))
		list, err := one.Receive(ctx, 100, 0)
		if err != nil {
			return err
		}
		came.Add(int64(len(list)))
		return one.Ack(ctx, list)
	})
	if err != nil {
		return n.Failed(err)
	}
	got := came.Load()
	judge(sec, name+"received and acknowledged", fmt.Sprintf("%d of %d, %s topics/s", got, count*each, report.Number(took)), "all", got == int64(count*each))
	rss, err := n.Memory()
	say(sec, name+"memory", fmt.Sprintf("%.0f MiB", float64(rss)/(1<<20)))
	return err
}

// spread has workers do the numbers below count and returns how many a second.
func spread(ctx context.Context, workers, count int, do func(worker, i int) error) (rate float64, err error) {
	errs := make([]error, workers)
	var next atomic.Int64
	var group sync.WaitGroup
	begun := time.Now()
	for w := range workers {
		group.Go(func() {
			for errs[w] == nil && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				errs[w] = do(w, i)
			}
		})
	}
	group.Wait()
	return float64(count) / time.Since(begun).Seconds(), errors.Join(append(errs, ctx.Err())...)
}

// Waiting has consumers wait for messages that do not come, half of them over each
// wire, and looks at the node's processor time; then one message a consumer comes.
func (b *Bench) Waiting(ctx context.Context, sec *report.Section, consumers int) (err error) {
	n, err := b.StartNode(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	var wires [2]*Topic
	for i, w := range []Wire{OverJSON, OverOAP} {
		if wires[i], err = n.Topic(w, "bench", consumers); err != nil {
			return err
		}
		defer wires[i].Close()
	}
	if err := wires[0].Create(ctx); err != nil {
		return n.Failed(err)
	}
	span := max(b.Span, 10*time.Second)
	alone, err := idle(ctx, n, span)
	if err != nil {
		return err
	}
	wait := 2*span + 10*time.Second
	errs := make([]error, consumers)
	var came atomic.Int64
	var group sync.WaitGroup
	for c := range consumers {
		group.Go(func() {
			list, err := wires[c%2].Receive(ctx, 1, wait)
			came.Add(int64(len(list)))
			errs[c] = err
		})
	}
	used, err := idle(ctx, n, span)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%d waiting consumers: ", consumers)
	judge(sec, name+"processor time while nothing comes", fmt.Sprintf("%.2f %% of a processor, %.2f %% without them", 100*used, 100*alone), fmt.Sprintf("≤ %g %% more", 100*goalIdle), used-alone <= goalIdle)
	begun := time.Now()
	for left := consumers; left > 0; left -= 100 {
		if err := wires[1].SendBatch(ctx, batches(1, min(left, 100))[0]); err != nil {
			return n.Failed(err)
		}
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return n.Failed(err)
	}
	judge(sec, name+"one message each", fmt.Sprintf("%d in %.0f ms", came.Load(), drive.Millis(time.Since(begun))), "each has one", came.Load() == int64(consumers))
	return nil
}

// idle returns the share of a processor that the node uses while nothing is asked
// of it.
func idle(ctx context.Context, n *Node, span time.Duration) (float64, error) {
	if err := settle(ctx, n); err != nil {
		return 0, err
	}
	before, err1 := n.CPU()
	begun := time.Now()
	select {
	case <-time.After(span):
	case <-ctx.Done():
	}
	after, err2 := n.CPU()
	return (after - before).Seconds() / time.Since(begun).Seconds(), errors.Join(err1, err2, ctx.Err())
}

// settle waits until the node has used next to no processor time for a second:
// all that was asked of it waits.
func settle(ctx context.Context, n *Node) error {
	for range 8 {
		before, err1 := n.CPU()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err2 := n.CPU()
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if after-before <= 20*time.Millisecond {
			return nil
		}
	}
	return nil // it shows in the figure
}
