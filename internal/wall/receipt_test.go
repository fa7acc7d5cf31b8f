// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/route"
	"github.com/rustyonions/macronode/internal/wall"
)

// notary is an audit log that proves what it holds.
type notary struct {
	*parts
	records []macronode.AuditEvent
	fail    error // of appends
	receipt string
	asked   []uint64
	most    int
	err     error
}

func (n *notary) Append(ctx context.Context, e macronode.AuditEvent) error {
	if n.fail != nil {
		return n.fail
	}
	macronode.NoteRecord(ctx, e.Stream, uint64(len(n.records)))
	n.records = append(n.records, e)
	return nil
}

func (n *notary) Receipt(_ context.Context, seq uint64, most int) (string, error) {
	n.asked, n.most = append(n.asked, seq), most
	if len(n.receipt) > most {
		return "", n.err
	}
	return n.receipt, n.err
}

func notarized(t *testing.T) (*wall.Wall, *notary) {
	t.Helper()
	n := &notary{parts: newParts(), receipt: "proof"}
	h := func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) { return n.ran(ctx, a) }
	put := macronode.Binding{Op: "thing.put", Service: "svc", Method: "PUT", Pattern: "/t/{id}", Action: "thing:put", Resource: macronode.ObjectResource,
		ResourceArg: "id", Class: macronode.CoreWrite, MaxBody: 10, Write: true}
	after := put
	after.Op, after.Method, after.Audit = "thing.post", "POST", macronode.AuditAfter
	get := put
	get.Op, get.Method, get.Write = "thing.get", "GET", false
	tab, err := route.New([]macronode.Route{{Binding: put, Handler: h}, {Binding: after, Handler: h}, {Binding: get, Handler: h}})
	if err != nil {
		t.Fatal(err)
	}
	w, err := wall.New(tab, wall.Limits{MaxBodyBytes: 100, RequestTimeout: time.Minute},
		wall.Stages{Gate: n, Auth: n, Policy: n, Quota: n, Admission: n, Audit: n, Receipts: n, Services: n, Metrics: metrics.New(false)})
	if err != nil {
		t.Fatal(err)
	}
	n.ran = func(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
		return &macronode.Reply{Body: []byte("done"), Header: macronode.Header{"Etag": {`"e"`}, "Link": {"</x>; rel=y"}}}, nil
	}
	return w, n
}

func ask(t *testing.T, w *wall.Wall, method string, prefer ...string) *macronode.Reply {
	t.Helper()
	c := &macronode.Call{Method: method, Path: "/t/x", Peer: macronode.Peer{TLS: true}, CorrID: "c", Header: macronode.Header{}}
	if prefer != nil {
		c.Header["Prefer"] = prefer
	}
	var got *macronode.Reply
	if err := w.Serve(t.Context(), c, func(r *macronode.Reply) error { got = r; return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestReceiptOfTheOutcome(t *testing.T) {
	w, n := notarized(t)
	n.princ.Tenant = macronode.SystemTenant
	r := ask(t, w, "PUT", "respond-async, Audit-Receipt; x=\"a,b\"")
	if r.Header.Get("Audit-Receipt") != "proof" || r.Header.Get("Preference-Applied") != "audit-receipt" || r.Header.Get("Etag") != `"e"` {
		t.Errorf("%v", r.Header)
	}
	if len(n.records) != 1 || n.records[0].Kind != "thing.put" || n.records[0].Attrs["phase"] != "end" || n.records[0].Attrs["status"] != int64(200) || n.records[0].Attrs["etag"] != `"e"` {
		t.Errorf("%v", n.records)
	}
	if !strings.Contains(strings.Join(n.order, " "), "yield release") {
		t.Errorf("%v: who waits for a checkpoint holds no place", n.order)
	}
	// The outcome is on record once.
	n.events, n.records = nil, nil
	ask(t, w, "POST", "audit-receipt")
	if len(n.records) != 1 || len(n.events) != 0 {
		t.Errorf("%v and %v", n.records, n.events)
	}
	// Without the wish, nothing of this.
	n.records, n.asked = nil, nil
	for _, c := range []*macronode.Reply{ask(t, w, "PUT"), ask(t, w, "PUT", "handling=strict", "not-audit-receipt"), ask(t, w, "GET", "audit-receipt"), ask(t, w, "PUT", `x="audit-receipt, audit-receipt"`)} {
		if c.Header.Get("Audit-Receipt") != "" || c.Header.Get("Preference-Applied") != "" {
			t.Errorf("%v", c.Header)
		}
	}
	if n.records != nil || n.asked != nil {
		t.Error("a record without being asked")
	}
}

// Of what the handler recorded itself the receipt is, where the caller may read it.
func TestReceiptOfTheHandlersRecord(t *testing.T) {
	w, n := notarized(t)
	own := "tenant/" + n.princ.Tenant.String()
	records := []string{"node", own, "node"}
	n.ran = func(ctx context.Context, _ *macronode.Admitted) (*macronode.Reply, error) {
		for _, stream := range records {
			if err := n.Append(ctx, macronode.AuditEvent{Stream: stream}); err != nil {
				return nil, err
			}
		}
		return &macronode.Reply{Status: 201}, nil
	}
	ask(t, w, "PUT", "audit-receipt")
	n.princ.Tenant = macronode.SystemTenant
	ask(t, w, "PUT", "audit-receipt")
	n.princ.Tenant, records = macronode.TenantID{1}, []string{"node"}
	ask(t, w, "PUT", "audit-receipt")
	if len(n.asked) != 3 || n.asked[0] != 1 || n.asked[1] != 5 || n.asked[2] != 7 || len(n.records) != 8 || n.records[7].Stream != own || n.records[7].Attrs["status"] != int64(201) {
		t.Errorf("receipts of %v, of %d records", n.asked, len(n.records))
	}
}

// A receipt that does not fit becomes a link, one that cannot be had too; what was
// done is answered in any case.
func TestReceiptByLink(t *testing.T) {
	w, n := notarized(t)
	link := func(r *macronode.Reply, seq string) {
		t.Helper()
		if l := r.Header["Link"]; r.Header.Get("Audit-Receipt") != "" || r.Header.Get("Preference-Applied") != "audit-receipt=link" || len(l) != 2 || l[0] != "</x>; rel=y" || l[1] != "</v1/audit/receipt?seq="+seq+`>; rel="audit-receipt"` {
			t.Errorf("%v", r.Header)
		}
	}
	link(ask(t, w, "PUT", `audit-receipt="link"`), "0")
	if n.asked != nil {
		t.Error("a proof was made for who wants a link")
	}
	n.receipt = strings.Repeat("x", 6<<10)
	if r := ask(t, w, "PUT", "audit-receipt"); len(r.Header.Get("Audit-Receipt")) != 6<<10 {
		t.Error("one that just fits was not sent")
	}
	n.receipt += "x"
	link(ask(t, w, "PUT", "audit-receipt"), "2")
	n.receipt, n.standing = strings.Repeat("x", 4<<10), macronode.Header{"Ratelimit": {strings.Repeat("y", 3<<10)}}
	link(ask(t, w, "PUT", "audit-receipt"), "3")
	n.receipt, n.standing, n.err = "", nil, errors.New("no checkpoint")
	link(ask(t, w, "PUT", "audit-receipt"), "4")
	n.fail = errors.New("no log")
	if r := ask(t, w, "PUT", "audit-receipt"); r.Header.Get("Preference-Applied") != "" || r.Header["Link"][0] != "</x>; rel=y" || string(r.Body) != "done" {
		t.Errorf("%v", r.Header)
	}
}
