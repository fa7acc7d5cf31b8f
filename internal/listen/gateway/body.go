// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen/flight"
)

// body is a request's body: each read has the stall timeout, and on routes
// with a request timeout the body ends with it. Errors say whose fault it was:
// Timeout, ClientGone where the body broke off, Malformed.
type body struct {
	x       *exchange
	src     io.ReadCloser
	n       int64
	started bool
	done    bool // read to its end
	err     error
	stall   flight.Stall // HTTP/2
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.done {
		return 0, io.EOF
	}
	b.started = true
	b.watch()
	n, err := b.src.Read(p)
	b.unwatch(err)
	b.n += int64(n)
	switch err {
	case nil:
		return n, nil
	case io.EOF:
		b.done = true
		return n, io.EOF
	}
	b.err = b.explain(err)
	return n, b.err
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

// watch and unwatch stand around each read.
func (b *body) watch() {
	until := b.until(time.Now())
	if b.x.h2 {
		b.stall.Arm(until, func() { b.x.ctl.SetReadDeadline(longAgo) })
	} else {
		b.x.ctl.SetReadDeadline(until)
	}
}

// unwatch lifts the limit at the end: from there on, net/http watches the
// connection for the client's going away. Between reads of HTTP/1 a deadline
// that passes does no harm.
func (b *body) unwatch(err error) {
	if b.x.h2 {
		b.stall.Disarm()
	} else if err != nil {
		b.x.ctl.SetReadDeadline(time.Time{})
	}
}

func (b *body) explain(err error) *macronode.Error {
	var netErr *net.OpError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.x.slow(guardSlowBody, err)
		return macronode.Wrap(macronode.Timeout, "the body did not arrive in time", err)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &netErr), errors.Is(err, syscall.ECONNRESET), b.x.h2:
		return macronode.Wrap(macronode.ClientGone, "the body broke off", err)
	default:
		return macronode.Wrap(macronode.Malformed, "the body is not framed as announced", err)
	}
}
