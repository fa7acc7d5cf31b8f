// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clock

import (
	"bytes"
	"testing"
	"time"
)

type source struct {
	boot  [16]byte
	since time.Duration
	wall  time.Time
}

func (s *source) Boot() [16]byte           { return s.boot }
func (s *source) SinceBoot() time.Duration { return s.since }
func (s *source) Wall() time.Time          { return s.wall }

func at(boot byte, since time.Duration, wall time.Duration) *source {
	return &source{boot: [16]byte{boot}, since: since, wall: time.Unix(1_700_000_000, 0).Add(wall)}
}

// TestRestartWithinBoot: the wall clock jumps by an hour either way while the
// node is down, and mailbox time counts the minute that passed.
func TestRestartWithinBoot(t *testing.T) {
	for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
		before := at(1, 100*time.Second, 0)
		a := New(before, Mark{}, 0)
		m := a.Mark()
		b := New(at(1, 160*time.Second, time.Minute+jump), m, m.Time)
		if got := b.Now() - m.Time; got != 60_000 {
			t.Errorf("wall jumps by %v: %d ms passed, want 60000", jump, got)
		}
	}
}

// TestRestartAfterReboot: only the wall clock knows how long the machine was off,
// and when it went back, nothing passed.
func TestRestartAfterReboot(t *testing.T) {
	for _, c := range []struct{ wall, want time.Duration }{{time.Minute, time.Minute}, {-time.Hour, 0}, {time.Hour, time.Hour}} {
		m := New(at(1, 500*time.Second, 0), Mark{}, 0).Mark()
		b := New(at(2, 3*time.Second, c.wall), m, m.Time)
		if got := time.Duration(b.Now()-m.Time) * time.Millisecond; got != c.want {
			t.Errorf("wall moved by %v: %v passed, want %v", c.wall, got, c.want)
		}
	}
}

// TestRunningThroughJumps: a jump while the node runs changes nothing, now and
// after the next restart.
func TestRunningThroughJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		src := at(1, 10*time.Second, 0)
		c := New(src, Mark{}, 0)
		start := c.Now()
		src.wall = src.wall.Add(jump)
		src.since += 5 * time.Second
		if got := c.Now() - start; got != 5000 {
			t.Errorf("jump %v: %d ms passed, want 5000", jump, got)
		}
		m := c.Mark()
		next := New(at(1, src.since+time.Second, 0), m, m.Time)
		if got := next.Now() - start; got != 6000 {
			t.Errorf("jump %v and restart: %d ms passed, want 6000", jump, got)
		}
	}
}

func TestNeverBack(t *testing.T) {
	src := at(1, 10*time.Second, 0)
	c := New(src, Mark{}, 0)
	first := c.Now()
	src.since -= 3 * time.Second
	if got := c.Now(); got < first {
		t.Errorf("time went back by %d ms", first-got)
	}
	if got := New(at(3, 0, -time.Hour), Mark{}, 9_999_999).Now(); got != 9_999_999 {
		t.Errorf("a clock that must go on from 9999999 says %d", got)
	}
}

func TestUnknownBootUsesWall(t *testing.T) {
	m := New(at(0, 100*time.Second, 0), Mark{}, 0).Mark()
	b := New(at(0, 7000*time.Second, time.Minute), m, m.Time)
	if got := b.Now() - m.Time; got != 60_000 {
		t.Errorf("without a boot id %d ms passed, want the wall clock's 60000", got)
	}
}

func TestMachine(t *testing.T) {
	src := Machine()
	c := New(src, Mark{}, 0)
	a, b := c.Now(), c.Now()
	if a < first || b < a || src.SinceBoot() <= 0 {
		t.Errorf("times %d, %d since boot %v", a, b, src.SinceBoot())
	}
	if got := parseBootID("0123456789ab-cdef"); got != [16]byte{} {
		t.Error("half a UUID is a boot id")
	}
	if got := parseBootID("a6d1e0f2-3b4c-4d5e-8f60-718293a4b5c6\n"); got[0] != 0xa6 || got[15] != 0xc6 {
		t.Error("a UUID is not read")
	}
}

func FuzzMark(f *testing.F) {
	f.Add(Mark{Time: 5, Boot: [16]byte{1, 2}, SinceBoot: 7, Wall: 9}.Append(nil))
	f.Add(bytes.Repeat([]byte{0xff}, MarkBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMark(b)
		if err == nil && !bytes.Equal(m.Append(nil), b) {
			t.Error("a mark that was read is written differently")
		}
	})
}
