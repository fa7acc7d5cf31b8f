// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package h2guard

import "time"

// Flood names what a connection had too much of; the text is a metric's label.
type Flood string

// The floods.
const (
	Resets       Flood = "h2_rapid_reset"  // streams opened and reset before their reply ended
	Continuation Flood = "h2_continuation" // a header block in too many pieces, or too large
	Pings        Flood = "h2_ping"
	Settings     Flood = "h2_settings"
	Priorities   Flood = "h2_priority"
	Windows      Flood = "h2_window_update" // more than what was sent explains
	Empty        Flood = "h2_empty_data"    // DATA that carries nothing and ends nothing
	Unknown      Flood = "h2_unknown_frame"
	SlowFrame    Flood = "h2_slow_frame" // a frame or header block that did not become whole in time
	Preface      Flood = "h2_preface"    // no HTTP/2 at all
)

// Floods lists them all.
var Floods = []Flood{Resets, Continuation, Pings, Settings, Priorities, Windows, Empty, Unknown, SlowFrame, Preface}

// Limits of one header block, as it is encoded.
const (
	MaxBlockBytes    = 64 << 10
	MaxContinuations = 16
)

// rate is how many frames of a kind a connection may send: burst at once, and
// perSecond from then on.
type rate struct {
	flood     Flood
	perSecond int64
	burst     int64
}

// The kinds of frames that are counted. A client that means no harm sends a few of
// them a second; the most diligent (BDP probes, a browser's priorities) stay
// an order below.
const (
	resets = iota
	pings
	settings
	priorities
	windows
	empty
	unknown
	counted
)

var rates = [counted]rate{
	resets:     {Resets, 100, 1000}, // and one for each reply that was finished
	pings:      {Pings, 100, 1000},
	settings:   {Settings, 10, 100},
	priorities: {Priorities, 1000, 4000},
	windows:    {Windows, 1000, 4000}, // and one for each windowBytes sent
	empty:      {Empty, 100, 1000},
	unknown:    {Unknown, 100, 1000},
}

// windowBytes is how much sent data explains a WINDOW_UPDATE: the least that known
// clients let pass between two, for the stream and the connection each.
const windowBytes = 2 << 10

// bucket is a token bucket that fills up by rate, and by what is earned.
type bucket struct {
	tokens int64 // thousandths
	at     time.Time
}

// take takes a token after adding earned ones; false: there is none.
func (b *bucket) take(r *rate, earned int64, now time.Time) bool {
	if b.at.IsZero() {
		b.tokens = r.burst * 1000
	} else if gone := now.Sub(b.at); gone >= time.Millisecond {
		b.tokens += min(int64(gone/time.Millisecond), 60_000) * r.perSecond
		b.at = b.at.Add(gone.Truncate(time.Millisecond))
	}
	if b.at.IsZero() {
		b.at = now
	}
	b.tokens = min(b.tokens+min(earned, r.burst)*1000, r.burst*1000)
	if b.tokens < 1000 {
		return false
	}
	b.tokens -= 1000
	return true
}
