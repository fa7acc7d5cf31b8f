// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package logs makes the node's logger: one JSON object a line on stderr, text
// on a terminal, journald's priority in front where journald reads.
//
// Whatever is logged, a capability never leaves: every line is searched for the
// prefix of token texts as it is written. Addresses of clients are logged only
// as the network that Network returns.
package logs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Names of the attributes that log lines share.
const (
	KeyService      = "service"
	KeyEvent        = "event"
	KeyTraceID      = "trace_id"
	KeyCorrID       = "corr_id"
	KeyTenant       = "tenant"
	KeyCapabilityID = "capability_id"
	KeyRoute        = "route"
	KeyOutcome      = "outcome"
	KeyReason       = "reason"
	KeyLatencyMS    = "latency_ms"
)

// Format is the shape of a line.
type Format string

// The formats.
const (
	Auto Format = "auto" // Text on a terminal, else JSON
	JSON Format = "json"
	Text Format = "text"
)

// ParseFormat reads a format's name; "" is Auto.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case "":
		return Auto, nil
	case Auto, JSON, Text:
		return f, nil
	}
	return "", fmt.Errorf("log format %q is none of auto, json, text", s)
}

// levelOff lies above every level in use.
const levelOff = slog.Level(100)

var levels = map[string]slog.Level{
	"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "": slog.LevelInfo,
	"warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError, "off": levelOff,
}

// ParseLevel reads trace, debug, info, warn, error or off. Of a RUST_LOG list
// ("warn,target=debug") the part without a target counts; "" is info.
func ParseLevel(s string) (slog.Level, error) {
	if len(s) > 1024 {
		return 0, fmt.Errorf("the log level is too long")
	}
	want := ""
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.ToLower(strings.TrimSpace(part)); !strings.Contains(part, "=") && part != "" {
			want = part
		}
	}
	l, ok := levels[want]
	if !ok {
		return 0, fmt.Errorf("log level %q is none of trace, debug, info, warn, error, off", want)
	}
	return l, nil
}

// Options shape a logger.
type Options struct {
	Format Format
	// Level may be changed while the logger is in use; nil is info.
	Level *slog.LevelVar
	// Journald puts "<3>" to "<7>" in front of each line.
	Journald bool
}

// New returns a logger that writes whole lines to w, one Write a line.
func New(w io.Writer, o Options) *slog.Logger {
	if o.Level == nil {
		o.Level = new(slog.LevelVar)
	}
	out := &lineWriter{w: w, journald: o.Journald}
	opt := &slog.HandlerOptions{Level: o.Level, ReplaceAttr: rename}
	if o.Format == Text {
		return slog.New(&handler{inner: slog.NewTextHandler(out, opt), out: out})
	}
	return slog.New(&handler{inner: slog.NewJSONHandler(out, opt), out: out})
}

// NewStderr returns the process's logger: the format is chosen by what stderr
// is, and journald's prefix by whether journald reads it.
func NewStderr(f Format, level *slog.LevelVar) *slog.Logger {
	if f == Auto || f == "" {
		f = JSON
		if term.IsTerminal(int(os.Stderr.Fd())) {
			f = Text
		}
	}
	return New(os.Stderr, Options{Format: f, Level: level, Journald: isJournal(os.Getenv("JOURNAL_STREAM"), int(os.Stderr.Fd()))})
}

// Discard returns logger l, or one that drops everything where l is nil.
func Discard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// isJournal reports whether fd is the stream that JOURNAL_STREAM names by
// device and inode. A service may have been started by one that journald reads
// and write elsewhere itself; hence the comparison.
func isJournal(stream string, fd int) bool {
	dev, ino, ok := strings.Cut(stream, ":")
	if !ok {
		return false
	}
	wantDev, err1 := strconv.ParseUint(dev, 10, 64)
	wantIno, err2 := strconv.ParseUint(ino, 10, 64)
	var st unix.Stat_t
	if err1 != nil || err2 != nil || unix.Fstat(fd, &st) != nil {
		return false
	}
	return uint64(st.Dev) == wantDev && st.Ino == wantIno
}

// rename gives time and level their names and forms: "ts" in UTC with
// milliseconds, "level" in lower case.
func rename(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		if a.Value.Kind() == slog.KindTime {
			return slog.String("ts", a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
		}
	case slog.LevelKey:
		if l, ok := a.Value.Any().(slog.Level); ok {
			return slog.String(slog.LevelKey, levelName(l))
		}
	}
	return a
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	default:
		return "error"
	}
}

// handler tells the line writer each line's level, and adds the trace id of
// the context.
type handler struct {
	inner slog.Handler
	out   *lineWriter
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.inner.Enabled(ctx, l) }

func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	return &handler{h.inner.WithAttrs(as), h.out}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.inner.WithGroup(name), h.out}
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if ctx != nil {
		if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() && !hasAttr(&r, KeyTraceID) {
			r = r.Clone()
			r.AddAttrs(slog.String(KeyTraceID, sc.TraceID().String()))
		}
	}
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.level = r.Level
	return h.inner.Handle(ctx, r)
}

func hasAttr(r *slog.Record, key string) bool {
	found := false
	r.Attrs(func(a slog.Attr) bool {
		found = a.Key == key
		return !found
	})
	return found
}
