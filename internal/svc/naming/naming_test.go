// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

func TestLife(t *testing.T) {
	d := drive(t)
	d.refuse(call{op: "name.get", name: "site"}, macronode.NotFound)
	d.refuse(call{op: "name.history", name: "site"}, macronode.NotFound)
	d.refuse(call{op: "name.delete", name: "site"}, macronode.NotFound)
	var doc Document
	r := d.do(call{op: "name.set", name: "SITE", body: `{"addr":"` + addrOf("one") + `","ttl_s":60,"meta":{"b":"<2>","a":"1"}}`}, &doc)
	if r.Status != 201 || r.Header.Get("Etag") != `"1"` || r.Header.Get("Location") != "/v1/names/site" {
		t.Errorf("the first put: %d %v", r.Status, r.Header)
	}
	if doc.Name != "site" || doc.Addr != addrOf("one") || doc.Version != 1 || doc.TTL != 60 || doc.Meta["b"] != "<2>" || doc.CreatedMS != d.now.UnixMilli() {
		t.Errorf("%+v", doc)
	}
	d.now = d.now.Add(time.Second)
	if r := d.do(call{op: "name.set", name: "site", body: setBody("two")}, &doc); r.Status != 200 || r.Header.Get("Etag") != `"2"` || r.Header["Location"] != nil {
		t.Errorf("the second put: %d %v", r.Status, r.Header)
	}
	doc = Document{}
	d.do(call{op: "name.get", name: "site"}, &doc)
	if doc.Version != 2 || doc.Addr != addrOf("two") || doc.TTL != 0 || len(doc.Meta) != 0 || doc.UpdatedMS-doc.CreatedMS != 1_000 {
		t.Errorf("%+v", doc)
	}
	if r := d.do(call{op: "name.delete", name: "site"}, nil); r.Status != 204 || len(r.Body) != 0 {
		t.Errorf("delete: %+v", r)
	}
	d.refuse(call{op: "name.get", name: "site"}, macronode.NotFound)
	// A version is never used twice, whatever happened in between.
	d.do(call{op: "name.set", name: "site", body: setBody("three")}, &doc)
	if doc.Version != 4 {
		t.Errorf("after a deletion the name begins with version %d", doc.Version)
	}
	var h History
	d.do(call{op: "name.history", name: "site"}, &h)
	var got []string
	for _, v := range h.Versions {
		got = append(got, fmt.Sprint(v.Version, v.Deleted, v.Addr == addrOf("one")))
	}
	if strings.Join(got, " ") != "4 false false 3 true false 2 false false 1 false true" || h.Cursor != "" {
		t.Errorf("history: %v", got)
	}
	d.refuse(call{op: "name.get", name: "site", query: "nonsense=1"}, macronode.Malformed)
}

func TestConditions(t *testing.T) {
	d := drive(t)
	put := func(h macronode.Header) (string, error) {
		r, err := d.try(call{op: "name.set", name: "a", header: h, body: setBody("x")})
		if err != nil {
			return "", err
		}
		return r.Header.Get("Etag"), nil
	}
	for _, c := range []struct {
		h    macronode.Header
		want string // the ETag, or the kind of the refusal
	}{
		{ifMatch1(`"1"`), "precondition_failed"},
		{ifMatch1("*"), "precondition_failed"},
		{ifNoneMatch1("*"), `"1"`},
		{ifNoneMatch1("*"), "precondition_failed"},
		{ifMatch1(`"1"`), `"2"`},
		{ifMatch1(`"1"`), "precondition_failed"},
		{ifMatch1(`W/"2"`), "precondition_failed"},
		{ifMatch1(`"1", "2"`), `"3"`},
		{ifMatch1("*"), `"4"`},
		{ifNoneMatch1(`"4"`), "precondition_failed"},
		{ifNoneMatch1(`W/"4"`), "precondition_failed"},
		{ifNoneMatch1(`"3"`), `"5"`},
		{ifMatch1("5"), "malformed"},
		{ifMatch1(""), "precondition_failed"},
		{macronode.Header{"If-Match": {`"5"`}, "If-None-Match": {`"5"`}}, "precondition_failed"},
		{nil, `"6"`},
	} {
		got, err := put(c.h)
		if err != nil {
			got = macronode.KindOf(err).String()
		}
		if got != c.want {
			t.Errorf("put with %v: %s, want %s", c.h, got, c.want)
		}
	}
	if e := d.refuse(call{op: "name.delete", name: "a", header: ifMatch1(`"5"`)}, macronode.PreconditionFailed); e.Header.Get("Etag") != `"6"` {
		t.Errorf("a refusal does not say what is there: %v", e.Header)
	}
	d.refuse(call{op: "name.delete", name: "none", header: ifMatch1("*")}, macronode.PreconditionFailed)
	d.do(call{op: "name.delete", name: "a", header: ifMatch1(`"6"`)}, nil)
	// What was recorded was tried: nothing of what could not be done is.
	for _, e := range d.audit.events {
		if e.Reason != "" {
			t.Errorf("recorded: %+v", e)
		}
	}
}

func TestConditionalReads(t *testing.T) {
	d := drive(t)
	d.do(call{op: "name.set", name: "a", body: setBody("x")}, nil)
	if r := d.do(call{op: "name.get", name: "a", header: ifNoneMatch1(`"1"`)}, nil); r.Status != 304 || len(r.Body) != 0 || r.Header.Get("Etag") != `"1"` {
		t.Errorf("what is known: %d %v", r.Status, r.Header)
	}
	if r := d.do(call{op: "name.get", name: "a", header: ifNoneMatch1(`"2"`)}, nil); r.Status != 200 {
		t.Errorf("what is not known: %d", r.Status)
	}
	d.refuse(call{op: "name.get", name: "a", header: ifMatch1(`"2"`)}, macronode.PreconditionFailed)
}

func TestRefusedBodies(t *testing.T) {
	d := drive(t)
	addr := addrOf("x")
	many := `{"addr":"` + addr + `","meta":{`
	for i := range maxMetaMembers + 1 {
		many += fmt.Sprintf(`"k%d":"v",`, i)
	}
	many = strings.TrimSuffix(many, ",") + "}}"
	big := `{"addr":"` + addr + `","meta":{"a":"` + strings.Repeat("x", 1000) + `","b":"` + strings.Repeat("x", 1000) + `","c":"` + strings.Repeat("x", 1000) + `","d":"` + strings.Repeat("x", 1000) + `","e":"` + strings.Repeat("x", 1000) + `"}}`
	for body, kind := range map[string]macronode.Kind{
		"": macronode.Malformed, "{}": macronode.Malformed, "[]": macronode.Malformed, `{"addr":"b3:00"}`: macronode.Malformed, `{"addr":"` + strings.ToUpper(addr) + `"}`: macronode.Malformed,
		`{"addr":"` + addr + `","more":1}`: macronode.Malformed, `{"addr":"` + addr + `"} {}`: macronode.Malformed, `{"addr":"` + addr + `","meta":{"a":1}}`: macronode.Malformed,
		`{"addr":"` + addr + `","ttl_s":1.5}`: macronode.Malformed, `{"addr":"` + addr + `","ttl_s":-1}`: macronode.Invalid, `{"addr":"` + addr + `","ttl_s":31536001}`: macronode.Invalid,
		`{"addr":"` + addr + `","meta":{"":"x"}}`: macronode.Invalid, `{"addr":"` + addr + `","meta":{"a":"` + strings.Repeat("x", 1025) + `"}}`: macronode.Invalid,
		`{"addr":"` + addr + `","meta":{"` + strings.Repeat("x", 65) + `":""}}`: macronode.Invalid, many: macronode.Invalid, big: macronode.Invalid,
	} {
		d.refuse(call{op: "name.set", name: "a", body: body}, kind)
	}
	for _, n := range []string{"", "a b", "a_b", "-a", "pаypal", "a..b", "аррӏе", strings.Repeat("a", 64), "a/b"} {
		for _, op := range []macronode.Op{"name.set", "name.get", "name.delete", "name.history", "name.object"} {
			body := ""
			if op == "name.set" {
				body = setBody("x")
			}
			d.refuse(call{op: op, name: n, of: "acme7", body: body}, macronode.Invalid)
		}
	}
	if len(d.audit.events) != 0 {
		t.Errorf("%d refusals were recorded as changes", len(d.audit.events))
	}
}

// TestSpellings: every spelling is the one name.
func TestSpellings(t *testing.T) {
	d := drive(t)
	d.do(call{op: "name.set", name: "Bu\u0308cher", body: setBody("x")}, nil)
	for _, n := range []string{"bücher", "BÜCHER", "xn--bcher-kva"} {
		var doc Document
		if d.do(call{op: "name.get", name: n}, &doc); doc.Name != "bücher" {
			t.Errorf("%q is %q", n, doc.Name)
		}
	}
	if r := d.do(call{op: "name.set", name: "straße", body: setBody("x")}, nil); r.Header.Get("Location") != "/v1/names/stra%C3%9Fe" {
		t.Errorf("%v", r.Header)
	}
}

func TestObject(t *testing.T) {
	d := drive(t)
	mine := tenantOf(7)
	d.shelf[mine.ID] = map[b3.Addr]string{b3.Sum([]byte("one")): "one"}
	d.do(call{op: "name.set", name: "site", body: `{"addr":"` + addrOf("one") + `","ttl_s":90}`}, nil)
	d.do(call{op: "name.set", name: "fresh", body: setBody("one")}, nil)
	d.do(call{op: "name.set", name: "dangling", body: setBody("none")}, nil)
	for _, of := range []string{mine.Label, mine.ID.String()} {
		r := d.do(call{op: "name.object", name: "Site", of: of}, nil)
		if string(r.Body) != "one" || r.Header.Get("Cache-Control") != "private, max-age=90" || r.Header.Get("Etag") != `"`+addrOf("one")+`"` {
			t.Errorf("%s: %q %v", of, r.Body, r.Header)
		}
	}
	if r := d.do(call{op: "name.object.stat", name: "fresh", of: mine.Label}, nil); r.Length != 3 || r.Body != nil || r.Header.Get("Cache-Control") != "private, no-cache" {
		t.Errorf("%+v", r)
	}
	d.refuse(call{op: "name.object", name: "dangling", of: mine.Label}, macronode.NotFound)
	d.refuse(call{op: "name.object", name: "none", of: mine.Label}, macronode.NotFound)
}

// TestStranger acts as another tenant: it cannot tell what is there from what never
// was, by no route.
func TestStranger(t *testing.T) {
	d := drive(t)
	owner, stranger := tenantOf(7), tenantOf(8)
	d.shelf[owner.ID] = map[b3.Addr]string{b3.Sum([]byte("one")): "one"}
	d.do(call{op: "name.set", name: "secret", body: setBody("one")}, nil)
	d.do(call{op: "name.set", name: "old", body: setBody("one")}, nil)
	d.do(call{op: "name.delete", name: "old"}, nil)
	for _, c := range []call{
		{op: "name.get"}, {op: "name.history"}, {op: "name.delete"}, {op: "name.object", of: owner.Label}, {op: "name.object", of: owner.ID.String()},
		{op: "name.object.stat", of: owner.Label}, {op: "name.object", of: "nobody"}, {op: "name.object", of: stranger.Label}, {op: "name.set", header: ifMatch1("*"), body: setBody("x")},
		{op: "name.set", header: ifMatch1(`"1"`), body: setBody("x")},
	} {
		var first *macronode.Error
		for _, n := range []string{"never", "secret", "old"} {
			c.name, c.tenant = n, stranger
			_, err := d.try(c)
			e := macronode.AsError(err)
			if err == nil || e.Kind != macronode.NotFound && e.Kind != macronode.PreconditionFailed {
				t.Fatalf("%s %s as a stranger: %v", c.op, n, err)
			}
			if first == nil {
				first = e
			} else if e.Kind != first.Kind || e.Detail != first.Detail || len(e.Header) != len(first.Header) {
				t.Errorf("%s tells %q from a name that never was: %v, %v", c.op, n, e, first)
			}
		}
	}
	var l List
	d.do(call{op: "name.list", tenant: stranger}, &l)
	var st Status
	d.do(call{op: "name.status", tenant: stranger}, &st)
	if r := d.do(call{op: "name.export", tenant: stranger}, nil); len(l.Names) != 0 || l.Watch != "0" || st.Names != 0 || st.Watch != "0" || st.Deleted != 0 || len(r.Body) != 0 {
		t.Errorf("a stranger sees %+v, %+v and %d bytes", l, st, len(r.Body))
	}
	// One's own name is not served under another's label.
	d.shelf[stranger.ID] = map[b3.Addr]string{b3.Sum([]byte("two")): "two"}
	d.do(call{op: "name.set", name: "mine", tenant: stranger, body: setBody("two")}, nil)
	d.do(call{op: "name.object", name: "mine", of: stranger.Label, tenant: stranger}, nil)
	for _, of := range []string{owner.Label, owner.ID.String(), "", "nobody"} {
		d.refuse(call{op: "name.object", name: "mine", of: of, tenant: stranger}, macronode.NotFound)
	}
	// One's own name of the same spelling begins anew.
	var doc Document
	if d.do(call{op: "name.set", name: "old", tenant: stranger, body: setBody("y")}, &doc); doc.Version != 1 {
		t.Errorf("a stranger's name begins with version %d", doc.Version)
	}
	if d.do(call{op: "name.get", name: "secret"}, &doc); doc.Version != 1 {
		t.Error("the owner's name was touched")
	}
}

// TestAudit: a change is recorded before it is made, and not made where it cannot be.
func TestAudit(t *testing.T) {
	d := drive(t)
	d.do(call{op: "name.set", name: "a", body: setBody("x")}, nil)
	d.do(call{op: "name.delete", name: "a"}, nil)
	want := []string{"name.set name/a", "name.delete name/a"}
	for i, e := range d.audit.events {
		if got := e.Kind + " " + e.Subject; i >= len(want) || got != want[i] || e.Stream != "tenant/"+tenantOf(7).ID.String() || e.Actor == "" {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if len(d.audit.events) != 2 || d.audit.events[0].Attrs["addr"] != addrOf("x") || d.audit.events[1].Attrs["from_version"] != int64(1) {
		t.Errorf("%+v", d.audit.events)
	}
	d.audit.full = errors.New("full")
	d.refuse(call{op: "name.set", name: "a", body: setBody("x")}, macronode.Unavailable)
	d.refuse(call{op: "name.import", body: `{"name":"a","addr":"` + addrOf("x") + `"}`}, macronode.Unavailable)
	d.refuse(call{op: "name.get", name: "a"}, macronode.NotFound)
	d.audit.full = nil
	d.do(call{op: "name.set", name: "a", body: setBody("x")}, nil)
	d.audit.full = errors.New("full")
	d.refuse(call{op: "name.delete", name: "a"}, macronode.Unavailable)
	d.do(call{op: "name.get", name: "a"}, nil)
}

// TestIdempotency: the same key gives the first answer, and changes nothing.
func TestIdempotency(t *testing.T) {
	d := drive(t)
	c := call{op: "name.set", name: "a", body: setBody("x"), key: "k1"}
	first := d.do(c, nil)
	again := d.do(c, nil)
	if string(again.Body) != string(first.Body) || again.Status != 201 || again.Header.Get("Idempotency-Replayed") != "true" || again.Header.Get("Etag") != `"1"` {
		t.Errorf("the replay: %d %v", again.Status, again.Header)
	}
	c.body = setBody("y")
	d.refuse(c, macronode.IdempotencyMismatch)
	drop := call{op: "name.delete", name: "a", key: "k2"}
	d.do(drop, nil)
	if r := d.do(drop, nil); r.Status != 204 {
		t.Errorf("the replay of a deletion: %d", r.Status)
	}
	bulk := call{op: "name.import", body: `{"name":"b","addr":"` + addrOf("x") + `"}`, key: "k3"}
	d.do(bulk, nil)
	d.do(bulk, nil)
	var doc Document
	if d.do(call{op: "name.get", name: "b"}, &doc); doc.Version != 1 {
		t.Errorf("an import was done twice: version %d", doc.Version)
	}
}

func TestQuota(t *testing.T) {
	d := drive(t, func(c *Config) { c.Limits = Limits{MaxNames: 2, MaxHistory: 3} })
	d.do(call{op: "name.set", name: "a", body: setBody("x")}, nil)
	d.do(call{op: "name.set", name: "b", body: setBody("x")}, nil)
	d.refuse(call{op: "name.set", name: "c", body: setBody("x")}, macronode.QuotaObjects)
	d.do(call{op: "name.set", name: "c", tenant: tenantOf(8), body: setBody("x")}, nil) // each has its own
	for range 6 {
		d.do(call{op: "name.set", name: "a", body: setBody("x")}, nil)
	}
	d.do(call{op: "name.delete", name: "b"}, nil)
	d.do(call{op: "name.set", name: "c", body: setBody("x")}, nil)
	var h History
	d.do(call{op: "name.history", name: "a"}, &h)
	if len(h.Versions) != 3 || h.Versions[0].Version != 7 || h.Versions[2].Version != 5 {
		t.Errorf("history: %+v", h.Versions)
	}
	if err := d.s.SetLimits(Limits{MaxNames: 2, MaxHistory: 1}); err != nil {
		t.Fatal(err)
	}
	d.do(call{op: "name.set", name: "a", body: setBody("x")}, nil)
	h = History{}
	if d.do(call{op: "name.history", name: "a"}, &h); len(h.Versions) != 1 {
		t.Errorf("a lower limit keeps %d versions", len(h.Versions))
	}
	if err := d.s.SetLimits(Limits{}); err == nil {
		t.Error("limits of nothing are accepted")
	}
}

// TestForgotten: of deleted names the last are remembered; one that is forgotten
// begins above every version that it may have had.
func TestForgotten(t *testing.T) {
	d := drive(t)
	for range 5 {
		d.do(call{op: "name.set", name: "first", body: setBody("x")}, nil)
	}
	d.do(call{op: "name.delete", name: "first"}, nil)
	for i := range keepDeleted {
		n := fmt.Sprintf("n%d", i)
		d.do(call{op: "name.set", name: n, body: setBody("x")}, nil)
		d.do(call{op: "name.delete", name: n}, nil)
	}
	d.refuse(call{op: "name.history", name: "first"}, macronode.NotFound)
	d.do(call{op: "name.history", name: "n0"}, nil)
	var st Status
	if d.do(call{op: "name.status"}, &st); st.Deleted != keepDeleted || st.Names != 0 || st.Versions != 2*keepDeleted {
		t.Errorf("%+v", st)
	}
	var doc Document
	if d.do(call{op: "name.set", name: "first", body: setBody("x")}, &doc); doc.Version != 7 {
		t.Errorf("a forgotten name begins with version %d", doc.Version)
	}
	if d.do(call{op: "name.set", name: "n5", body: setBody("x")}, &doc); doc.Version != 3 {
		t.Errorf("a remembered name goes on with version %d", doc.Version)
	}
}

func TestPurge(t *testing.T) {
	d := drive(t, func(c *Config) { c.Limits.MaxNames = 1000 })
	for i := range 300 {
		d.do(call{op: "name.set", name: fmt.Sprintf("n%d", i), body: setBody("x")}, nil)
	}
	d.do(call{op: "name.delete", name: "n5"}, nil)
	d.do(call{op: "name.set", name: "kept", tenant: tenantOf(8), body: setBody("x")}, nil)
	before := d.keys(tenantOf(8).ID)
	for range 2 {
		if err := d.s.Purge(t.Context(), tenantOf(7).ID); err != nil {
			t.Fatal(err)
		}
		if n := d.keys(tenantOf(7).ID); n != 0 {
			t.Errorf("%d keys are left", n)
		}
	}
	if n := d.keys(tenantOf(8).ID); n != before {
		t.Errorf("another tenant has %d keys, had %d", n, before)
	}
}
