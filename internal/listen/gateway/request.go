// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/listen/field"
)

// Header names in canonical form.
const (
	hAuthorization  = "Authorization"
	hIdempotencyKey = "Idempotency-Key"
	hCorrID         = "X-Corr-Id"
	hTraceParent    = "Traceparent"
	hDischarge      = "X-Ron-Discharge"
	hForwarded      = "Forwarded"
	hXForwardedFor  = "X-Forwarded-For"
	hOrigin         = "Origin"
)

// fill makes the call of a request. An error is a refusal that needs no
// identity; what is filled in by then suffices to render it.
func (x *exchange) fill(s *Service, r *http.Request) *macronode.Error {
	h := macronode.Header(r.Header)
	x.call = macronode.Call{
		Wire: macronode.WireHTTP, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: h,
		Length: r.ContentLength, CorrID: field.CorrID(h[hCorrID]), TraceParent: field.TraceParent(h[hTraceParent]), Received: time.Now(),
	}
	c := &x.call
	if x.conn == nil {
		return macronode.Wrap(macronode.Internal, "", errNoConn)
	}
	c.Peer = x.conn.Peer()
	if err := x.checkHeader(r); err != nil {
		return err
	}
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		x.body = body{x: x, src: r.Body}
		c.Body = &x.body
	} else {
		c.Length = 0
	}
	if c.Peer.Trusted {
		addr, err := s.conf.Caps.Client(c.Peer.Addr, h[hXForwardedFor], h[hForwarded])
		if err != nil {
			return macronode.Errorf(macronode.Malformed, "%s", err.Error())
		}
		c.Peer.Addr = addr
	}
	if err := checkPath(c.Path); err != nil {
		return err
	}
	if err := checkQuery(c.Query); err != nil {
		return err
	}
	return single(c)
}

// single reads the headers that may stand once.
func single(c *macronode.Call) *macronode.Error {
	h := c.Header
	switch auth := h[hAuthorization]; {
	case len(auth) > 1:
		return macronode.Errorf(macronode.Malformed, "more than one Authorization")
	case len(auth) == 1:
		c.Token, c.BadAuth = bearer(auth[0])
		delete(h, hAuthorization)
	}
	if lists := h[hDischarge]; len(lists) > 0 {
		var err *macronode.Error
		if c.Discharges, err = field.Discharges(lists); err != nil {
			return err
		}
		delete(h, hDischarge)
	}
	switch keys := h[hIdempotencyKey]; {
	case len(keys) > 1:
		return macronode.Errorf(macronode.Malformed, "more than one Idempotency-Key")
	case len(keys) == 1 && keys[0] == "":
		return macronode.Errorf(macronode.Malformed, "an empty Idempotency-Key")
	case len(keys) == 1:
		c.IdempotencyKey = keys[0]
	}
	return nil
}

// bearer takes the token out of an Authorization; bad: it is not one.
func bearer(v string) (token []byte, bad bool) {
	scheme, rest, _ := strings.Cut(v, " ")
	rest = strings.Trim(rest, " ")
	if !strings.EqualFold(scheme, "Bearer") || rest == "" {
		return nil, true
	}
	return []byte(rest), false
}

// checkPath refuses paths that could mean two things. Nothing is rewritten:
// what is not refused is looked up as it was written, decoded once.
func checkPath(p string) *macronode.Error {
	if p == "" || p[0] != '/' {
		return macronode.Errorf(macronode.Malformed, "the path must begin with /")
	}
	if strings.Contains(p, "/.") {
		for seg := range strings.SplitSeq(p, "/") {
			if seg == "." || seg == ".." {
				return macronode.Errorf(macronode.Malformed, "the path has a segment . or ..")
			}
		}
	}
	ascii := true
	for i := range len(p) {
		if p[i] < ' ' || p[i] == 0x7f {
			return macronode.Errorf(macronode.Malformed, "the path has a control character")
		}
		ascii = ascii && p[i] < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(p) {
		return macronode.Errorf(macronode.Malformed, "the path is not UTF-8")
	}
	return nil
}

// tokenPrefix begins the text of every capability.
const tokenPrefix = "ron1_"

// checkQuery refuses a capability in the URL, where logs and histories would
// keep it.
func checkQuery(q string) *macronode.Error {
	for q != "" {
		var pair string
		pair, q, _ = strings.Cut(q, "&")
		k, v, _ := strings.Cut(pair, "=")
		if strings.Contains(k, "%") {
			k, _ = url.QueryUnescape(k)
		}
		switch strings.ToLower(k) {
		case "cap", "token", "access_token":
		default:
			continue
		}
		if strings.Contains(v, "%") {
			v, _ = url.QueryUnescape(v)
		}
		if strings.HasPrefix(v, tokenPrefix) {
			return macronode.Errorf(macronode.Malformed, "a capability belongs in Authorization, never in a URL: treat this one as disclosed and revoke it")
		}
	}
	return nil
}

// adminPath reports whether p belongs to the operators' surface.
func adminPath(p string) bool {
	return p == "/console" || p == "/v1/admin" || strings.HasPrefix(p, "/v1/admin/") || strings.HasPrefix(p, "/console/")
}

// hidden reports whether the path is not served on the endpoint the call came
// in on: admin routes have listeners of their own where they are configured,
// and the console is for loopback and those.
func hidden(l *Limits, e *listen.Endpoint, c *macronode.Call) bool {
	if e.Admin || !adminPath(c.Path) {
		return false
	}
	if l.SeparateAdmin {
		return true
	}
	return !strings.HasPrefix(c.Path, "/v1/") && !c.Peer.Loopback && !c.Peer.UDS
}
