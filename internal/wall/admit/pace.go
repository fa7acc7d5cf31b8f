// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import "time"

const (
	// hintLeast and hintMost bound what a refusal tells a client to wait.
	hintLeast = 20 * time.Millisecond
	hintMost  = 10 * time.Second
	// hintSlack leaves a tenth of the places to those who were not told anything.
	hintSlack = 10
)

// pace is how fast a tenant's queue moves, as measured on the calls that waited
// in it, and how far into the future its refused calls have been told to come.
type pace struct {
	per   [queueClasses]float64 // nanoseconds for a unit of cost; 0: not known
	until time.Duration         // when those who were told to wait are through
}

// note takes in that a call with so much to go first waited so long.
func (p *pace) note(queue int, ahead int64, waited time.Duration) {
	s := float64(waited) / float64(max(ahead, 1))
	if v := &p.per[queue]; *v == 0 {
		*v = s
	} else {
		*v += (s - *v) / 4
	}
}

// wait is how long a call will wait that has so much to go first.
func (p *pace) wait(queue int, ahead int64) time.Duration {
	return time.Duration(p.per[queue] * float64(ahead))
}

// promise is when a refused call may come again. Everyone who is refused is given
// a later moment, at the pace at which places come free, so that those who do as
// they are told do not meet again in front of a full queue.
func (p *pace) promise(now, step time.Duration) time.Duration {
	p.until = min(max(p.until, now)+step+step/hintSlack, now+hintMost)
	return max(p.until-now, hintLeast)
}

// gap is how long it is between two ends of calls.
type gap struct{ last, mean time.Duration }

func (g *gap) note(now time.Duration) {
	if g.last != 0 {
		g.mean += (now - g.last - g.mean) / 8
	}
	g.last = now
}

// wait is how long the next end is away: as long as between the ones before, or
// longer where none has come for longer. Without any it is a second.
func (g *gap) wait(now time.Duration) time.Duration {
	if g.last == 0 {
		return time.Second
	}
	return max(g.mean, now-g.last)
}
