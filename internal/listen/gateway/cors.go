// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"slices"
)

// What pages of an allowed origin may send and read. Capabilities travel in
// Authorization, which a page must set itself, so no credentials are allowed
// and none are sent by browsers unasked.
const (
	corsMethods = "GET, HEAD, POST, PUT, DELETE"
	corsHeaders = "Authorization, Content-Type, Content-Encoding, Idempotency-Key, If-Match, If-None-Match, If-Range, Prefer, Range, " +
		"Traceparent, X-Corr-ID, X-Ron-Discharge, X-Ron-Proof"
	corsExpose = "Accept-Ranges, Allow, Audit-Receipt, Content-Disposition, Content-Length, Content-Range, ETag, Idempotency-Replayed, Link, Location, " +
		"Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Corr-ID"
	corsMaxAge = "600"
)

// allowedOrigin is the request's Origin where it may read replies, else "".
func (x *exchange) allowedOrigin() string {
	o := x.r.Header[hOrigin]
	if len(o) != 1 || !slices.Contains(x.limits.CORSOrigins, o[0]) {
		return ""
	}
	return o[0]
}

// share lets pages of origin read the reply.
func (x *exchange) share(origin string) {
	h := x.w.Header()
	h["Access-Control-Allow-Origin"] = []string{origin}
	h["Access-Control-Expose-Headers"] = []string{corsExpose}
	h["Vary"] = []string{hOrigin}
}

// cors adds what an allowed origin needs, and answers its preflight requests
// (done). A preflight of another origin goes its way and finds no such route.
func (x *exchange) cors() (done bool) {
	origin := x.allowedOrigin()
	if origin == "" {
		x.w.Header()["Vary"] = []string{hOrigin}
		return false
	}
	x.share(origin)
	if x.r.Method != http.MethodOptions || x.r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h := x.w.Header()
	h["Access-Control-Allow-Methods"] = []string{corsMethods}
	h["Access-Control-Allow-Headers"] = []string{corsHeaders}
	h["Access-Control-Max-Age"] = []string{corsMaxAge}
	x.keepOrEnd(0)
	_ = x.write(http.StatusNoContent, nil)
	x.finish()
	return true
}
