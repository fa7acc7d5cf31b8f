// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sys/unix"
)

const secret = "ron1_hAFQAZMHm0-_abcDEF123"

func TestJSONLine(t *testing.T) {
	var b bytes.Buffer
	l := New(&b, Options{Format: JSON})
	l.Info("hello", KeyService, "svc-storage", KeyEvent, "start")
	var m map[string]any
	if err := json.Unmarshal(b.Bytes(), &m); err != nil {
		t.Fatalf("%v: %s", err, b.Bytes())
	}
	if m["level"] != "info" || m["msg"] != "hello" || m["service"] != "svc-storage" || m["event"] != "start" {
		t.Errorf("%v", m)
	}
	if ts, _ := m["ts"].(string); len(ts) != len("2006-01-02T15:04:05.000Z") || !strings.HasSuffix(ts, "Z") {
		t.Errorf("ts %q", m["ts"])
	}
	if _, ok := m["time"]; ok {
		t.Error("time is still there")
	}
}

// Scripts grep the log for these texts; JSON must not escape them.
func TestKernelEventTextsStayLiteral(t *testing.T) {
	var b bytes.Buffer
	New(&b, Options{Format: JSON}).Info("KernelEvent::Health{service=svc-storage, ok=false} <&>")
	if !strings.Contains(b.String(), `"msg":"KernelEvent::Health{service=svc-storage, ok=false} <&>"`) {
		t.Error(b.String())
	}
}

type stringer struct{ S string }

func (s stringer) String() string { return s.S }

func TestNoTokenIsEverPrinted(t *testing.T) {
	for _, f := range []Format{JSON, Text} {
		for _, journald := range []bool{false, true} {
			var b bytes.Buffer
			l := New(&b, Options{Format: f, Journald: journald}).With("with", secret).WithGroup("g").With("inner", secret)
			l.Info("msg "+secret+" end", "s", secret, "err", fmt.Errorf("wrap: %w", errors.New(secret)),
				"any", stringer{secret}, "list", []string{"a", secret}, "bytes", []byte(secret), slog.Group("g2", "x", secret), secret, 1)
			if strings.Contains(b.String(), "ron1_") || strings.Contains(b.String(), "abcDEF123") {
				t.Errorf("%s: %s", f, b.String())
			}
			if f == JSON {
				line, _ := bytes.CutPrefix(b.Bytes(), []byte("<6>"))
				if !json.Valid(line) {
					t.Errorf("no longer JSON: %s", line)
				}
			}
			if strings.Count(b.String(), "\n") != 1 {
				t.Errorf("%q is not one line", b.String())
			}
		}
	}
}

func TestJournaldPriorities(t *testing.T) {
	var b bytes.Buffer
	var level slog.LevelVar
	level.Set(slog.LevelDebug)
	l := New(&b, Options{Format: JSON, Journald: true, Level: &level})
	l.Debug("a")
	l.Info("b")
	l.With("x", 1).Warn("c")
	l.WithGroup("g").Error("d", "stack", "one\ntwo")
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for i, p := range []string{"<7>{", "<6>{", "<4>{", "<3>{"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], p) {
			t.Errorf("line %d of %q lacks %s", i, lines, p)
		}
	}
}

func TestLevelChangesLive(t *testing.T) {
	var b bytes.Buffer
	var level slog.LevelVar
	l := New(&b, Options{Format: Text, Level: &level}).With("a", 1)
	l.Debug("hidden")
	level.Set(slog.LevelDebug)
	l.Debug("shown")
	level.Set(levelOff)
	l.Error("hidden")
	if got := b.String(); strings.Contains(got, "hidden") || !strings.Contains(got, "shown") {
		t.Error(got)
	}
}

func TestTraceIDComesFromTheContext(t *testing.T) {
	id, _ := trace.TraceIDFromHex("4bf92f3577b34da6a3ce929d0e0e4736")
	ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}}))
	var b bytes.Buffer
	l := New(&b, Options{Format: JSON})
	l.InfoContext(ctx, "a")
	l.InfoContext(ctx, "b", KeyTraceID, "own")
	lines := strings.Split(b.String(), "\n")
	if !strings.Contains(lines[0], `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`) {
		t.Error(lines[0])
	}
	if strings.Count(lines[1], "trace_id") != 1 {
		t.Error(lines[1])
	}
}

// countWriter fails where a line arrives in pieces.
type countWriter struct {
	mu    sync.Mutex
	t     *testing.T
	lines int
}

func (w *countWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines++
	if p[0] != '<' || p[len(p)-1] != '\n' || bytes.Count(p, []byte("\n")) != 1 {
		w.t.Errorf("not one line: %q", p)
	}
	return len(p), nil
}

func TestConcurrentLinesKeepTheirPriority(t *testing.T) {
	w := &countWriter{t: t}
	l := New(w, Options{Format: JSON, Journald: true})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				l.Info("i")
				l.Error("e")
			}
		})
	}
	wg.Wait()
	if w.lines != 1600 {
		t.Errorf("%d lines", w.lines)
	}
}

func TestIsJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	tests := map[string]bool{own: true, "": false, "1": false, "x:y": false, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false, own + ":1": false}
	for s, want := range tests {
		if got := isJournal(s, int(f.Fd())); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestParseLevel(t *testing.T) {
	tests := []struct {
		in   string
		want slog.Level
		ok   bool
	}{
		{"", slog.LevelInfo, true}, {"info", slog.LevelInfo, true}, {"WARN", slog.LevelWarn, true}, {"trace", slog.LevelDebug, true},
		{"error,hyper=debug", slog.LevelError, true}, {"hyper=debug", slog.LevelInfo, true}, {" debug ", slog.LevelDebug, true},
		{"off", levelOff, true}, {"loud", 0, false}, {strings.Repeat("x", 2000), 0, false},
	}
	for _, tt := range tests {
		got, err := ParseLevel(tt.in)
		if (err == nil) != tt.ok || got != tt.want {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
	}
	for _, f := range []string{"", "auto", "json", "text"} {
		if _, err := ParseFormat(f); err != nil {
			t.Error(err)
		}
	}
	if _, err := ParseFormat("xml"); err == nil {
		t.Error("xml is a format")
	}
}

func TestNetwork(t *testing.T) {
	tests := map[string]string{
		"203.0.113.77": "203.0.113.0/24", "::ffff:203.0.113.77": "203.0.113.0/24",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "::1": "::/64",
	}
	for in, want := range tests {
		if got := Network(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	if got := Network(netip.Addr{}); got != "" {
		t.Errorf("no address: %q", got)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("ron1_abc def")
	f.Add("xron1_ron1_a")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		r := Redact(s)
		if strings.Contains(r, tokenPrefix) {
			t.Errorf("%q -> %q", s, r)
		}
		if !strings.Contains(s, tokenPrefix) && r != s {
			t.Errorf("%q was changed", s)
		}
	})
}

func BenchmarkInfo(b *testing.B) {
	l := New(discard{}, Options{Format: JSON})
	b.ReportAllocs()
	for b.Loop() {
		l.Info("served", KeyService, "svc-storage", KeyRoute, "GET /o/{addr}", KeyLatencyMS, 3)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
