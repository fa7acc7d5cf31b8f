// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/internal/datadir"
)

// ask is one call in the terms of both wires: op and args of OAP/1, from which
// method, path and query of HTTP follow.
type ask struct {
	op     string
	args   map[string]string
	header macronode.Header
	body   string
	key    string // Idempotency-Key
	cap    string // file of the capability; "-": none
	claim  macronode.TenantID
}

// answer is what came back, as a client would tell answers apart.
type answer struct {
	status int
	kind   string // of the refusal; "": none
	detail string
	header macronode.Header
	length int64
	body   string
}

// volatile fields differ from call to call.
var volatile = []string{"Ratelimit", "Ratelimit-Policy"}

func (n *Node) binding(tb testing.TB, op string) *macronode.Binding {
	tb.Helper()
	for _, b := range n.wall.Bindings() {
		if string(b.Op) == op {
			return b
		}
	}
	tb.Fatalf("no operation %s", op)
	return nil
}

// call makes the call of q for one wire.
func (n *Node) call(tb testing.TB, w macronode.Wire, q ask) *macronode.Call {
	tb.Helper()
	b := n.binding(tb, q.op)
	c := &macronode.Call{Wire: w, Header: maps.Clone(q.header), Length: int64(len(q.body)), IdempotencyKey: q.key, CorrID: "wires",
		Received: time.Now(), Peer: macronode.Peer{Addr: netip.MustParseAddr("127.0.0.1"), Loopback: true}}
	if c.Header == nil {
		c.Header = macronode.Header{}
	}
	if q.body != "" {
		c.Body = strings.NewReader(q.body)
	}
	file := q.cap
	if file == "" {
		file = datadir.TenantCapName
	}
	if file != "-" {
		c.Token = []byte(n.token(tb, file))
	}
	if w == macronode.WireOAP {
		c.Op, c.AppID, c.ClaimedTenant = b.Op, b.OAP, q.claim
		for _, name := range slices.Sorted(maps.Keys(q.args)) {
			c.Args = append(c.Args, macronode.Arg{Name: name, Value: q.args[name]})
		}
		if len(c.Token) > 0 {
			tok, err := capability.ParseBytes(c.Token)
			if err != nil {
				tb.Fatal(err)
			}
			c.Token = tok.CBOR()
		}
		return c
	}
	path, query := b.Pattern, url.Values{}
	for name, value := range q.args {
		if p := strings.Replace(path, "{"+name+"}", value, 1); p != path {
			path = p
		} else {
			query.Set(name, value)
		}
	}
	c.Method, c.Path, c.Query = b.Method, path, query.Encode()
	return c
}

// over sends q over one wire, as far as the wall.
func (n *Node) over(tb testing.TB, w macronode.Wire, q ask) answer {
	tb.Helper()
	var a answer
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	err := n.wall.Serve(ctx, n.call(tb, w, q), func(r *macronode.Reply) error {
		a.status, a.length, a.header = r.Status, r.BodyLength(), maps.Clone(r.Header)
		if r.ContentType != "" {
			if a.header == nil {
				a.header = macronode.Header{}
			}
			a.header.Set("Content-Type", r.ContentType)
		}
		if r.Stream == nil {
			a.body = string(r.Body)
			return nil
		}
		var b bytes.Buffer
		_, err := r.Stream.WriteTo(&b)
		a.body = b.String()
		return err
	})
	if err != nil {
		e := macronode.AsError(err)
		a = answer{status: e.Kind.Info().Status, kind: e.Kind.String(), detail: e.Detail, header: e.Header}
	}
	for _, name := range volatile {
		delete(a.header, name)
	}
	return a
}

func gzipped(tb testing.TB, s string) string {
	tb.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, s); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// TestBothWiresAnswerAlike: what an operation answers does not depend on the wire,
// with all that HTTP asks for in fields: conditions, ranges, codings, and HEAD.
func TestBothWiresAnswerAlike(t *testing.T) {
	n := beginDev(t)
	var lines strings.Builder
	for i := range 5_000 {
		fmt.Fprintf(&lines, "%x\n", b3.Sum(fmt.Append(nil, i)))
	}
	text := lines.String()
	addr := b3.Sum([]byte(text)).String()
	etag := `"` + addr + `"`
	if a := n.over(t, macronode.WireOAP, ask{op: "object.put", args: map[string]string{"addr": addr}, body: text, header: macronode.Header{"Content-Type": {"text/plain"}}}); a.status != 201 ||
		a.header.Get("Location") != "/o/"+addr {
		t.Fatalf("put: %d %s %v", a.status, a.detail, a.header)
	}
	at := map[string]string{"addr": addr}
	other := map[string]string{"addr": b3.Sum([]byte("other")).String()}
	field := func(name, value string) macronode.Header { return macronode.Header{name: {value}} }
	operator := datadir.OperatorCapName
	for _, c := range []struct {
		ask
		status int
		bytes  int // of the body; -1: any
	}{
		{ask{op: "object.get", args: at}, 200, len(text)},
		{ask{op: "object.get", args: at, header: field("Range", "bytes=5-104")}, 206, 100},
		{ask{op: "object.get", args: at, header: field("Range", "bytes=-7")}, 206, 7},
		{ask{op: "object.get", args: at, header: field("Range", "bytes=0-9,100-109")}, 206, -1},
		{ask{op: "object.get", args: at, header: field("Range", "bytes=99999999-")}, 416, 0},
		{ask{op: "object.get", args: at, header: field("If-None-Match", etag)}, 304, 0},
		{ask{op: "object.get", args: at, header: field("If-Match", `"no"`)}, 412, 0},
		{ask{op: "object.get", args: at, header: macronode.Header{"Range": {"bytes=0-0"}, "If-Range": {`"no"`}}}, 200, len(text)},
		{ask{op: "object.get", args: at, header: macronode.Header{"Range": {"bytes=0-0"}, "If-Range": {etag}}}, 206, 1},
		{ask{op: "object.get", args: at, header: macronode.Header{"Range": {"bytes=0-99"}, "Accept": {"application/vnd.bao;group=4"}}}, 200, -1},
		{ask{op: "object.get", args: other}, 404, 0},
		{ask{op: "object.get", args: map[string]string{"addr": "B3:XY"}}, 400, 0},
		{ask{op: "object.get", args: at, cap: "-"}, 401, 0},
		{ask{op: "object.stat", args: at}, 200, 0},
		{ask{op: "object.stat", args: at, header: field("If-None-Match", etag)}, 304, 0},
		{ask{op: "object.stat", args: other}, 404, 0},
		{ask{op: "object.list", args: map[string]string{"limit": "10", "prefix": addr[:10]}}, 200, -1},
		{ask{op: "object.list", args: map[string]string{"limit": "0"}}, 400, 0},
		{ask{op: "object.list", args: map[string]string{"colour": "red"}}, 400, 0},
		{ask{op: "object.post", body: gzipped(t, text), header: field("Content-Encoding", "gzip")}, 200, -1},
		{ask{op: "object.post", body: "x", header: field("Content-Encoding", "br")}, 415, 0},
		{ask{op: "object.put", args: other, body: "no"}, 422, 0},
		{ask{op: "object.delete", args: other}, 404, 0},
		{ask{op: "object.delete", args: at, key: strings.Repeat("k", 129)}, 400, 0},
		{ask{op: "object.delete", args: at, body: "a body"}, 413, 0},
		{ask{op: "kms.list", cap: operator}, 200, -1},
		{ask{op: "kms.list"}, 403, 0},
		{ask{op: "kms.public", args: map[string]string{"key": "nobody"}, cap: operator}, 404, 0},
		{ask{op: "kms.sign", args: map[string]string{"key": "nobody"}, body: `{"message":""}`, cap: operator, header: field("Content-Encoding", "gzip")}, 415, 0},
		{ask{op: "kms.object.put", args: map[string]string{"object": "both", "version": "7"}, body: "x", cap: operator}, 409, 0},
		{ask{op: "tenant.show", args: map[string]string{"tenant": "nobody"}, cap: operator}, 404, 0},
		{ask{op: "tenant.list", cap: operator}, 200, -1},
		{ask{op: "cap.revocations", cap: operator}, 200, -1},
		{ask{op: "cap.mint", body: `{"what":1}`, cap: operator}, 400, 0},
		{ask{op: "cap.mint", body: `{"what":1}`}, 403, 0},
		{ask{op: "admin.breakers", cap: operator}, 200, -1},
		{ask{op: "admin.breakers"}, 403, 0},
		{ask{op: "admin.breaker.force", args: map[string]string{"name": "nothing"}, body: `{"state":"auto"}`, cap: operator}, 404, 0},
		{ask{op: "admin.why", args: map[string]string{"corr_id": "unheard-of"}, cap: operator}, 404, 0},
		{ask{op: "openapi"}, 200, -1},
		{ask{op: "schema", args: map[string]string{"name": "Problem.json"}}, 200, -1},
		{ask{op: "version", cap: "-"}, 200, -1},
		{ask{op: "healthz", cap: "-"}, 200, -1},
	} {
		name := fmt.Sprintf("%s %v %v", c.op, c.args, c.header)
		h, o := n.over(t, macronode.WireHTTP, c.ask), n.over(t, macronode.WireOAP, c.ask)
		if o.status != c.status || (c.bytes >= 0 && len(o.body) != c.bytes) {
			t.Errorf("%.150s: %d with %d bytes (%s), want %d with %d", name, o.status, len(o.body), o.detail, c.status, c.bytes)
		}
		for _, a := range []*answer{&h, &o} {
			if _, boundary, ok := strings.Cut(a.header.Get("Content-Type"), "boundary="); ok {
				a.header.Set("Content-Type", "multipart/byteranges")
				a.body = strings.ReplaceAll(a.body, boundary, "")
			}
		}
		if h.status != o.status || h.kind != o.kind || h.length != o.length || h.body != o.body || !maps.EqualFunc(h.header, o.header, slices.Equal) {
			t.Errorf("%.150s: over HTTP %d %s %d %v, over OAP/1 %d %s %d %v", name, h.status, h.kind, h.length, h.header, o.status, o.kind, o.length, o.header)
		}
	}
	stat := n.over(t, macronode.WireOAP, ask{op: "object.stat", args: at})
	if stat.length != int64(len(text)) || stat.header.Get("Etag") != etag {
		t.Errorf("stat says %d bytes, %v", stat.length, stat.header)
	}
}

// TestOneWallForBothWires: a key's first answer is kept for both wires, one wire's
// tenant_id is held against the capability, and a refusal is explained and audited
// whichever way it came.
func TestOneWallForBothWires(t *testing.T) {
	n := beginDev(t)
	put := ask{op: "object.post", body: "once", key: "both-wires"}
	first := n.over(t, macronode.WireHTTP, put)
	again := n.over(t, macronode.WireOAP, put)
	if first.status != 201 || again.status != 201 || again.body != first.body || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("first %d %s, again %d %s %v", first.status, first.detail, again.status, again.detail, again.header)
	}
	create := ask{op: "tenant.create", body: `{"label":"both-wires"}`, key: "once", cap: datadir.OperatorCapName, header: macronode.Header{"Content-Type": {"application/json"}}}
	made, replayed := n.over(t, macronode.WireOAP, create), n.over(t, macronode.WireHTTP, create)
	if made.status != 201 || replayed.body != made.body || replayed.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("made %d %s, replayed %d %s", made.status, made.detail, replayed.status, replayed.detail)
	}
	suspend := ask{op: "tenant.suspend", args: map[string]string{"tenant": "both-wires"}, key: "suspend", cap: datadir.OperatorCapName}
	made, replayed = n.over(t, macronode.WireHTTP, suspend), n.over(t, macronode.WireOAP, suspend)
	if made.status != 200 || replayed.body != made.body || replayed.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("suspended %d %s, replayed %d %s", made.status, made.detail, replayed.status, replayed.detail)
	}
	tok, err := capability.Parse(n.token(t, datadir.TenantCapName))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		claim  macronode.TenantID
		cap    string
		status int
	}{{tok.Tenant(), "", 200}, {macronode.TenantID{}, "", 200}, {macronode.SystemTenant, "", 403}, {tok.Tenant(), "-", 401}} {
		if a := n.over(t, macronode.WireOAP, ask{op: "object.list", claim: c.claim, cap: c.cap}); a.status != c.status {
			t.Errorf("as %s with capability %q: %d %s, want %d", c.claim, c.cap, a.status, a.kind, c.status)
		}
	}
	var doc struct {
		Refusals []json.RawMessage `json:"refusals"`
	}
	a := n.over(t, macronode.WireOAP, ask{op: "admin.why", args: map[string]string{"corr_id": "wires"}, cap: datadir.OperatorCapName})
	if err := json.Unmarshal([]byte(a.body), &doc); a.status != 200 || err != nil || len(doc.Refusals) == 0 {
		t.Errorf("why: %d %s %v", a.status, a.detail, err)
	}
}
