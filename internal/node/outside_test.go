// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/provision"
	"github.com/rustyonions/macronode/test/witnesstest"
	"github.com/rustyonions/macronode/tlog"
)

// A witness that a reload names cosigns; one that refuses is an alarm that shows
// in readiness, as an event and on record, and costs nothing else.
func TestWitnesses(t *testing.T) {
	o := production(t, provision.TLSNone)
	n := begin(t, o)
	keys := n.audit.PublicKeys()
	if len(keys) != 2 {
		t.Fatalf("%d keys", len(keys))
	}
	good, bad := witnesstest.New("good.example", keys...), witnesstest.New("bad.example", keys...)
	bad.Before(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusForbidden); return true })
	s1, s2 := httptest.NewServer(good), httptest.NewServer(bad)
	defer s1.Close()
	defer s2.Close()
	edit(t, o, "[policy]\n", fmt.Sprintf("[audit]\nwitnesses = [%q, %q]\nwitness_quorum = 1\nwitness_interval = \"100ms\"\n\n[policy]\n", s1.URL+" "+good.Key().String(), s2.URL+" "+bad.Key().String()))
	if _, err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	var note string
	poll(t, "a cosigned checkpoint", func() bool {
		a := n.over(t, 0, ask{op: "audit.cosigned", cap: datadir.OperatorCapName})
		note = a.body
		return a.status == 200
	})
	if s, err := tlog.OpenLog([]byte(note), keys, good.Key()); err != nil || !s.Has(good.Key()) {
		t.Errorf("%v", err)
	}
	poll(t, "an alarm", func() bool { return n.audit.Witnesses(t.Context()) != nil })
	poll(t, "readiness to say so", func() bool {
		ready, doc := n.ready.Probe(t.Context())
		return ready && strings.Contains(string(doc), "bad.example: the witness refuses")
	})
	poll(t, "its record", func() bool {
		a := n.over(t, 0, ask{op: "audit.records", cap: datadir.OperatorCapName, args: map[string]string{"kind": "audit.witness"}})
		return strings.Contains(a.body, `"state":"refused"`)
	})
	if !strings.Contains(fmt.Sprint(o.Stderr), "KernelEvent::AuditWitness{state=refused}") {
		t.Error("no event")
	}
	a := n.over(t, 0, ask{op: "audit.receipt", cap: datadir.OperatorCapName, args: map[string]string{"seq": "0", "cosigned": "true"}})
	if a.status != 200 || !strings.Contains(a.body, "good.example") {
		t.Errorf("a cosigned receipt: %d %s", a.status, a.detail)
	}
	bad.Before(nil)
	poll(t, "the end of the alarm", func() bool { return n.audit.Witnesses(t.Context()) == nil })
}

// Records reach the sinks that a reload names, from the first one on; a sink that takes
// none costs nothing else, and shows.
func TestSinks(t *testing.T) {
	o := production(t, provision.TLSNone)
	n := begin(t, o)
	got := make(chan string, 64)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- r.URL.Path + " " + string(b)
	}))
	defer sink.Close()
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer bad.Close()
	path := filepath.Join(t.TempDir(), "audit.ndjson")
	edit(t, o, "[policy]\n", fmt.Sprintf("[audit]\nsinks = [%q, %q, %q, %q]\n\n[policy]\n",
		"siem ndjson "+sink.URL+"/in", "otel otlp "+sink.URL+"/v1/logs", "copy file "+path, "bad ndjson "+bad.URL+"/in"))
	if _, err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, second := <-got, <-got
	for _, want := range []string{"/in {", "/v1/logs {"} {
		if !strings.HasPrefix(first, want) && !strings.HasPrefix(second, want) {
			t.Errorf("nothing came to %s", want)
		}
	}
	if !strings.Contains(first, "config.apply") || !strings.Contains(second, "config.apply") {
		t.Error("the first record did not come")
	}
	a := n.over(t, 0, ask{op: "audit.records", cap: datadir.OperatorCapName, args: map[string]string{"limit": "1000"}})
	poll(t, "the file to hold what the log held", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && bytes.Count(b, []byte("\n")) >= max(2, strings.Count(a.body, `"writer":`))
	})
	poll(t, "the lag of the one that takes nothing", func() bool {
		_, body, err := n.metrics.Expose("")
		return err == nil && bytes.Contains(body, []byte(`audit_sink_lag_records{sink="copy"} 0`)) && !bytes.Contains(body, []byte(`audit_sink_lag_records{sink="bad"} 0`)) &&
			bytes.Contains(body, []byte(`audit_sink_errors_total{sink="bad"}`))
	})
}
