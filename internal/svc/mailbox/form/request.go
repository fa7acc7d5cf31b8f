// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/rustyonions/macronode"
)

// Limits of what is asked about messages that were received.
const (
	// MaxReceipts is the most receipts that one call may name.
	MaxReceipts = 10_000
	// MaxReceiptBytes is more than any receipt has.
	MaxReceiptBytes = 256
	// MaxReasonBytes is the longest reason of a nack.
	MaxReasonBytes = 256
	// MaxVisibility is the longest lease.
	MaxVisibility = 12 * time.Hour
	// maxAsked bounds numbers that are "at most so many": far above any limit that
	// is applied to them later.
	maxAsked = 1 << 40
)

// Receive is what a receiver asks for; zero where it does not say.
type Receive struct {
	Max        int64
	MaxBytes   int64
	Visibility time.Duration
	Wait       time.Duration
}

// Settle names leases and what is to become of them.
type Settle struct {
	Receipts   []string
	Delay      *time.Duration // of a nack; nil: the mailbox's own back-off
	Reason     string
	Visibility time.Duration // of an extend
}

// document reads a body that is one JSON object. An empty one has no members.
func document(b []byte, f func(s *scanner, name string) error) error {
	s := scanner{b: b}
	if s.next() == 0 && s.i == len(b) {
		return nil
	}
	var seen []string
	err := s.object(maxMembers, func(name string) error {
		for _, old := range seen {
			if old == name {
				return errTwice
			}
		}
		seen = append(seen, name)
		return f(&s, name)
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return macronode.Errorf(macronode.Malformed, "the body: %s", err.Error())
	}
	return nil
}

// number reads the member name, from low to top.
func (s *scanner) number(name string, low, top int64) (int64, error) {
	v, err := s.integer()
	if err != nil || v < low || v > top {
		return 0, fmt.Errorf("%s is a number from %d to %d", name, low, top)
	}
	return v, nil
}

func (s *scanner) millis(name string, low time.Duration, top time.Duration) (time.Duration, error) {
	v, err := s.number(name, low.Milliseconds(), top.Milliseconds())
	return time.Duration(v) * time.Millisecond, err
}

// ReadReceive reads the body of a receive.
func ReadReceive(b []byte) (r Receive, err error) {
	err = document(b, func(s *scanner, name string) (err error) {
		switch name {
		case "max_messages":
			r.Max, err = s.number(name, 1, maxAsked)
		case "max_bytes":
			r.MaxBytes, err = s.number(name, 1, maxAsked)
		case "visibility_ms":
			r.Visibility, err = s.millis(name, time.Millisecond, MaxVisibility)
		case "wait_ms":
			r.Wait, err = s.millis(name, 0, time.Duration(math.MaxInt32)*time.Millisecond)
		default:
			err = errMember
		}
		return err
	})
	return r, err
}

var errReceipts = errors.New("receipts is a list of 1 to 10000 receipts")

func (s *scanner) receipts() (list []string, err error) {
	// A receipt takes a few dozen bytes: what is left of the body bounds the list.
	list = make([]string, 0, min(MaxReceipts, 1+(len(s.b)-s.i)/64))
	err = s.list(MaxReceipts, func() error {
		v, err := s.text()
		switch {
		case err != nil:
			return err
		case v == "" || len(v) > MaxReceiptBytes:
			return fmt.Errorf("a receipt is 1 to %d characters long", MaxReceiptBytes)
		}
		list = append(list, v)
		return nil
	})
	if errors.Is(err, errList) || errors.Is(err, errMembers) || err == nil && len(list) == 0 {
		err = errReceipts
	}
	return list, err
}

// settle reads what ack, nack and extend have in common; more reads the rest.
func settle(b []byte, more func(s *scanner, r *Settle, name string) error) (r Settle, err error) {
	err = document(b, func(s *scanner, name string) (err error) {
		if name == "receipts" {
			r.Receipts, err = s.receipts()
			return err
		}
		return more(s, &r, name)
	})
	if err == nil && len(r.Receipts) == 0 {
		err = macronode.Errorf(macronode.Malformed, "the body: %s", errReceipts.Error())
	}
	return r, err
}

// ReadAck reads the body of an ack.
func ReadAck(b []byte) (Settle, error) {
	return settle(b, func(*scanner, *Settle, string) error { return errMember })
}

// ReadNack reads the body of a nack.
func ReadNack(b []byte) (Settle, error) {
	return settle(b, func(s *scanner, r *Settle, name string) (err error) {
		switch name {
		case "delay_ms":
			var d time.Duration
			if d, err = s.millis(name, 0, MaxDelay); err == nil {
				r.Delay = &d
			}
		case "reason":
			if r.Reason, err = s.text(); err == nil && len(r.Reason) > MaxReasonBytes {
				err = fmt.Errorf("reason is at most %d bytes long", MaxReasonBytes)
			}
		default:
			err = errMember
		}
		return err
	})
}

// ReadExtend reads the body of an extend.
func ReadExtend(b []byte) (Settle, error) {
	r, err := settle(b, func(s *scanner, r *Settle, name string) (err error) {
		if name != "visibility_ms" {
			return errMember
		}
		r.Visibility, err = s.millis(name, time.Millisecond, MaxVisibility)
		return err
	})
	if err == nil && r.Visibility == 0 {
		err = macronode.Errorf(macronode.Malformed, "the body: visibility_ms is missing")
	}
	return r, err
}
