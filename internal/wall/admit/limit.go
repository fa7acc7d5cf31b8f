// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"time"

	"github.com/rustyonions/macronode"
)

const (
	// floorPerCore bounds the limit from below: what a core can keep moving.
	floorPerCore = 4
	// startPerCore is where the limit begins, and where it returns to when the
	// node has nothing to do.
	startPerCore = 32
	// processorTarget is how long work may wait for a processor.
	processorTarget = 500 * time.Microsecond
	// patience is how much longer than on a quiet node a call may take before it
	// counts as pressure: in time for short calls, in multiples for long ones.
	// Durable writes wait for each other on purpose, so they have more.
	readPatience  = 5 * time.Millisecond
	writePatience = 10 * time.Millisecond
	readMultiple  = 2
	writeMultiple = 3

	// movingGain is how many times what calls need to wait together they get.
	movingGain = 2.5

	// window is how much is looked at before the limit moves.
	window = 10 * time.Millisecond
	// settle is how long a change of the limit is given to show before it is
	// lowered again.
	settle = 20 * time.Millisecond
	// pressedHold is how long processors count as short after they were.
	pressedHold = 2 * time.Second
	// calmWindows is how many windows in a row with little in the way end that for
	// the limit.
	calmWindows = 3
	// idleStep is how often an idle node's limit goes a step back to its start.
	idleStep = time.Second
	// maxPressure bounds what one call can say.
	maxPressure = 10
)

// sizeClasses are of bytes moved: up to 4 KiB, 16 KiB, and so on to 64 MiB.
const sizeClasses = 9

func sizeClass(bytes int64) int {
	i := 0
	for bound := int64(4 << 10); bytes > bound && i < sizeClasses-1; bound *= 4 {
		i++
	}
	return i
}

// profile is what a route's calls were like: their size, and how long they take
// on a quiet node. It is guarded by Controller.mu.
type profile struct {
	work  int64 // cost of the work alone
	write bool
	bytes int64 // moved by a call, on average
	base  [sizeClasses]time.Duration
}

func newProfile(b *macronode.Binding) *profile {
	return &profile{work: max(b.Cost, 1) * workCost, write: b.Class == macronode.CoreWrite}
}

// expect is what a call with a body of this length will cost.
func (p *profile) expect(length int64) int64 { return p.work + max(length, p.bytes) }

// learn notes a call that went well. light is one that began while the node had
// little to do: it tells how long such calls take when nothing is in the way, and
// so does any call that was quicker.
func (p *profile) learn(moved int64, took time.Duration, light bool) {
	p.bytes += (moved - p.bytes) / 8
	b := &p.base[sizeClass(moved)]
	switch {
	case *b == 0 && light:
		*b = max(took, 1)
	case *b == 0:
	case took < *b:
		*b = max(*b+(took-*b)/8, 1)
	case light:
		*b += (took - *b) / 32
	}
}

// pressure is how much longer a call took than on a quiet node, in parts of what
// is tolerable: 1 is just so. Without anything to compare with it is 0.
func (p *profile) pressure(moved int64, took time.Duration) (pressure float64, base time.Duration) {
	base = p.base[sizeClass(moved)]
	if base == 0 || took <= base {
		return 0, base
	}
	patience := max(readPatience, readMultiple*base)
	if p.write {
		patience = max(writePatience, writeMultiple*base)
	}
	return min(float64(took-base)/float64(patience), maxPressure), base
}

// limiter moves the number of places after what was measured. It is guarded by
// Controller.mu.
type limiter struct {
	places       float64
	cores        float64
	least, first float64
	most         float64 // max_inflight

	// moving is how many calls are inside on average that are as quick as on a
	// quiet node: completions a second times that time.
	moving float64

	// the window
	began     time.Duration
	ideal     time.Duration // all calls' times on a quiet node
	all       samples       // every call that ended
	fresh     samples       // of them, those that began after the last change
	wanted    bool          // a call waited for a place
	idleSince time.Duration

	pressedTo time.Duration
	calm      int           // windows in a row in which little was in the way
	slowest   time.Duration // wait for a processor, forgotten by a sixteenth a window

	changed time.Duration // when the limit last moved
	cause   Cause         // why the limit is where it is
	last    reading
}

// reading is what the last full window showed.
type reading struct {
	processor time.Duration // wait for a processor
	took      time.Duration // calls' time in the node, on average
	base      time.Duration // the same on a quiet node
	pressure  float64
}

func newLimiter(cores int, most int64) limiter {
	n := float64(max(cores, 1))
	l := limiter{cores: n, least: n * floorPerCore, first: n * startPerCore, cause: CauseGrowth}
	l.setMost(most)
	l.places = min(l.first, l.most)
	return l
}

func (l *limiter) setMost(most int64) {
	l.most = float64(most)
	if most == macronode.NoLimit {
		l.most = maxPlaces
	}
	l.places = min(l.places, l.most)
}

// floor is the least that the limit may become: what keeps the cores busy, and
// what the calls need that spend their time waiting, for a disk. Without the
// latter a node with busy cores would not let them wait together.
func (l *limiter) floor() float64 {
	return min(l.least+movingGain*max(l.moving-l.cores, 0), l.most)
}

// limit is how many calls may work at once.
func (l *limiter) limit() int64 { return int64(l.places) }

// sample takes in a call that ended well.
func (l *limiter) sample(began, took time.Duration, pressure float64, base time.Duration) {
	if base == 0 {
		return
	}
	l.ideal += base
	l.all.add(took, base, pressure)
	if began >= l.changed {
		l.fresh.add(took, base, pressure)
	}
}

// samples are calls' times, beside those on a quiet node.
type samples struct {
	took, base time.Duration
	pressure   float64
	n          int
}

func (s *samples) add(took, base time.Duration, pressure float64) {
	s.took, s.base, s.pressure, s.n = s.took+took, s.base+base, s.pressure+pressure, s.n+1
}

// mean of the pressures; 0 without any.
func (s *samples) mean() float64 { return s.pressure / float64(max(s.n, 1)) }

// step ends the window where it is time, and moves the limit. processor is how
// long work waited for a processor lately.
func (l *limiter) step(now, processor time.Duration, working int64) {
	age := now - l.began
	if age < window {
		return
	}
	l.moving += (float64(l.ideal)/float64(age) - l.moving) / 8
	l.slowest = max(processor, l.slowest-l.slowest/16)
	byCores := float64(processor) / float64(processorTarget)
	l.last.processor, l.last.pressure = processor, max(byCores, l.all.mean())
	if n := time.Duration(l.all.n); n > 0 {
		l.last.took, l.last.base = l.all.took/n, l.all.base/n
	}
	if l.calm++; l.last.pressure >= 0.3 {
		l.calm = 0
	}
	before := l.places
	l.places = max(l.places, l.floor())
	busy := l.wanted || float64(working) >= l.floor()
	lower := max(byCores, l.fresh.mean())
	switch {
	case lower > 1 && busy && now-l.changed >= settle:
		// What works, not what might, is what makes others wait.
		l.places = max(l.floor(), min(l.places, float64(working)+1)*max(0.6, min(0.95, 1/lower)))
		if l.cause = CauseProcessor; byCores < l.fresh.mean() {
			l.cause = CauseLatency
		}
	case l.last.pressure < 0.7 && l.wanted:
		l.cause = CauseGrowth
		grow := 1.1
		switch {
		case l.pressed(now) && l.calm < calmWindows:
			// A quiet window says little where processors were short a moment ago:
			// whoever is let in by mistake is in the way of all until it ends. Some in
			// a row say that it is over.
		case l.last.pressure < 0.1:
			grow = 4 // nothing is in the way
		case l.last.pressure < 0.3:
			grow = 2
		}
		l.places = min(max(l.places*grow, l.places+1), l.most)
	}
	l.rest(now, busy)
	if int64(before) != int64(l.places) {
		l.changed = now
	}
	if l.places >= l.most {
		l.cause = CauseMax
	}
	l.began, l.ideal, l.all, l.fresh, l.wanted = now, 0, samples{}, samples{}, false
}

// rest brings the limit of a node that has nothing to do back to its start.
func (l *limiter) rest(now time.Duration, busy bool) {
	if busy {
		l.idleSince = now
		return
	}
	if now-l.idleSince < idleStep {
		return
	}
	l.idleSince = now
	l.cause = CauseGrowth
	if start := min(l.first, l.most); l.places > start {
		l.places = max(start, l.places*0.8)
	} else {
		l.places = min(start, l.places*1.25+1)
	}
}

// feel notes how long work waits for a processor, and whether calls wait.
func (l *limiter) feel(now, processor time.Duration, waiting bool) {
	if processor > processorTarget/2 || waiting && l.pressed(now) {
		l.pressedTo = now + pressedHold
	}
}

// pressed reports whether processors are short. It holds for a while: what is
// done about it makes the wait go away.
func (l *limiter) pressed(now time.Duration) bool { return now < l.pressedTo }

// resting reports whether there is nothing left to do without calls.
func (l *limiter) resting() bool { return l.places == min(l.first, l.most) }
