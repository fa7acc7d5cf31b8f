// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package outward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

// someRows are a chain of records.
func someRows(t testing.TB, n int) (rows []tree.Row) {
	t.Helper()
	prev := tlog.Genesis
	for i := range n {
		r := &tlog.Record{V: tlog.Version, TSMilli: 1767225600000 + int64(i), Writer: writer, Seq: uint64(i), Stream: "node", Kind: "cap.mint", Actor: "node", Attrs: tlog.Attrs{"n": int64(i), "who": "<&>\u2028"}}
		if i%2 == 1 {
			r.Reason = "policy"
		}
		entry, err := r.Seal(prev)
		if err != nil {
			t.Fatal(err)
		}
		prev = r.Hash
		rows = append(rows, tree.Row{Record: r, Entry: entry})
	}
	return rows
}

// receiver is what a sink posts to.
type receiver struct {
	status int
	answer string
	header http.Header
	body   []byte
	calls  int
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.calls++
	r.header = q.Header
	r.body, _ = io.ReadAll(q.Body)
	w.WriteHeader(r.status)
	_, _ = io.WriteString(w, r.answer)
}

func TestNDJSON(t *testing.T) {
	r := &receiver{status: 204}
	server := httptest.NewServer(r)
	defer server.Close()
	c := New()
	defer c.Close()
	rows := someRows(t, 3)
	s := c.NDJSON(server.URL+"/in", func(context.Context) ([]byte, error) { return []byte("planted-secret"), nil })
	if _, err := s.Deliver(t.Context(), rows[1:]); err != nil {
		t.Fatal(err)
	}
	if want := string(rows[1].Entry) + "\n" + string(rows[2].Entry) + "\n"; string(r.body) != want || r.header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d bytes of %s", len(r.body), r.header.Get("Content-Type"))
	}
	if r.header.Get("Idempotency-Key") != origin+"-1-2" || r.header.Get("Authorization") != "Bearer planted-secret" {
		t.Errorf("%s", r.header.Get("Idempotency-Key"))
	}
	for _, status := range []int{199 + 101, 307, 400, 401, 404, 429, 500, 503} {
		r.status = status
		if _, err := s.Deliver(t.Context(), rows); err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%d: %v", status, err)
		}
	}
	calls := r.calls
	for _, bad := range []Secret{
		func(context.Context) ([]byte, error) { return []byte("planted\r\nX: y"), nil },
		func(context.Context) ([]byte, error) { return nil, errors.New("sealed") },
	} {
		if _, err := c.NDJSON(server.URL, bad).Deliver(t.Context(), rows); err == nil || strings.Contains(err.Error(), "planted") || r.calls != calls {
			t.Errorf("%v", err)
		}
	}
	server.Close()
	if _, err := s.Deliver(t.Context(), rows); err == nil || strings.Contains(err.Error(), "/in") {
		t.Errorf("nobody there: %v", err)
	}
}

// What is sent is what OTLP's own decoder reads, and its body is still the entry.
func TestOTLP(t *testing.T) {
	r := &receiver{status: 200, answer: "{}"}
	server := httptest.NewServer(r)
	defer server.Close()
	c := New()
	defer c.Close()
	rows := someRows(t, 2)
	s := c.OTLP(server.URL+"/v1/logs", nil)
	if refused, err := s.Deliver(t.Context(), rows); refused != 0 || err != nil {
		t.Fatal(refused, err)
	}
	if r.header.Get("Content-Type") != "application/json" || r.header["Authorization"] != nil {
		t.Errorf("%v", r.header)
	}
	// LogsData is the same message as a request to a collector.
	var got logs.LogsData
	if err := protojson.Unmarshal(r.body, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.ResourceLogs) != 1 || got.ResourceLogs[0].Resource.Attributes[1].Value.GetStringValue() != writer {
		t.Fatalf("%d resources", len(got.ResourceLogs))
	}
	records := got.ResourceLogs[0].ScopeLogs[0].LogRecords
	for i, l := range records {
		rec, err := tlog.Parse([]byte(l.Body.GetStringValue()))
		if err != nil || rec.Seq != uint64(i) || l.TimeUnixNano != uint64(rec.TSMilli)*1e6 || l.EventName != "cap.mint" {
			t.Errorf("record %d: %v", i, err)
		}
		attrs := map[string]string{}
		for _, a := range l.Attributes {
			attrs[a.Key] = fmt.Sprint(a.Value.GetStringValue(), a.Value.GetIntValue())
		}
		if attrs["audit.seq"] != fmt.Sprint("", i) || attrs["audit.attrs.n"] != fmt.Sprint("", i) || attrs["audit.stream"] != "node0" || attrs["audit.hash"] != rec.Hash.String()+"0" {
			t.Errorf("%v", attrs)
		}
		if want := logs.SeverityNumber(severityInfo + 4*(i%2)); l.SeverityNumber != want {
			t.Errorf("severity %v", l.SeverityNumber)
		}
	}
	for answer, want := range map[string]int{`{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"x"}}`: 2, `{"partialSuccess":{"rejectedLogRecords":1}}`: 1, `{"partialSuccess":{}}`: 0, `nonsense`: 0, ``: 0} {
		r.answer = answer
		if n, err := s.Deliver(t.Context(), rows); n != want || err != nil {
			t.Errorf("%s: %d, %v", answer, n, err)
		}
	}
	r.answer = `{"partialSuccess":{"rejectedLogRecords":"3"}}`
	if _, err := s.Deliver(t.Context(), rows); err == nil {
		t.Error("more are rejected than were sent")
	}
	r.status = 503
	if _, err := s.Deliver(t.Context(), rows); err == nil {
		t.Error("503 took them")
	}
}

// wantFile is that the file holds the first n records, each once, and else empty lines.
func wantFile(t *testing.T, fs *disk.FS, path string, rows []tree.Row) {
	t.Helper()
	b, err := fs.ReadFile(path, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	for _, line := range bytes.Split(b, []byte{'\n'}) {
		if len(line) > 0 {
			got = append(got, line)
		}
	}
	if len(got) != len(rows) || len(b) > 0 && b[len(b)-1] != '\n' {
		t.Fatalf("%d lines of %d", len(got), len(rows))
	}
	for i := range rows {
		if !bytes.Equal(got[i], rows[i].Entry) {
			t.Fatalf("line %d is another", i)
		}
	}
}

func TestFile(t *testing.T) {
	fs := disk.Mem()
	if err := fs.MkdirAllSync("/var"); err != nil {
		t.Fatal(err)
	}
	rows := someRows(t, 100)
	s := File(fs, "/var/audit.ndjson")
	deliver := func(from, to int) {
		t.Helper()
		if _, err := s.Deliver(t.Context(), rows[from:to]); err != nil {
			t.Fatal(err)
		}
	}
	deliver(0, 10)
	deliver(10, 30)
	deliver(10, 40) // the cursor was not kept
	deliver(10, 40)
	wantFile(t, fs, "/var/audit.ndjson", rows[:40])
	// Renamed away, it begins a new one.
	if err := fs.Rename("/var/audit.ndjson", "/var/old"); err != nil {
		t.Fatal(err)
	}
	deliver(40, 50)
	wantFile(t, fs, "/var/audit.ndjson", rows[40:50])
	if _, err := File(fs, "/nowhere/audit.ndjson").Deliver(t.Context(), rows); err == nil {
		t.Error("a directory that is not there")
	}
}

// However much of a delivery a crash leaves, the next makes it whole: each record
// stands there once.
func TestFileTorn(t *testing.T) {
	rows := someRows(t, 20)
	whole := lines(rows)
	kept := len(lines(rows[:10]))
	for cut := kept; cut <= len(whole); cut++ {
		fs := disk.Mem()
		if err := fs.ReplaceFile("/audit", whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := File(fs, "/audit").Deliver(t.Context(), rows[10:]); err != nil {
			t.Fatal(err)
		}
		wantFile(t, fs, "/audit", rows)
	}
}

// What a file sink says it has, a power loss does not take away.
func TestFileDurable(t *testing.T) {
	rows := someRows(t, 60)
	fs := disk.Crashable()
	if err := fs.MkdirAllSync("/var"); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(rows); i += 10 {
		if _, err := File(fs, "/var/audit").Deliver(t.Context(), rows[i:i+10]); err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(5) {
			wantFile(t, fs.Crash(50, seed), "/var/audit", rows[:i+10])
		}
	}
}

// A sink that hangs is given up by the time of the delivery.
func TestDeliveryEnds(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	c := New()
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.NDJSON(server.URL, nil).Deliver(ctx, someRows(t, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
