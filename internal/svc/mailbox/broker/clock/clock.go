// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package clock keeps mailbox time: milliseconds that go on through restarts,
// count what passed while the node was down, and do not care where somebody sets
// the wall clock while it runs. Deadlines of the mailbox are in it.
//
// While the machine is up, time is CLOCK_BOOTTIME, which also counts suspension.
// A Mark ties the two together. After a restart within the same boot the mark of
// the run before is still right to the millisecond, whatever happened to the wall
// clock. After a reboot the difference of the wall clock is all there is; it is
// taken where it is positive, for time never goes back.
package clock

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// MarkBytes is the size of a Mark's binary form.
const MarkBytes = 40

// ErrMark: bytes that are no mark.
var ErrMark = errors.New("clock: not a mark")

// Mark says which mailbox time it was when a boot was so old and the wall clock
// showed that. The zero Mark is none.
type Mark struct {
	Time      int64    // mailbox time, ms
	Boot      [16]byte // id of the boot; zero where there is none
	SinceBoot int64    // ms
	Wall      int64    // Unix ms
}

// Append appends the binary form of m to b.
func (m Mark) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Time))
	b = append(b, m.Boot[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.SinceBoot))
	return binary.LittleEndian.AppendUint64(b, uint64(m.Wall))
}

// ParseMark reads what Append wrote; ErrMark where it has not that size or holds
// a negative time.
func ParseMark(b []byte) (m Mark, err error) {
	if len(b) != MarkBytes {
		return Mark{}, ErrMark
	}
	m.Time = int64(binary.LittleEndian.Uint64(b))
	copy(m.Boot[:], b[8:])
	m.SinceBoot = int64(binary.LittleEndian.Uint64(b[24:]))
	m.Wall = int64(binary.LittleEndian.Uint64(b[32:]))
	if m.Time < 0 || m.SinceBoot < 0 {
		return Mark{}, ErrMark
	}
	return m, nil
}

// Source is where time comes from.
type Source interface {
	// Boot identifies this boot of the machine; zero where that is not known.
	Boot() [16]byte
	// SinceBoot grows steadily while the machine is up or suspended.
	SinceBoot() time.Duration
	// Wall is what people call the time, and may jump.
	Wall() time.Time
}

// Clock tells mailbox time. It is safe for concurrent use.
type Clock struct {
	src  Source
	boot [16]byte

	mu     sync.Mutex
	offset int64 // mailbox time less SinceBoot, ms
	last   int64 // the latest that was told
}

// first is the mailbox time of a mailbox that never was: not 0, which is no time.
const first = int64(time.Hour / time.Millisecond)

// New returns a clock that goes on from the mark of an earlier run, and never
// tells less than atLeast, the latest time known to have been told.
func New(src Source, mark Mark, atLeast int64) *Clock {
	c := &Clock{src: src, boot: src.Boot()}
	since := src.SinceBoot().Milliseconds()
	now := max(mark.Time+passed(mark, c.boot, since, src.Wall().UnixMilli()), atLeast, first)
	c.offset, c.last = now-since, now
	return c
}

// passed is how long ago a mark was made, in ms, as well as that can be known.
func passed(m Mark, boot [16]byte, since, wall int64) int64 {
	if m == (Mark{}) {
		return 0
	}
	if boot != [16]byte{} && boot == m.Boot && since >= m.SinceBoot {
		return since - m.SinceBoot
	}
	return max(0, wall-m.Wall)
}

// Now returns mailbox time in ms. It never goes back, and is at least 1.
func (c *Clock) Now() int64 {
	since := c.src.SinceBoot().Milliseconds()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, since+c.offset)
	return c.last
}

// Wall returns the wall clock's time, for people to read.
func (c *Clock) Wall() time.Time { return c.src.Wall() }

// Mark returns what the next run needs to go on from here.
func (c *Clock) Mark() Mark {
	now := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return Mark{Time: now, Boot: c.boot, SinceBoot: now - c.offset, Wall: c.src.Wall().UnixMilli()}
}
