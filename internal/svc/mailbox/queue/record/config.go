// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"time"
)

// Config is how a topic behaves. Durations count in whole milliseconds.
type Config struct {
	Retention     time.Duration // how long a message waits at most, from its send or redrive on
	DeadRetention time.Duration // how long a dead letter is kept
	ReplayWindow  time.Duration // how long a repeated idempotency key is recognised, at least
	Visibility    time.Duration // default of a receive that names none
	MaxAttempts   int64         // deliveries after which a lapse or nack makes it a dead letter
	MaxDepth      int64         // messages, waiting, leased and dead
	MaxBytes      int64         // of their records
	MaxInFlight   int64         // leased at a time
	MaxKeys       int64         // idempotency keys remembered at a time
	DLQ           string        // topic whose dead-letter queue takes the dead; "" is its own
	Ordered       bool          // messages without a key keep their order too, as if they all had one
	MaxAge        time.Duration // of the oldest message that nobody acknowledged: older, and sends are refused; 0 no bound
	KeepExpired   bool          // what expires becomes a dead letter; otherwise it goes, counted
}

// Ranges of Config.
const (
	MaxRetention = 366 * 24 * time.Hour
	MaxLease     = 12 * time.Hour
	MinLease     = time.Millisecond
	maxCount     = 1 << 40
)

// Validate says what is out of range.
func (c *Config) Validate() error {
	for _, d := range []struct {
		name     string
		is       time.Duration
		min, max time.Duration
	}{
		{"retention", c.Retention, time.Second, MaxRetention},
		{"dead-letter retention", c.DeadRetention, time.Second, MaxRetention},
		{"replay window", c.ReplayWindow, time.Second, MaxRetention},
		{"visibility", c.Visibility, MinLease, MaxLease},
	} {
		if d.is < d.min || d.is > d.max || d.is%time.Millisecond != 0 {
			return fmt.Errorf("%s %v is not in whole milliseconds from %v to %v", d.name, d.is, d.min, d.max)
		}
	}
	for _, n := range []struct {
		name string
		is   int64
	}{
		{"max attempts", c.MaxAttempts}, {"max depth", c.MaxDepth}, {"max bytes", c.MaxBytes},
		{"max in flight", c.MaxInFlight}, {"max keys", c.MaxKeys},
	} {
		if n.is < 1 || n.is > maxCount {
			return fmt.Errorf("%s %d is not from 1 to %d", n.name, n.is, int64(maxCount))
		}
	}
	if c.MaxAge < 0 || c.MaxAge > MaxRetention || c.MaxAge%time.Millisecond != 0 {
		return fmt.Errorf("max age %v is not in whole milliseconds from 0 to %v", c.MaxAge, MaxRetention)
	}
	if c.DLQ != "" && !ValidName(c.DLQ) {
		return fmt.Errorf("dead-letter target %q is no topic name", c.DLQ)
	}
	return nil
}

// ValidName reports whether s may name a topic: 1 to 128 of a-z, 0-9, dot,
// underscore and hyphen, beginning with a letter or digit.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > MaxTopicBytes {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case (c == '.' || c == '_' || c == '-') && i > 0:
		default:
			return false
		}
	}
	return true
}
