// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen/field"
)

func TestBearer(t *testing.T) {
	for in, want := range map[string]string{"Bearer x": "x", "bearer  x ": "x", "BEARER a b": "a b"} {
		if got, bad := bearer(in); string(got) != want || bad {
			t.Errorf("%q: %q, %v", in, got, bad)
		}
	}
	for _, in := range []string{"", "Bearer", "Bearer ", "Basic x", "Bearerx", "ron1_x"} {
		if got, bad := bearer(in); !bad || got != nil {
			t.Errorf("%q: %q, %v", in, got, bad)
		}
	}
}

// From another host without TLS nothing of a body is read, and the refusal is
// readable all the same.
func TestInsecurePeerBodyIsLeftAlone(t *testing.T) {
	bodies := make(chan *body, 1)
	r := start(t, func(_ context.Context, c *macronode.Call, _ macronode.Send) error {
		if c.Peer.Secure() || c.Peer.Loopback {
			t.Errorf("%+v", c.Peer)
		}
		bodies <- c.Body.(*body)
		return macronode.Errorf(macronode.TLSRequired, "")
	}, options{far: &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 4711}})
	c, br := r.raw("PUT /o HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000))
	resp, text := r.answer(br, "PUT")
	if resp.StatusCode != 403 || problem(t, text).Code != "tls_required" || !resp.Close {
		t.Errorf("%d %s, close %v", resp.StatusCode, text, resp.Close)
	}
	closedWithin(t, c, 5*time.Second)
	if b := <-bodies; b.started || b.n != 0 {
		t.Errorf("%d bytes were read", b.n)
	}
	// Nor of a frame.
	if resp, _ := r.do("POST /ingress HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"); resp.StatusCode != 403 {
		t.Errorf("/ingress: %d", resp.StatusCode)
	}
}

// FuzzRequest: whatever a header or URL holds, nothing panics, and what passes
// keeps its promises.
func FuzzRequest(f *testing.F) {
	f.Add("/o/b3:00", "cap=ron1_x&a=b", "Bearer x", "corr", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "k")
	f.Add("/o/../x", "%63ap=%72on1_", "Basic", "", "", "")
	f.Fuzz(func(t *testing.T, path, query, auth, corr, trace, key string) {
		if err := checkPath(path); err == nil {
			for seg := range strings.SplitSeq(path, "/") {
				if seg == ".." || seg == "." || strings.ContainsAny(seg, "\x00\r\n") {
					t.Fatalf("%q passed", path)
				}
			}
		}
		if checkQuery(query) == nil {
			if q, err := url.ParseQuery(query); err == nil && strings.HasPrefix(q.Get("cap"), tokenPrefix) {
				t.Fatalf("%q passed", query)
			}
		}
		c := macronode.Call{Header: macronode.Header{hAuthorization: {auth}, hIdempotencyKey: {key}, hDischarge: {corr, auth}}}
		if err := single(&c); err == nil && (len(c.Discharges) > field.MaxDischarges || (c.Token == nil) != c.BadAuth) {
			t.Fatalf("%+v", c)
		}
		if id := field.CorrID([]string{corr}); id == "" || len(id) > 64 || strings.ContainsAny(id, " \r\n\"") {
			t.Fatalf("%q", id)
		}
		if p := field.TraceParent([]string{trace}); p != "" && len(p) != 55 {
			t.Fatalf("%q", p)
		}
		redact(path + query)
	})
}
