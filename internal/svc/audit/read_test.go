// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/tlog"
)

var (
	tenantA = macronode.TenantID{15: 7}
	tenantB = macronode.TenantID{15: 8}
)

// filled has 600 records, of the node and two tenants in turn.
func filled(t *testing.T) *world {
	w := newWorld(t, 2000)
	w.serve(t)
	t.Cleanup(func() { w.stop() })
	for i := range 600 {
		e := macronode.AuditEvent{Stream: []string{"node", TenantStream(tenantA), TenantStream(tenantB)}[i%3], Kind: []string{"object.put", "cap.mint"}[i%2], Actor: "node", Subject: fmt.Sprint("object/", i)}
		if i == 599 {
			if err := w.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			break
		}
		w.Record(e)
	}
	if _, err := covering(t.Context(), w.Service.tree.Load(), 599); err != nil {
		t.Fatal(err)
	}
	return w
}

// ask calls the operation as a tenant's; query is as in a URL.
func (w *world) ask(t *testing.T, op macronode.Op, tenant macronode.TenantID, query string) (*macronode.Reply, error) {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	c := &macronode.Call{Query: query, Header: macronode.Header{}}
	for _, path := range []string{"level", "rest"} {
		if values.Has(path) {
			c.AddParam(path, values.Get(path))
		}
	}
	for _, r := range w.Routes() {
		if r.Op == op {
			return r.Handler(t.Context(), &macronode.Admitted{Call: c, Tenant: &macronode.Tenant{ID: tenant}, Principal: &macronode.Principal{Kind: macronode.Capability}, ReplyBytes: macronode.NoLimit})
		}
	}
	t.Fatalf("no route %s", op)
	return nil, nil
}

func (w *world) page(t *testing.T, tenant macronode.TenantID, query string) (out []*tlog.Record, cursor string) {
	t.Helper()
	r, err := w.ask(t, "audit.records", tenant, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	var p Records
	if err := json.Unmarshal(r.Body, &p); err != nil {
		t.Fatal(err)
	}
	for _, raw := range p.Records {
		rec, err := tlog.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rec)
	}
	return out, p.Cursor
}

func TestRecords(t *testing.T) {
	w := filled(t)
	for query, want := range map[string]int{"limit=1000": 600, "limit=1000&stream=node": 200, "limit=1000&kind=cap.mint": 300, "limit=1000&actor=nobody": 0, "limit=1000&to_ms=1": 0, "": 100} {
		if got, _ := w.page(t, macronode.SystemTenant, query); len(got) != want {
			t.Errorf("%q: %d records, not %d", query, len(got), want)
		}
	}
	got, cursor := w.page(t, macronode.SystemTenant, "limit=2&order=desc")
	if len(got) != 2 || got[0].Seq != 599 || cursor != "597" {
		t.Errorf("the newest: %d, %q", len(got), cursor)
	}
	if got, _ = w.page(t, macronode.SystemTenant, "limit=2&order=desc&cursor="+cursor); got[0].Seq != 597 {
		t.Errorf("the next newest is %d", got[0].Seq)
	}
	// A tenant sees its own, and learns nothing of others.
	all, _ := w.page(t, tenantA, "limit=1000")
	if len(all) != 200 {
		t.Errorf("%d records of the tenant", len(all))
	}
	for _, r := range all {
		if r.Stream != TenantStream(tenantA) {
			t.Fatalf("a record of %s is shown", r.Stream)
		}
	}
	for _, stream := range []string{"node", TenantStream(tenantB)} {
		if _, err := w.ask(t, "audit.records", tenantA, "stream="+stream); macronode.KindOf(err) != macronode.Denied {
			t.Errorf("%s: %v", stream, err)
		}
	}
	for _, bad := range []string{"limit=0", "limit=1001", "limit=x", "order=up", "cursor=-1", "from_ms=x", "to_ms=0", "more=1"} {
		if _, err := w.ask(t, "audit.records", macronode.SystemTenant, bad); macronode.KindOf(err) != macronode.Malformed {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestReceipts: each verifies with the log's keys alone, by index and by hash, and
// a tenant gets those of its own records.
func TestReceipts(t *testing.T) {
	w := filled(t)
	mine, _ := w.page(t, tenantA, "limit=3")
	for _, query := range []string{fmt.Sprint("seq=", mine[2].Seq), "hash=" + mine[2].Hash.String()} {
		for _, tenant := range []macronode.TenantID{tenantA, macronode.SystemTenant} {
			r, err := w.ask(t, "audit.receipt", tenant, query)
			if err != nil {
				t.Fatal(err)
			}
			var p tlog.Receipt
			if err := json.Unmarshal(r.Body, &p); err != nil {
				t.Fatal(err)
			}
			rec, signed, err := p.Verify(publicKeys())
			if err != nil || rec.Hash != mine[2].Hash || signed.Size < 600 {
				t.Errorf("%s: %v", query, err)
			}
		}
		if _, err := w.ask(t, "audit.receipt", tenantB, query); macronode.KindOf(err) != macronode.NotFound {
			t.Errorf("another tenant's: %v", err)
		}
	}
	for query, want := range map[string]macronode.Kind{
		"seq=600": macronode.NotFound, "seq=x": macronode.Malformed, "": macronode.Malformed, "hash=b3:1": macronode.Malformed,
		"seq=1&hash=" + mine[0].Hash.String(): macronode.Malformed, "hash=" + tlog.Genesis.String(): macronode.NotFound,
	} {
		if _, err := w.ask(t, "audit.receipt", macronode.SystemTenant, query); macronode.KindOf(err) != want {
			t.Errorf("%q: %v", query, err)
		}
	}
}

// served reads tiles as a client does.
type served struct {
	t *testing.T
	w *world
}

func (s served) ReadTile(name tlog.Tile) ([]byte, error) {
	r, err := s.w.ask(s.t, "audit.tile", macronode.SystemTenant, fmt.Sprintf("level=%d&rest=%s", name.Level, name.Rest()))
	if err != nil {
		return nil, err
	}
	return r.Body, nil
}

// TestLogRoutes: a client that knows the key alone verifies everything that is
// served of the log.
func TestLogRoutes(t *testing.T) {
	w := filled(t)
	text := func(op macronode.Op, query string) []byte {
		r, err := w.ask(t, op, macronode.SystemTenant, query)
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		return r.Body
	}
	var keys []tlog.Key
	for _, op := range []macronode.Op{"audit.key", "audit.key.mldsa"} {
		k, err := tlog.ParseKey(string(text(op, "")))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	c, err := tlog.OpenLog(text("audit.checkpoint", ""), keys)
	if err != nil || c.Size != 600 {
		t.Fatalf("%+v, %v", c, err)
	}
	if root, err := tlog.RootOf(c.Size, served{t, w}); err != nil || root != c.Root {
		t.Errorf("the tiles make another tree: %v", err)
	}
	var front tlog.Frontier
	for i := uint64(0); i < 3; i++ {
		width := tlog.WidthIn(c.Size, 0, i)
		entries, err := tlog.SplitBundle(text("audit.tile", "level=entries&rest="+tlog.Tile{Entries: true, Index: i, Width: width}.Rest()))
		if err != nil || len(entries) != width {
			t.Fatalf("%d entries: %v", len(entries), err)
		}
		for _, e := range entries {
			front.Add(tlog.LeafHash(e), nil)
		}
	}
	if front.Root() != c.Root {
		t.Error("the entries make another tree")
	}
	var p Consistency
	if err := json.Unmarshal(text("audit.consistency", "from=300"), &p); err != nil || p.Old != 300 || p.New != 600 {
		t.Fatalf("%+v, %v", p, err)
	}
	old, err := tlog.RootOf(300, served{t, w})
	if err != nil || p.Check(tlog.Checkpoint{Size: 300, Root: old}, c.Checkpoint) != nil {
		t.Errorf("the consistency proof: %v", err)
	}
	for query, want := range map[string]macronode.Kind{"level=0&rest=003": macronode.NotFound, "level=0&rest=002": macronode.NotFound, "level=64&rest=000": macronode.Malformed, "level=0&rest=0": macronode.Malformed} {
		if _, err := w.ask(t, "audit.tile", macronode.SystemTenant, query); macronode.KindOf(err) != want {
			t.Errorf("%s: %v", query, err)
		}
	}
	r, err := w.ask(t, "audit.export", macronode.SystemTenant, "")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if n, err := r.Stream.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatal(err)
	}
	if v, err := tlog.VerifyExport(&b, keys, nil); err != nil || v.Records != 600 {
		t.Errorf("the export: %v", err)
	}
}

// lines gives what a stream writes to whoever reads, and ends it.
type lines struct {
	bytes.Buffer
	until string
	end   context.CancelFunc
}

func (l *lines) Write(p []byte) (int, error) {
	n, err := l.Buffer.Write(p)
	if strings.Contains(l.String(), l.until) {
		l.end()
	}
	return n, err
}

func TestTail(t *testing.T) {
	w := filled(t)
	r, err := w.ask(t, "audit.tail", tenantA, "after=594")
	if err != nil {
		t.Fatal(err)
	}
	out := &lines{until: `"subject":"object/last"`, end: func() { _ = r.Stream.Close() }}
	w.Record(macronode.AuditEvent{Stream: TenantStream(tenantB), Subject: "object/other"})
	w.Record(macronode.AuditEvent{Stream: TenantStream(tenantA), Subject: "object/last"})
	if _, err := r.Stream.WriteTo(out); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Count(text, "event: record\n") != 3 || !strings.Contains(text, "id: 595\n") || !strings.Contains(text, "object/last") || strings.Contains(text, "other") {
		t.Errorf("%s", text)
	}
}
