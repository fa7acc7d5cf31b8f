// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package openloop sends HTTP/1.1 requests to one server on a schedule that
// does not wait for answers, as a crowd of independent clients would, and
// counts each request's time from the moment it was due. A server that falls
// behind is therefore charged for all that it keeps waiting, and not only for
// the request in its hands.
//
// One thread does everything, with as little work a request as there can be:
// requests are written from bytes made beforehand, answers' bodies are dropped
// in the kernel without being copied. If the thread is late nevertheless, the
// result says by how much. It works on Linux alone.
package openloop

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Spec is one run.
type Spec struct {
	Addr    string        `json:"addr"` // of the server: IPv4 address and port
	Span    time.Duration `json:"span"` // what is counted
	Warm    time.Duration `json:"warm"` // what goes before and is not
	Grace   time.Duration `json:"grace"`
	Timeout time.Duration `json:"timeout"` // a request without an answer is given up, with its connection
	Seed    uint64        `json:"seed"`    // of arrivals and of bodies
	// Spin has the thread never sleep: nobody then pays for waking it. On one
	// machine that is the server, with every answer; over a network it would not.
	Spin  bool   `json:"spin"`
	Flows []Flow `json:"flows"`
}

// Flow is one client population. Its arrivals are a Poisson process of their
// own; a request that finds no idle connection waits for one.
type Flow struct {
	Name string `json:"name"`
	From string `json:"from"` // local address
	// Rate is arrivals a second. 0 is a closed loop: each connection sends its
	// next request as soon as it has the answer.
	Rate  float64 `json:"rate"`
	Conns int     `json:"conns"`
	// Heads are the requests' heads up to and with the empty line, used in turn.
	Heads []string `json:"heads"`
	// Body is the length of each request's body: incompressible bytes, different
	// in each request. 0: none.
	Body int `json:"body"`
	// Good is the status of an answer that counts, Bytes its Content-Length; -1:
	// any.
	Good  int   `json:"good"`
	Bytes int64 `json:"bytes"`
}

// prefix is how many bytes of a body differ from those of all others.
const prefix = 16

func (s *Spec) validate() (netip.AddrPort, error) {
	to, err := netip.ParseAddrPort(s.Addr)
	if err != nil || !to.Addr().Is4() {
		return to, fmt.Errorf("openloop: %q is no IPv4 address with a port", s.Addr)
	}
	if s.Span <= 0 || s.Warm < 0 || s.Grace < 0 || s.Timeout <= 0 || len(s.Flows) == 0 {
		return to, errors.New("openloop: a run needs a span, a timeout and a flow")
	}
	for _, f := range s.Flows {
		if a, err := netip.ParseAddr(f.From); err != nil || !a.Is4() || f.Conns < 1 || f.Rate < 0 || len(f.Heads) == 0 || f.Body < 0 || f.Body > 0 && f.Body < prefix {
			return to, fmt.Errorf("openloop: flow %q is not complete", f.Name)
		}
	}
	return to, nil
}

// Result is what a run came to.
type Result struct {
	Flows   []FlowResult `json:"flows"`
	Seconds float64      `json:"seconds"` // that were counted
	// CPU is the share of its core that the thread had work for.
	CPU float64 `json:"cpu"`
	// LagUS is how long after its time each counted arrival was looked at, in
	// microseconds: the generator's own delay, which is part of the latencies.
	LagUS []uint32 `json:"lag_us"`
}

// FlowResult is one flow's part. Latencies are from the time a request was due
// to the last byte of its answer, in microseconds, of the requests that were
// due in the counted span.
type FlowResult struct {
	Name string `json:"name"`
	Due  int    `json:"due"` // requests that were due in the span
	// Done is the number of good answers that came within the span.
	Done       int            `json:"done"`
	Codes      map[string]int `json:"codes"` // answers by status and problem code
	AdmittedUS []uint32       `json:"admitted_us"`
	RefusedUS  []uint32       `json:"refused_us"`
	// Of the requests that were due in the span: waited for an idle connection
	// when they were due, never were sent, were sent and had no whole answer.
	Queued     int `json:"queued"`
	Unsent     int `json:"unsent"`
	Unanswered int `json:"unanswered"`
	// Wrong is the number of answers with the good status and another length,
	// Bare that of refusals (429, 503) without Retry-After, in the whole run.
	Wrong int `json:"wrong"`
	Bare  int `json:"bare"`
	// Reopened is the number of connections that ended and were opened again.
	Reopened int `json:"reopened"`
}
