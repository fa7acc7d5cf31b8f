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
)

func TestTraceParent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for in, want := range map[string]string{
		good:                               good,
		"cc" + good[2:]:                    "cc" + good[2:],
		"cc" + good[2:] + "-more":          "cc" + good[2:],
		"cc" + good[2:] + "more":           "",
		good + "-more":                     "",
		good + " ":                         "",
		"ff" + good[2:]:                    "",
		strings.ToUpper(good):              "",
		good[:54]:                          "",
		strings.Replace(good, "-", "_", 1): "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": "",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": "",
		"": "",
	} {
		if got := traceParent([]string{in}); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if traceParent([]string{good, good}) != "" || traceParent(nil) != "" {
		t.Error("two are none")
	}
}

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

func TestCorrID(t *testing.T) {
	for _, bad := range [][]string{nil, {""}, {"a b"}, {"a\n"}, {"é"}, {strings.Repeat("a", 65)}, {"a", "b"}} {
		if got := corrID(bad); len(got) != 32 || !lowerHex(got) {
			t.Errorf("%q: %q", bad, got)
		}
	}
	if first := corrID(nil); first == corrID(nil) {
		t.Error("the same twice")
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
	if resp, _ := r.do("POST /ingress HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"); resp.StatusCode != 501 {
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
		if err := single(&c); err == nil && (len(c.Discharges) > maxDischarges || (c.Token == nil) != c.BadAuth) {
			t.Fatalf("%+v", c)
		}
		if id := corrID([]string{corr}); !validCorrID(id) {
			t.Fatalf("%q", id)
		}
		if p := traceParent([]string{trace}); p != "" && len(p) != 55 {
			t.Fatalf("%q", p)
		}
		redact(path + query)
	})
}
