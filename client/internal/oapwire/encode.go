// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapwire

import (
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/oap"
)

// own are the fields that do not go into a head: OAP/1 says them otherwise, or
// has no use for them.
var own = map[string]bool{
	"Authorization": true, "X-Ron-Discharge": true, "Idempotency-Key": true, "Traceparent": true, "Content-Length": true, "Expect": true,
	"User-Agent": true, "Host": true, "Connection": true, "Transfer-Encoding": true, "Te": true, "Trailer": true, "Upgrade": true,
}

var (
	errMalformedCap = errors.New("the capability is no token")
	errLongCap      = errors.New("the capability with its discharges is longer than a frame takes")
	errNoTime       = errors.New("no time is left")
)

// question is a request as a START says it.
type question struct {
	app       uint16
	cap, head []byte
}

// encode says r in the terms of OAP/1.
func (t *Transport) encode(r *http.Request, now time.Time) (q question, err error) {
	route, args, err := t.conf.Table.Lookup(r.Method, r.URL.EscapedPath(), r.URL.RawQuery)
	if err != nil {
		return q, err
	}
	q.app = route.App
	if q.cap, err = t.capability(r.Header.Get("Authorization"), r.Header["X-Ron-Discharge"]); err != nil {
		return q, err
	}
	h := oap.RequestHead{Op: route.Op, Args: args, Length: bodyLength(r),
		IdempotencyKey: r.Header.Get("Idempotency-Key"), TraceParent: r.Header.Get("Traceparent")}
	if end, ok := r.Context().Deadline(); ok {
		left := end.Sub(now)
		if left <= 0 {
			return q, errNoTime
		}
		// Rounded up: the node is not to give up before its caller does.
		h.DeadlineMS = int64((left + time.Millisecond - 1) / time.Millisecond)
	}
	for name, values := range r.Header {
		if own[name] || len(values) == 0 {
			continue
		}
		if h.Headers == nil {
			h.Headers = make(macronode.Header, len(r.Header))
		}
		h.Headers[name] = values
	}
	q.head, err = h.Append(make([]byte, 0, 256))
	return q, err
}

// bodyLength is what a head announces.
func bodyLength(r *http.Request) int64 {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return 0
	case r.ContentLength > 0:
		return r.ContentLength
	}
	return oap.UnknownLength
}

// rawToken is a capability in both forms. It is only read.
type rawToken struct {
	text string
	raw  []byte
}

// capability is rawCap, which is not asked twice in a row for the same token.
func (t *Transport) capability(authorization string, discharges []string) ([]byte, error) {
	if last := t.last.Load(); last != nil && last.text == authorization && len(discharges) == 0 {
		return last.raw, nil
	}
	raw, err := rawCap(authorization, discharges)
	if err == nil && len(discharges) == 0 {
		t.last.Store(&rawToken{authorization, raw})
	}
	return raw, err
}

// rawCap makes a START's capability of what HTTP carries: the token, then its
// discharges, as CBOR one behind the other.
func rawCap(authorization string, discharges []string) ([]byte, error) {
	if authorization == "" {
		return nil, nil
	}
	text, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok {
		return nil, errMalformedCap
	}
	raw, err := appendToken(make([]byte, 0, len(text)), text)
	for _, list := range discharges {
		for d := range strings.SplitSeq(list, ",") {
			if d = strings.Trim(d, " \t"); d != "" && err == nil {
				raw, err = appendToken(raw, d)
			}
		}
	}
	if err == nil && len(raw) > math.MaxUint16 {
		err = errLongCap
	}
	return raw, err
}

func appendToken(b []byte, text string) ([]byte, error) {
	text, ok := strings.CutPrefix(text, capability.TextPrefix)
	if !ok || text == "" {
		return b, errMalformedCap
	}
	b, err := base64.RawURLEncoding.Strict().AppendDecode(b, []byte(text))
	if err != nil {
		return b, errMalformedCap
	}
	return b, nil
}
