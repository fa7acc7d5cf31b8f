// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package openloop

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Events handled before the schedule is looked at again: each may take tens of
// microseconds.
const eventsAtOnce = 32

// tick is the longest that the loop sleeps.
const tick = 20 * time.Millisecond

// spinStep is the longest that a look in vain counts as: the thread was not
// running for the rest of a longer one.
const spinStep = 20 * time.Microsecond

// loop is a run in progress. Times are nanoseconds since it began.
type loop struct {
	spec  *Spec
	to    unix.SockaddrInet4
	poll  int
	flows []*flow
	conns []*conn
	begun time.Time
	from  int64 // of the counted span
	until int64
	lag   []uint32
	idle  time.Duration // looked in vain, without sleeping
	rest  []byte        // of every body
	serial
}

// serial makes bodies differ.
type serial struct{ seed, next uint64 }

// flow is a Flow in progress.
type flow struct {
	*Flow
	res   FlowResult
	local unix.SockaddrInet4
	rnd   *rand.Rand
	next  int64   // when the next request is due
	queue []int64 // due and waiting for a connection
	head  int     // of queue
	idle  []*conn // a ring of all connections' length
	first int     // of idle
	count int     // of idle
	turn  int     // of Heads
	heads [][]byte
}

// Run does what the specification says. It uses the calling thread, which
// should have a core for itself.
func Run(ctx context.Context, spec *Spec) (*Result, error) {
	to, err := spec.validate()
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l := &loop{spec: spec, to: unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}, serial: serial{seed: spec.Seed}}
	if l.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(l.poll) }()
	defer l.closeAll()
	most := 0
	for i := range spec.Flows {
		f := newFlow(&spec.Flows[i], spec.Seed+uint64(i), spec.Span)
		l.flows = append(l.flows, f)
		most = max(most, f.Body)
	}
	l.rest = make([]byte, most)
	rand.NewChaCha8([32]byte{1, byte(spec.Seed)}).Read(l.rest)
	for _, f := range l.flows {
		for range f.Conns {
			c := &conn{flow: f, index: len(l.conns), fd: -1}
			l.conns = append(l.conns, c)
			if err := l.dial(c, true); err != nil {
				return nil, fmt.Errorf("openloop: connection %d of %s: %w", c.index+1, f.Name, err)
			}
		}
	}
	used, err := threadTime()
	if err != nil {
		return nil, err
	}
	l.begun = time.Now()
	l.from, l.until = int64(spec.Warm), int64(spec.Warm+spec.Span)
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	took := time.Since(l.begun)
	after, err := threadTime()
	if err != nil {
		return nil, err
	}
	res := &Result{Seconds: spec.Span.Seconds(), CPU: float64(after-used-l.idle) / float64(took), LagUS: l.lag}
	for _, f := range l.flows {
		res.Flows = append(res.Flows, f.res)
	}
	return res, nil
}

func newFlow(f *Flow, seed uint64, span time.Duration) *flow {
	expect := int(f.Rate*span.Seconds()) + 1000
	out := &flow{Flow: f, rnd: rand.New(rand.NewPCG(seed, 7)), idle: make([]*conn, f.Conns), queue: make([]int64, 0, expect),
		res: FlowResult{Name: f.Name, Codes: map[string]int{}, AdmittedUS: make([]uint32, 0, expect), RefusedUS: make([]uint32, 0, expect)}}
	out.local.Addr = netip.MustParseAddr(f.From).As4()
	out.turn = out.rnd.IntN(len(f.Heads)) // not always the same ones in a short run
	for _, h := range f.Heads {
		out.heads = append(out.heads, []byte(h))
	}
	if f.Rate > 0 {
		out.next = out.gap()
	}
	return out
}

// gap is the time between two arrivals.
func (f *flow) gap() int64 { return int64(f.rnd.ExpFloat64() / f.Rate * 1e9) }

func (l *loop) now() int64 { return int64(time.Since(l.begun)) }

func (l *loop) counted(due int64) bool { return due >= l.from && due < l.until }

// run is the event loop, until the span is over and every answer is there, or
// the grace has passed too.
func (l *loop) run(ctx context.Context) error {
	events := make([]unix.EpollEvent, eventsAtOnce)
	checked := int64(0)
	for {
		now := l.now()
		if now >= l.until && (now >= l.until+int64(l.spec.Grace) || l.quiet()) {
			l.finish()
			return nil
		}
		wake := l.arrivals(now)
		if now-checked > int64(tick) {
			checked = now
			if err := ctx.Err(); err != nil {
				return err
			}
			l.giveUp(now)
		}
		wait, asked := int64(0), l.now()
		if !l.spec.Spin {
			wait = max(0, min(wake-asked, int64(tick)))
		}
		n, err := pollWait(l.poll, events, wait)
		if err != nil {
			return err
		}
		if l.spec.Spin && n == 0 {
			l.idle += min(time.Duration(l.now()-asked), spinStep)
		}
		for i := range n {
			l.conns[events[i].Fd].ready(l, events[i].Events)
		}
	}
}

// arrivals sends what is due and returns when the next request is.
func (l *loop) arrivals(now int64) int64 {
	wake := now + int64(tick)
	if now >= l.until {
		return wake
	}
	for _, f := range l.flows {
		if f.Rate == 0 {
			for f.count > 0 {
				l.send(f.take(), now)
			}
			continue
		}
		for ; f.next <= now && f.next < l.until; f.next += f.gap() {
			if l.counted(f.next) {
				f.res.Due++
				l.lag = append(l.lag, micros(now-f.next))
				if f.count == 0 {
					f.res.Queued++
				}
			}
			f.queue = append(f.queue, f.next)
		}
		for f.count > 0 && f.head < len(f.queue) {
			due := f.queue[f.head]
			f.head++
			l.send(f.take(), due)
		}
		if f.head == len(f.queue) {
			f.queue, f.head = f.queue[:0], 0
		}
		wake = min(wake, f.next)
	}
	return wake
}

// take is the connection that has been idle longest.
func (f *flow) take() *conn {
	c := f.idle[f.first]
	f.first = (f.first + 1) % len(f.idle)
	f.count--
	return c
}

// give makes a connection idle.
func (f *flow) give(c *conn) {
	f.idle[(f.first+f.count)%len(f.idle)] = c
	f.count++
}

// quiet reports whether every request that was sent has its answer.
func (l *loop) quiet() bool {
	for _, c := range l.conns {
		if c.busy {
			return false
		}
	}
	return true
}

// finish counts what the end of the run left open.
func (l *loop) finish() {
	for _, f := range l.flows {
		for _, due := range f.queue[f.head:] {
			if l.counted(due) {
				f.res.Unsent++
			}
		}
	}
	for _, c := range l.conns {
		c.lose(l)
	}
}

// giveUp ends what has waited for too long, and opens again what is closed.
func (l *loop) giveUp(now int64) {
	for _, c := range l.conns {
		switch {
		case c.fd < 0:
			_ = l.dial(c, false) // tried again at the next look
		case c.busy && now-c.sent > int64(l.spec.Timeout):
			c.broken(l)
		}
	}
}

func (l *loop) closeAll() {
	for _, c := range l.conns {
		if c.fd >= 0 {
			_ = unix.Close(c.fd)
		}
	}
}

// stamp writes what makes a body differ from all others.
func (s *serial) stamp(b *[prefix]byte) {
	s.next++
	binary.BigEndian.PutUint64(b[:], s.seed)
	binary.BigEndian.PutUint64(b[8:], s.next)
}

func micros(ns int64) uint32 { return uint32(min(max(ns/1000, 0), 1<<32-1)) }

// threadTime is the processor time that the calling thread has used.
func threadTime() (time.Duration, error) {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_THREAD, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}
