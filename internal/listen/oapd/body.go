// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"errors"
	"io"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen/flight"
	"github.com/rustyonions/macronode/oap"
)

// body is a request's body: each read has the stall timeout, on routes with a
// request timeout the body ends with it, and where a length was announced it is
// held against that. Errors say whose fault it was: Timeout, ClientGone where
// the stream broke off, Malformed.
type body struct {
	x     *exchange
	n     int64
	done  bool // read to its end
	err   error
	stall flight.Stall
}

const lateText = "the body did not arrive in time"

var errLongBody = macronode.Errorf(macronode.Malformed, "the body is longer than its length")

func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.done:
		return 0, io.EOF
	}
	b.stall.Arm(b.until(time.Now()), b.x.expire)
	n, err := b.x.st.Read(p)
	b.stall.Disarm()
	b.n += int64(n)
	want := b.x.call.Length
	switch {
	case want >= 0 && b.n > want:
		b.err = errLongBody
		return 0, b.err
	case err == nil:
		return n, nil
	case err != io.EOF:
		b.err = b.explain(err)
		return n, b.err
	case want >= 0 && b.n < want:
		b.err = macronode.Errorf(macronode.Malformed, "the body ended before its length")
		return n, b.err
	}
	b.done = true
	return n, io.EOF
}

// until is when the next byte must be here.
func (b *body) until(now time.Time) time.Time {
	t := now.Add(b.x.limits.StallTimeout)
	if r := b.x.call.Binding; r != nil && !r.Streaming && !r.LongRunning {
		if last := b.x.call.Received.Add(b.x.limits.RequestTimeout); last.Before(t) {
			return last
		}
	}
	return t
}

// explain says why a body did not arrive.
func (b *body) explain(err error) *macronode.Error {
	if b.x.late.Load() {
		return macronode.Wrap(macronode.Timeout, lateText, err)
	}
	if bad, ok := errors.AsType[*oap.Error](err); ok {
		return macronode.Wrap(macronode.Malformed, bad.Text(), err)
	}
	return macronode.Wrap(macronode.ClientGone, "the body broke off", err)
}
