// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/rustyonions/macronode"
)

// ProblemType is the media type of refusals.
const ProblemType = "application/problem+json"

// refuse answers with e. It is the one place where an error becomes HTTP.
func (x *exchange) refuse(e *macronode.Error) {
	h := x.w.Header()
	clear(h)
	x.common()
	if origin := x.allowedOrigin(); origin != "" {
		x.share(origin)
	} else if len(x.limits.CORSOrigins) > 0 {
		h["Vary"] = []string{hOrigin}
	}
	for k, v := range e.Header {
		h[k] = v
	}
	status := e.Kind.Info().Status
	p := e.Problem(x.call.CorrID)
	doc, err := json.Marshal(&p)
	if err != nil {
		doc = nil // a problem holds text and numbers alone
	}
	if wait := e.RetryHint(); wait > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)}
	}
	if status == http.StatusUnauthorized && h["Www-Authenticate"] == nil {
		challenge := `Bearer realm="macronode"`
		if e.Kind != macronode.Unauthenticated {
			challenge += `, error="invalid_token"`
		}
		h["Www-Authenticate"] = []string{challenge}
	}
	h["Content-Type"] = problemType
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(len(doc))}
	if e.Kind == macronode.Timeout {
		x.end()
	}
	x.keepOrEnd(int64(len(doc)))
	if x.r.Method == http.MethodHead {
		doc = nil
	}
	// The client may be gone; then nobody is left to be told.
	_ = x.write(status, doc)
}

// Shared field values; net/http reads them only.
var (
	problemType = []string{ProblemType}
	noStore     = []string{"no-store"}
)

// PlainAnswer is what a client is told that speaks plain HTTP to a TLS port.
func PlainAnswer() []byte {
	return plainProblem(macronode.Errorf(macronode.Malformed, "this port speaks TLS: use https"), 400, "none")
}
