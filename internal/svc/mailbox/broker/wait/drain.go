// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wait

import "time"

// Bounds of the waits that refusals announce.
const (
	Least = 50 * time.Millisecond
	Most  = time.Minute
)

// Drain measures how fast messages leave a topic, so that a refusal can say when
// there will be room. Guarded by the topic's lock.
type Drain struct {
	since int64 // mailbox time when the window began
	left  int64 // messages that left in it
	rate  float64
}

// drainWindow is how long departures are counted before they make a rate, in ms.
const drainWindow = 1000

// Gone notes that n messages left.
func (d *Drain) Gone(now, n int64) {
	if d.since == 0 {
		d.since = now
	}
	d.left += n
	d.roll(now)
}

func (d *Drain) roll(now int64) {
	if passed := now - d.since; passed >= drainWindow {
		fresh := float64(d.left) * 1000 / float64(passed)
		if d.rate == 0 || passed > 5*drainWindow {
			d.rate = fresh
		} else {
			d.rate = (d.rate + fresh) / 2
		}
		d.since, d.left = now, 0
	}
}

// For is how long n messages take to leave at the rate seen, Most where
// nothing leaves, and never beyond next, when something leaves by itself.
func (d *Drain) For(now, n int64, next time.Duration) time.Duration {
	if d.since != 0 {
		d.roll(now)
	}
	w := Most
	if d.rate > 0 {
		w = time.Duration(min(float64(n)/d.rate, Most.Seconds()) * float64(time.Second))
	}
	if next > 0 {
		w = min(w, next)
	}
	return min(max(w, Least), Most)
}
