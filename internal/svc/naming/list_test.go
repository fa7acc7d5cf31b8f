// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	names "github.com/rustyonions/macronode/name/document"
)

// fill sets n names, of which the first is name 0.
func fill(d *driver, n int) {
	d.t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"name":"n%04d","addr":%q,"ttl_s":%d,"meta":{"i":"%d"}}`+"\n", i, addrOf(fmt.Sprint(i)), i, i)
		if (i+1)%1000 == 0 || i+1 == n {
			var out Imported
			d.do(call{op: "name.import", body: b.String()}, &out)
			if out.Failed != 0 {
				d.t.Fatalf("%+v", out)
			}
			b.Reset()
		}
	}
}

func TestList(t *testing.T) {
	d := drive(t, func(c *Config) { c.Limits.MaxNames = 5000 })
	fill(d, 250)
	d.do(call{op: "name.set", name: "übung", body: setBody("x")}, nil)
	for _, c := range []struct {
		query string
		want  int
	}{{"", 251}, {"limit=7", 251}, {"limit=1000", 251}, {"prefix=n01", 100}, {"prefix=N01&limit=33", 100}, {"prefix=u%CC%88", 1}, {"prefix=x", 0}, {"prefix=n0249", 1}, {"prefix=zzz", 0}} {
		cursor, last, total := "", "", 0
		for {
			var l List
			d.do(call{op: "name.list", query: c.query + "&cursor=" + url.QueryEscape(cursor)}, &l)
			for _, n := range l.Names {
				if n.Name <= last {
					t.Fatalf("?%s: %s after %s", c.query, n.Name, last)
				}
				last = n.Name
				total++
			}
			if l.Watch != "251" {
				t.Fatalf("watch %s", l.Watch)
			}
			if cursor = l.Cursor; cursor == "" {
				break
			}
		}
		if total != c.want {
			t.Errorf("?%s lists %d names, want %d", c.query, total, c.want)
		}
	}
	for _, q := range []string{"limit=0", "limit=1001", "limit=x", "cursor=%21", "cursor=QUE", "more=1", "limit=1&limit=1"} {
		d.refuse(call{op: "name.list", query: q}, macronode.Malformed)
	}
	d.refuse(call{op: "name.list", query: "prefix=%FF"}, macronode.Invalid)
}

func TestHistoryPages(t *testing.T) {
	d := drive(t, func(c *Config) { c.Limits.MaxHistory = 50 })
	for i := range 30 {
		d.do(call{op: "name.set", name: "a", body: setBody(fmt.Sprint(i))}, nil)
	}
	d.do(call{op: "name.set", name: "a.b", body: setBody("x")}, nil) // begins with the other
	cursor, next := "", uint64(30)
	for pages := 0; ; pages++ {
		var h History
		d.do(call{op: "name.history", name: "a", query: "limit=7&cursor=" + cursor}, &h)
		for _, v := range h.Versions {
			if v.Version != next || v.Name != "a" || v.Addr != addrOf(fmt.Sprint(next-1)) {
				t.Fatalf("%+v, want version %d", v, next)
			}
			next--
		}
		if cursor = h.Cursor; cursor == "" {
			break
		}
	}
	if next != 0 {
		t.Errorf("the history ends before version %d", next)
	}
	d.refuse(call{op: "name.history", name: "a", query: "cursor=x"}, macronode.Malformed)
}

func TestImport(t *testing.T) {
	d := drive(t, func(c *Config) { c.Limits.MaxNames = 4 })
	d.do(call{op: "name.set", name: "there", body: setBody("x")}, nil)
	lines := []string{
		`{"name":"A","addr":"` + addrOf("a") + `","if_version":0}`,
		``,
		`not json`,
		`{"name":"b b","addr":"` + addrOf("a") + `"}`,
		`{"name":"b","addr":"b3:00"}`,
		`{"name":"there","addr":"` + addrOf("a") + `","if_version":0}`,
		`{"name":"there","addr":"` + addrOf("a") + `","if_version":2}`,
		`{"name":"there","addr":"` + addrOf("a") + `","if_version":1}`,
		`{"name":"c","addr":"` + addrOf("a") + `","more":1}`,
		`{"name":"d","addr":"` + addrOf("a") + `"}`,
		`{"name":"e","addr":"` + addrOf("a") + `"}`,
		`{"name":"f","addr":"` + addrOf("a") + `"}`,
		`{"name":"d","addr":"` + addrOf("b") + `","ttl_s":5}`,
		`{"name":"g","addr":"` + addrOf("a") + `","meta":{"a":"` + strings.Repeat("x", maxSetBytes) + `"}}`,
	}
	var out Imported
	d.do(call{op: "name.import", query: "all=true", body: strings.Join(lines, "\r\n")}, &out)
	var got []string
	for _, r := range out.Results {
		got = append(got, fmt.Sprint(r.Line, ":", r.Version, r.Code))
	}
	want := "1:1 3:0malformed 4:0invalid 5:0malformed 6:0precondition_failed 7:0precondition_failed 8:2 9:0malformed 10:1 11:1 12:0quota_objects 13:2 14:0too_large"
	if strings.Join(got, " ") != want || out.Imported != 5 || out.Failed != 8 {
		t.Errorf("%d done, %d not:\n%s, want\n%s", out.Imported, out.Failed, strings.Join(got, " "), want)
	}
	var doc Document
	if d.do(call{op: "name.get", name: "d"}, &doc); doc.Addr != addrOf("b") || doc.TTL != 5 {
		t.Errorf("%+v", doc)
	}
	if d.do(call{op: "name.import", body: "\n\n"}, &out); out.Imported != 0 || out.Results == nil {
		t.Errorf("an empty import: %+v", out)
	}
	d.refuse(call{op: "name.import", body: strings.Repeat("{}\n", maxLines+1)}, macronode.TooLarge)
	d.refuse(call{op: "name.import", query: "all=maybe"}, macronode.Malformed)
	kinds := map[string]int{}
	for _, e := range d.audit.events {
		kinds[e.Kind]++
	}
	if kinds["name.import"] != 2 || kinds["name.set"] != 6 {
		t.Errorf("recorded: %v", kinds)
	}
}

// TestExport: what is exported is imported as it was, also more than one batch.
func TestExport(t *testing.T) {
	d := drive(t, func(c *Config) { c.Limits.MaxNames = 5000 })
	fill(d, 2*exportBatch+3)
	text := d.do(call{op: "name.export"}, nil).Body
	if n := bytes.Count(text, []byte("\n")); n != 2*exportBatch+3 {
		t.Fatalf("%d lines", n)
	}
	other := drive(t, func(c *Config) { c.Limits.MaxNames = 5000 })
	lines := strings.SplitAfter(string(text), "\n")
	for part := 0; part < len(lines); part += 1000 {
		var out Imported
		if other.do(call{op: "name.import", body: strings.Join(lines[part:min(part+1000, len(lines))], "")}, &out); out.Failed != 0 {
			t.Fatalf("%+v", out)
		}
	}
	if again := other.do(call{op: "name.export"}, nil).Body; !bytes.Equal(again, text) {
		t.Error("what was imported is exported otherwise")
	}
	if n := bytes.Count(d.do(call{op: "name.export", query: "prefix=n000"}, nil).Body, []byte("\n")); n != 10 {
		t.Errorf("a prefix exports %d names", n)
	}
	if n := bytes.Count(d.do(call{op: "name.export", query: "prefix=x"}, nil).Body, []byte("\n")); n != 0 {
		t.Errorf("a prefix of nothing exports %d names", n)
	}
}

// TestNames is what other services read.
func TestNames(t *testing.T) {
	d := drive(t)
	fill(d, 25)
	last, total := "", 0
	for {
		list, err := d.s.Names(t.Context(), tenantOf(7).ID, last, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Name <= last || e.Meta["i"] != fmt.Sprint(total) || e.Version != 1 {
				t.Fatalf("%+v after %s", e, last)
			}
			last = e.Name
			total++
		}
		if len(list) < 10 {
			break
		}
	}
	if total != 25 {
		t.Errorf("%d names", total)
	}
	e, err := d.s.Lookup(t.Context(), tenantOf(7).ID, "n0003")
	if err != nil || e.Addr.String() != addrOf("3") || e.TTL != 3 || e.Meta["i"] != "3" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := d.s.Lookup(t.Context(), tenantOf(8).ID, "n0003"); macronode.KindOf(err) != macronode.NotFound {
		t.Errorf("a stranger's look-up: %v", err)
	}
}

// nodeKey signs as a node does.
type nodeKey struct{ *ecdsa.PrivateKey }

func newNodeKey(t testing.TB) nodeKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return nodeKey{k}
}

func (k nodeKey) KeyID() string           { return "node#v1/ecdsa-p256" }
func (k nodeKey) Public() ([]byte, error) { return x509.MarshalPKIXPublicKey(&k.PublicKey) }
func (k nodeKey) Sign(m []byte) ([]byte, error) {
	sum := sha256.Sum256(m)
	return ecdsa.SignASN1(rand.Reader, k.PrivateKey, sum[:])
}

func TestDocument(t *testing.T) {
	k := newNodeKey(t)
	d := drive(t, func(c *Config) {
		c.Limits.MaxNames = 5000
		c.Signer = func() (names.Signer, error) { return k, nil }
	})
	fill(d, 2*documentPage+3)
	pub, _ := k.Public()
	var all bytes.Buffer
	var nodeID string
	for cursor := ""; ; {
		r := d.do(call{op: "name.document", query: "cursor=" + cursor}, nil)
		all.Write(r.Body)
		var e struct{ Payload []byte }
		var p names.Page
		if err := errors.Join(json.Unmarshal(r.Body, &e), json.Unmarshal(e.Payload, &p)); err != nil {
			t.Fatal(err)
		}
		nodeID = p.NodeID
		if cursor = p.Cursor; cursor == "" {
			break
		}
	}
	if !bytes.Contains(all.Bytes(), []byte("node#v1")) || len(pub) == 0 {
		t.Error("the document does not name its key")
	}
	pages, err := names.Read(&all, nodeID)
	if err != nil || len(pages) != 3 || len(pages[2].Names) != 3 || pages[0].Tenant != tenantOf(7).ID.String() || pages[0].Revision != 2*documentPage+3 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	d.refuse(call{op: "name.document", query: "cursor=%21"}, macronode.Malformed)
	none := drive(t)
	none.refuse(call{op: "name.document"}, macronode.Unavailable)
}

// TestDamage: a record that is not what was written ends the service, and is never
// answered with.
func TestDamage(t *testing.T) {
	for name, bad := range map[string][]byte{"short": {1, 0}, "format": append([]byte{9}, make([]byte, 80)...), "no version": append([]byte{1, 0}, make([]byte, 80)...)} {
		t.Run(name, func(t *testing.T) {
			d := drive(t)
			d.do(call{op: "name.set", name: "a", body: setBody("x")}, nil)
			err := d.kv.Update(t.Context(), func(tx store.Tx) error { return tx.Set(nameKey(tenantOf(7).ID, keyName, "a"), bad) })
			if err != nil {
				t.Fatal(err)
			}
			d.refuse(call{op: "name.get", name: "a"}, macronode.Unavailable)
			d.refuse(call{op: "name.set", name: "a", body: setBody("x")}, macronode.Unavailable)
			if err := d.s.Ready(t.Context()); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("ready: %v", err)
			}
		})
	}
}

func FuzzDecodeRecord(f *testing.F) {
	r := record{ttl: 1, version: 3, oldest: 2, created: 5, updated: 6, meta: []byte(`{"a":"b"}`)}
	f.Add(r.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := decodeRecord(b)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(rec.encode(), b) {
			t.Fatal("it does not come back as it was")
		}
	})
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"name":"a","addr":"` + addrOf("x") + `","if_version":0}` + "\n{"))
	f.Add([]byte("\n\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		d := drive(t)
		results, items, err := d.s.lines(body)
		if err != nil {
			return
		}
		if len(items) > len(results) || len(results) > maxLines {
			t.Fatalf("%d items of %d lines", len(items), len(results))
		}
		for _, it := range items {
			if results[it.at].Name != it.name || results[it.at].Code != "" {
				t.Fatalf("line %d: %+v", it.at, results[it.at])
			}
		}
	})
}
