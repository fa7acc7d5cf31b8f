// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/provision"
	"github.com/rustyonions/macronode/tlog"
)

// Marks that stand in every payload and secret of the walk below.
const (
	payloadMark = "planted-payload-5be0cd19"
	secretMark  = "planted-secret-1f83d9ab"
	fullAddr    = "203.0.113.77"
	fullAddr6   = "2001:db8:9b05:688c:510e:527f:ade6:82d1"
)

// recorded is a node whose audit log is looked at.
type recorded struct {
	*Node
	t    *testing.T
	next uint64 // of the records, the one that was not seen yet
}

// since returns the records that came since the last call. Those of calls that ended
// are among them: the queue keeps its order.
func (r *recorded) since() (out []*tlog.Record) {
	r.t.Helper()
	if err := r.audit.Append(r.t.Context(), macronode.AuditEvent{Stream: "node", Kind: "test.fence", Actor: "node"}); err != nil {
		r.t.Fatal(err)
	}
	for {
		a := r.over(r.t, macronode.WireHTTP, ask{op: "audit.records", args: map[string]string{"cursor": fmt.Sprint(r.next), "limit": "1000"}, cap: datadir.OperatorCapName})
		var page struct {
			Records []json.RawMessage `json:"records"`
			Cursor  string            `json:"cursor"`
		}
		if err := json.Unmarshal([]byte(a.body), &page); err != nil || a.status != 200 {
			r.t.Fatalf("records: %d %s %v", a.status, a.detail, err)
		}
		for _, raw := range page.Records {
			rec, err := tlog.Parse(raw)
			if err != nil {
				r.t.Fatal(err)
			}
			r.next = rec.Seq + 1
			if rec.Kind != "test.fence" {
				out = append(out, rec)
			}
		}
		if page.Cursor == "" {
			return out
		}
	}
}

// walk is what calls leave for those that follow them.
type walk struct {
	signature, wrapped, leaf, page, receipt, second, dead, job, addr, post string
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// member is a member of a JSON answer, found anywhere in it by its name.
func member(body, name string) string {
	_, rest, _ := strings.Cut(body, `"`+name+`":"`)
	text, _, _ := strings.Cut(rest, `"`)
	return text
}

// act is a route that changes something, or uses a key: how it is called so that it
// works, and the record that it leaves.
type act struct {
	op   string
	kind string // of the record; "": as the operation
	data bool   // data of a tenant: on record where policy obliges to it
	// also is called after it, before its records can be read.
	also *act
	ask  func(w *walk) ask
	keep func(w *walk, body string)
}

const operatorCap = datadir.OperatorCapName

func topic(name string, more ...string) map[string]string {
	m := map[string]string{"topic": name}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

// tenantActs are those on tenants and capabilities.
var tenantActs = []act{
	{op: "tenant.create", ask: func(*walk) ask { return ask{cap: operatorCap, body: `{"label":"walk"}`} }},
	{op: "tenant.quota", ask: func(*walk) ask {
		return ask{cap: operatorCap, args: map[string]string{"tenant": "walk"}, body: `{"requests_per_s":100}`}
	}},
	{op: "tenant.suspend", ask: func(*walk) ask { return ask{cap: operatorCap, args: map[string]string{"tenant": "walk"}} }},
	{op: "tenant.resume", ask: func(*walk) ask { return ask{cap: operatorCap, args: map[string]string{"tenant": "walk"}} }},
	{op: "cap.mint", ask: func(*walk) ask { return ask{cap: operatorCap, body: `{"tenant":"walk","expires_s":600}`} },
		keep: func(w *walk, body string) { w.leaf = member(body, "leaf_id") }},
	{op: "cap.revoke", ask: func(w *walk) ask { return ask{cap: operatorCap, body: `{"id":"` + w.leaf + `"}`} }},
	{op: "cap.revocations.import", kind: "cap.import", ask: func(w *walk) ask { return ask{cap: operatorCap, body: w.page} }},
	{op: "tenant.delete", ask: func(*walk) ask { return ask{cap: operatorCap, args: map[string]string{"tenant": "walk"}} }},
}

// keyActs are those of the KMS.
var keyActs = []act{
	{op: "kms.create", ask: func(*walk) ask { return ask{cap: operatorCap, body: `{"name":"walk","alg":"ed25519","purpose":"app"}`} }},
	{op: "kms.rotate", ask: func(*walk) ask { return ask{cap: operatorCap, args: map[string]string{"key": "walk"}} }},
	{op: "kms.sign", ask: func(*walk) ask {
		return ask{cap: operatorCap, args: map[string]string{"key": "walk"}, body: `{"message":"` + b64(payloadMark) + `"}`}
	}, keep: func(w *walk, body string) { w.signature = member(body, "signature") }},
	{op: "kms.verify", ask: func(w *walk) ask {
		return ask{cap: operatorCap, args: map[string]string{"key": "walk"}, body: `{"message":"` + b64(payloadMark) + `","signature":"` + w.signature + `"}`}
	}},
	{op: "kms.wrap", ask: func(*walk) ask {
		return ask{cap: operatorCap, args: map[string]string{"key": "wraps"}, body: `{"plaintext":"` + b64(secretMark) + `"}`}
	}, keep: func(w *walk, body string) { w.wrapped = member(body, "wrapped") }},
	{op: "kms.unwrap", ask: func(w *walk) ask {
		return ask{cap: operatorCap, args: map[string]string{"key": "wraps"}, body: `{"wrapped":"` + w.wrapped + `"}`}
	}},
	{op: "kms.csr", ask: func(*walk) ask {
		return ask{cap: operatorCap, args: map[string]string{"key": "serves"}, body: `{"dns":["a.example"],"ips":["` + fullAddr + `"]}`}
	}},
	{op: "kms.version.delete", kind: "kms.delete", ask: func(*walk) ask {
		return ask{cap: operatorCap, args: map[string]string{"key": "walk", "version": "1"}}
	}},
	{op: "kms.object.put", kind: "kms.put_object", ask: func(*walk) ask {
		return ask{cap: operatorCap, args: map[string]string{"object": "walk"}, body: `{"object":"` + secretMark + `"}`}
	}},
}

// dataActs are a tenant's, on its own data.
var dataActs = []act{
	{op: "object.post", data: true, ask: func(*walk) ask { return ask{body: payloadMark} }},
	{op: "object.put", data: true, ask: func(w *walk) ask { return ask{args: map[string]string{"addr": w.addr}, body: payloadMark + "2"} }},
	{op: "name.set", ask: func(w *walk) ask {
		return ask{args: map[string]string{"name": "site.walk"}, body: `{"addr":"` + w.addr + `","meta":{"m":"` + secretMark + `"}}`, header: macronode.Header{"Content-Type": {"application/json"}}}
	}},
	{op: "name.import", ask: func(w *walk) ask {
		return ask{body: `{"name":"site.other","addr":"` + w.addr + `"}` + "\n", header: macronode.Header{"Content-Type": {"application/x-ndjson"}}}
	}},
	{op: "name.delete", ask: func(*walk) ask { return ask{args: map[string]string{"name": "site.walk"}} }},
	{op: "graph.put", data: true, ask: func(*walk) ask {
		return ask{body: `{"from":"id/a","type":"follow","to":"id/b","value":"` + payloadMark + `"}`}
	}},
	{op: "graph.import", data: true, ask: func(*walk) ask { return ask{body: `{"edges":[{"from":"id/a","type":"follow","to":"id/c"}]}`} }},
	{op: "graph.delete", data: true, ask: func(*walk) ask {
		return ask{args: map[string]string{"from": "id/a", "type": "follow", "to": "id/c"}}
	}},
	{op: "feed.publish", data: true, ask: func(*walk) ask { return ask{body: `{"author":"id/b","text":"` + payloadMark + `"}`} },
		keep: func(w *walk, body string) { w.post = member(body, "post_id") }},
	{op: "feed.unpublish", data: true, ask: func(w *walk) ask { return ask{args: map[string]string{"post": w.post}} }},
	{op: "object.delete", data: true, ask: func(w *walk) ask { return ask{args: map[string]string{"addr": w.addr}} }},
	{op: "mailbox.topic.put", ask: func(*walk) ask { return ask{args: topic("walk"), body: `{"max_attempts":1}`} }},
	{op: "mailbox.send", data: true, ask: func(*walk) ask {
		line := `{"text":"` + payloadMark + `","key":"` + secretMark + `%d","attrs":{"a":"` + secretMark + `"}}` + "\n"
		return ask{args: topic("walk"), body: fmt.Sprintf(line+line, 1, 2), header: macronode.Header{"Content-Type": {"application/x-ndjson"}}}
	}},
	{op: "mailbox.receive", data: true, ask: func(*walk) ask { return ask{args: topic("walk"), body: `{"max_messages":2}`} },
		keep: func(w *walk, body string) {
			w.receipt, w.dead = member(body, "receipt"), member(body, "msg_id")
			_, second, _ := strings.Cut(body, w.receipt)
			w.second = member(second, "receipt")
		}},
	{op: "mailbox.extend", data: true, ask: func(w *walk) ask {
		return ask{args: topic("walk"), body: `{"receipts":["` + w.receipt + `"],"visibility_ms":60000}`}
	}},
	{op: "mailbox.ack", data: true, ask: func(w *walk) ask { return ask{args: topic("walk"), body: `{"receipts":["` + w.second + `"]}`} }},
	{op: "mailbox.nack", data: true, ask: func(w *walk) ask {
		return ask{args: topic("walk"), body: `{"receipts":["` + w.receipt + `"],"reason":"` + secretMark + `"}`}
	}},
	{op: "mailbox.redrive", ask: func(*walk) ask { return ask{args: topic("walk"), body: `{"filter":{"reason":"expired"}}`} },
		keep: func(w *walk, body string) { w.job = member(body, "id") }},
	{op: "mailbox.redrive.stop", ask: func(w *walk) ask { return ask{args: topic("walk", "job", w.job)} }},
	{op: "mailbox.dlq.delete", ask: func(w *walk) ask { return ask{args: topic("walk", "msg_id", w.dead)} }},
	{op: "mailbox.dlq.purge", ask: func(*walk) ask { return ask{args: topic("walk"), body: `{"filter":{}}`} }},
	{op: "mailbox.purge", ask: func(*walk) ask { return ask{args: topic("walk"), body: `{}`} }},
	{op: "mailbox.topic.delete", ask: func(*walk) ask { return ask{args: topic("walk")} }},
}

var undrain = act{op: "admin.undrain", ask: func(*walk) ask { return ask{cap: operatorCap, body: `{}`} }}

// nodeActs are the operator's, on the node.
var nodeActs = []act{
	{op: "admin.breaker.force", ask: func(*walk) ask {
		return ask{cap: operatorCap, args: map[string]string{"name": "metadata"}, body: `{"state":"auto","reason":"a drill"}`}
	}},
	{op: "admin.collect", ask: func(*walk) ask { return ask{cap: operatorCap, body: `{}`} }},
	{op: "admin.drain", ask: func(*walk) ask { return ask{cap: operatorCap, body: `{}`} }, also: &undrain},
	undrain,
	{op: "admin.reload", ask: func(*walk) ask { return ask{cap: operatorCap, body: `{}`} }},
	{op: "admin.drill.service-crash", ask: func(*walk) ask { return ask{cap: operatorCap, body: `{"service":"svc-storage"}`} }},
	{op: "admin.drill.record", ask: func(*walk) ask {
		return ask{cap: operatorCap, body: `{"name":"oversize","pass":true,"seconds":1,"at_ms":1700000000000,"live":false}`}
	}},
	{op: "admin.shutdown", ask: func(*walk) ask { return ask{cap: operatorCap, body: `{}`} }},
}

// questions have a method that could change something, and do not; peers' is what
// other nodes say, which is recorded by what takes it.
var questions, peers = []string{"admin.policy.replay"}, []string{"overlay.gossip", "overlay.revocations"}

// drivenBy are routes that need more than a node to work, by the package whose tests
// look for their records.
var drivenBy = map[string]string{
	"registry.propose": "registry", "registry.approve": "registry", "registry.reject": "registry", "registry.withdraw": "registry", "registry.sign": "registry",
}

// driven says whether the tests of a service look for records, and call the route.
func driven(t *testing.T, pkg, op string) bool {
	t.Helper()
	files, err := filepath.Glob("../svc/" + pkg + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	calls, looks := false, false
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		calls = calls || strings.Contains(string(text), `"`+op+`"`)
		looks = looks || strings.Contains(string(text), "macronode.AuditEvent")
	}
	return calls && looks
}

// changes says whether a route may change something.
func changes(b *macronode.Binding) bool {
	return b.Write || b.Method != "GET" && b.Method != "HEAD"
}

// do makes the call, which must work, and returns the records of it.
func (r *recorded) do(a act, w *walk) []*tlog.Record {
	r.t.Helper()
	r.make(a, w)
	if a.also != nil {
		r.make(*a.also, w)
	}
	return r.since()
}

func (r *recorded) make(a act, w *walk) {
	r.t.Helper()
	q := a.ask(w)
	q.op = a.op
	got := r.over(r.t, macronode.WireHTTP, q)
	if got.kind != "" || got.status/100 != 2 {
		r.t.Fatalf("%s: %d %s %s", a.op, got.status, got.kind, got.detail)
	}
	if a.keep != nil {
		a.keep(w, got.body)
	}
}

// find returns the records of the kind that a leaves.
func (a *act) find(list []*tlog.Record) (out []*tlog.Record) {
	kind := a.kind
	if kind == "" {
		kind = a.op
	}
	for _, rec := range list {
		if rec.Kind == kind && rec.Reason == "" && strings.HasPrefix(rec.Actor, "cap:") {
			out = append(out, rec)
		}
	}
	return out
}

// walker is a node with all that the acts need.
func walker(t *testing.T) (*recorded, Options, *walk) {
	o := production(t, provision.TLSNone)
	edit(t, o, "[server]\n", "[server]\ndrills = true\n", "[oap]\n", "[facets]\nenable = [\"graph\", \"feed\"]\n[oap]\n")
	r := &recorded{Node: begin(t, o), t: t}
	c := r.operator(t)
	for _, key := range [][3]string{{"wraps", "aes-256-gcm", "app"}, {"serves", "ecdsa-p256", "tls"}} {
		if err := c.JSON(t.Context(), "POST", "/v1/kms/keys", "", map[string]string{"name": key[0], "alg": key[1], "purpose": key[2]}, nil); err != nil {
			t.Fatal(err)
		}
	}
	w := &walk{addr: b3.Sum([]byte(payloadMark + "2")).String()}
	w.page = r.over(t, macronode.WireHTTP, ask{op: "cap.revocations.export", cap: operatorCap}).body
	return r, o, w
}

// TestEveryChangeIsRecorded calls every route that changes something, or uses a key,
// and looks for its record. A route that is new must be among the acts above.
func TestEveryChangeIsRecorded(t *testing.T) {
	r, o, w := walker(t)
	var called []string
	acts := slices.Concat(tenantActs, keyActs, dataActs, nodeActs)
	for _, b := range r.wall.Bindings() {
		op := string(b.Op)
		known := slices.ContainsFunc(acts, func(a act) bool { return a.op == op }) || slices.Contains(questions, op) || slices.Contains(peers, op)
		if pkg, ok := drivenBy[op]; ok {
			known = true
			if b.Audit == macronode.AuditRefusals && !driven(t, pkg, op) {
				t.Errorf("the tests of %s do not call %s and look at audit events", pkg, op)
			}
		}
		switch {
		case changes(b) && !known:
			t.Errorf("%s (%s) changes something, and this test does not know what it must record: add it to the acts", op, b.Label())
		case !changes(b) && known:
			t.Errorf("%s changes nothing", op)
		case slices.Contains(questions, op) && b.Write, slices.Contains(peers, op) && b.Action != "overlay:peer":
			t.Errorf("%s is no such route", op)
		}
		called = append(called, op)
	}
	for _, a := range acts {
		if !slices.Contains(called, a.op) {
			t.Errorf("there is no route %s", a.op)
		}
	}
	r.since()
	for _, a := range slices.Concat(tenantActs, keyActs, dataActs, nodeActs[:len(nodeActs)-1]) {
		switch found := a.find(r.do(a, w)); {
		case a.data && len(found) > 0:
			t.Errorf("%s is on record without an obligation", a.op)
		case !a.data && len(found) == 0:
			t.Errorf("%s is not on record", a.op)
		}
		if a.op == "admin.drill.service-crash" {
			poll(t, "the service that was crashed", func() bool { ready, _ := r.ready.Probe(t.Context()); return ready })
		}
	}
	// Where policy obliges to it, what tenants do with their data is on record too.
	pinPolicy(t, o, 2, acmeSources(t, r.Node, `@id("watched") @obligation("audit=strict") permit (principal is Capability, action in Action::"data", resource);`))
	if _, err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := slices.IndexFunc(r.since(), func(rec *tlog.Record) bool { return rec.Kind == "config.apply" }); at < 0 {
		t.Error("the config that brought a policy is not on record")
	}
	for _, a := range dataActs {
		// What records itself comes between.
		if found := a.find(r.do(a, w)); len(found) < 2 || found[0].Attrs["phase"] != "begin" || found[len(found)-1].Attrs["phase"] != "end" {
			t.Errorf("%s under audit=strict left %d records", a.op, len(found))
		}
	}
	stop := nodeActs[len(nodeActs)-1]
	if found := stop.find(r.do(stop, w)); len(found) == 0 {
		t.Errorf("%s is not on record", stop.op)
	}
}

// TestEveryRefusalIsRecorded: whoever is refused at a route is on record, with the
// route and the reason, and nothing more.
func TestEveryRefusalIsRecorded(t *testing.T) {
	r := &recorded{Node: beginDev(t), t: t}
	r.since()
	for _, b := range r.wall.Bindings() {
		if b.Public || b.Action == "docs:read" { // for everybody
			continue
		}
		q := ask{op: string(b.Op), args: map[string]string{}, cap: "-"}
		for part := range strings.SplitSeq(b.Pattern, "/") {
			if name, ok := strings.CutPrefix(part, "{"); ok {
				q.args[strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")] = "1"
			}
		}
		if a := r.over(t, macronode.WireOAP, q); a.status != 401 && a.status != 403 {
			t.Errorf("%s without a capability: %d %s", b.Op, a.status, a.detail)
		}
		list := r.since()
		if len(list) != 1 || list[0].Kind != string(b.Op) || list[0].Reason == "" || list[0].Actor != "anonymous" || len(list[0].Attrs) != 0 {
			t.Errorf("the refusal at %s: %d records", b.Op, len(list))
		}
	}
}

// TestRecordsTellNoSecrets does everything that the node can be asked for, with
// secrets, payloads, capabilities and full addresses in every place that a caller can
// fill, and finds none of them in any record.
func TestRecordsTellNoSecrets(t *testing.T) {
	r, o, w := walker(t)
	pinPolicy(t, o, 2, acmeSources(t, r.Node, `@id("watched") @obligation("audit") permit (principal, action, resource);`))
	if _, err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, a := range slices.Concat(tenantActs, keyActs, dataActs, nodeActs[:len(nodeActs)-2]) {
		r.do(a, w)
	}
	token := r.token(t, datadir.TenantCapName)
	minted := member(r.over(t, macronode.WireHTTP, ask{op: "cap.mint", cap: operatorCap, body: `{"tenant":"acme","expires_s":600}`}).body, "token")
	plants := []planted{plant(t, "tenant's", token), plant(t, "operator's", r.token(t, operatorCap)), plant(t, "minted", minted)}
	for _, b := range r.wall.Bindings() {
		if b.Op == "admin.shutdown" || b.LongRunning && b.Method == "GET" {
			continue
		}
		for _, secret := range []string{token, fullAddr, fullAddr6} {
			r.misuse(b, secret, token)
		}
	}
	r.next = 0
	redacted := 0
	for _, rec := range r.since() {
		entry, err := rec.Entry()
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := rec.Attrs["redacted"].(int64); ok {
			redacted += int(n)
		}
		where := fmt.Sprintf("record %d (%s)", rec.Seq, rec.Kind)
		for _, p := range plants {
			p.in(t, where, entry)
		}
		for _, mark := range []string{payloadMark, secretMark, b64(payloadMark)[:24], b64(secretMark)[:24], fullAddr, "ade6:82d1", w.signature, w.wrapped} {
			if mark == "" || strings.Contains(string(entry), mark) {
				t.Errorf("%s tells %.40q", where, mark)
			}
		}
	}
	_, text, err := r.metrics.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("audit_redacted_total %d\n", redacted); redacted < 20 || !strings.Contains(string(text), want) {
		t.Errorf("%d redactions are on record; the metrics lack %q", redacted, want)
	}
}

// misuse calls a route with secret in every place, as who holds token, and as nobody.
func (r *recorded) misuse(b *macronode.Binding, secret, token string) {
	args := map[string]string{}
	for part := range strings.SplitSeq(b.Pattern, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			args[strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")] = secret
		}
	}
	header := macronode.Header{}
	for _, name := range []string{"Content-Type", "If-Match", "Range", "Accept", "User-Agent", "X-Forwarded-For", "Prefer"} {
		header[name] = []string{secret}
	}
	for _, file := range []string{datadir.TenantCapName, operatorCap, "-"} {
		for _, query := range []bool{false, true} {
			q := ask{op: string(b.Op), args: args, header: header, cap: file, key: secret[:min(len(secret), 100)]}
			if query {
				q.args = map[string]string{}
				for k, v := range args {
					q.args[k] = v
				}
				for _, p := range b.Doc.Query {
					q.args[p.Name] = secret
				}
			}
			if b.MaxBody != macronode.BodyNone {
				q.body = `{"label":"` + secret + `","name":"` + secret + `","id":"` + secret + `"}`
			}
			c := r.call(r.t, macronode.WireHTTP, q)
			c.Peer.Addr, c.CorrID = netip.MustParseAddr(fullAddr), secret
			// What comes of it is not looked at here: most of it is refused.
			_ = r.wall.Serve(r.t.Context(), c, func(rep *macronode.Reply) error { return nil })
		}
	}
}
