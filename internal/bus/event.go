// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bus

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/internal/logs"
)

// Names of the kernel events.
const (
	NameHealth         = "Health"
	NameConfigUpdated  = "ConfigUpdated"
	NameServiceCrashed = "ServiceCrashed"
	NameDrain          = "Drain"
	NameShutdown       = "Shutdown"
	NameAdmission      = "Admission"
)

// maxTextBytes bounds a text field of an event.
const maxTextBytes = 256

// Event is something the kernel did or noticed.
type Event struct {
	// Seq is the place in the order of events, from 1 at process start; Publish sets it.
	Seq uint64
	// Time is set by Publish where it is zero.
	Time time.Time
	Name string
	// Service is the one it is about; "" where it is about the node.
	Service string
	// Fields belong to the event's literal form, in this order.
	Fields []Field
	// Extra says more, beside the literal form.
	Extra []Field
}

// Field is one named value: a string, bool, int64 or uint64.
type Field struct {
	Key   string
	Value any
}

// Health says that a service became able, or unable, to do its work.
func Health(service string, ok bool, why string) Event {
	e := Event{Name: NameHealth, Service: service, Fields: []Field{{"service", service}, {"ok", ok}}}
	if why != "" {
		e.Extra = []Field{{"reason", clean(why)}}
	}
	return e
}

// ConfigUpdated says that a config bundle was applied.
func ConfigUpdated(version uint64, bundleHash, signer string) Event {
	return Event{Name: NameConfigUpdated, Fields: []Field{{"version", version}},
		Extra: []Field{{"bundle_hash", clean(bundleHash)}, {"signer", clean(signer)}}}
}

// ServiceCrashed says that a service's run ended in an error or a panic, which
// was contained.
func ServiceCrashed(service, reason string) Event {
	return Event{Name: NameServiceCrashed, Service: service, Fields: []Field{{"service", service}, {"reason", clean(reason)}}}
}

// Drain says which phase of draining was reached and how many calls are left.
func Drain(phase string, left int) Event {
	return Event{Name: NameDrain, Fields: []Field{{"phase", phase}}, Extra: []Field{{"left", int64(left)}}}
}

// Admission says that calls of a class are being refused, or no more.
func Admission(class, state, cause, why string) Event {
	e := Event{Name: NameAdmission, Fields: []Field{{"class", class}, {"state", state}, {"cause", cause}}}
	if why != "" {
		e.Extra = []Field{{"reason", clean(why)}}
	}
	return e
}

// Shutdown says that the node is about to stop.
func Shutdown(why string) Event {
	e := Event{Name: NameShutdown}
	if why != "" {
		e.Extra = []Field{{"reason", clean(why)}}
	}
	return e
}

// clean makes text fit for one line of a log: bounded, without line breaks and
// without capabilities.
func clean(s string) string {
	s = logs.Redact(s)
	if len(s) > maxTextBytes {
		s = s[:maxTextBytes]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

// String is the literal form that operators grep for:
// "KernelEvent::Health{service=svc-storage, ok=false}".
func (e *Event) String() string {
	var b strings.Builder
	b.WriteString("KernelEvent::")
	b.WriteString(e.Name)
	if len(e.Fields) == 0 {
		return b.String()
	}
	b.WriteByte('{')
	for i, f := range e.Fields {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(f.Key)
		b.WriteByte('=')
		switch v := f.Value.(type) {
		case string:
			b.WriteString(v)
		case bool:
			b.WriteString(strconv.FormatBool(v))
		case int64:
			b.WriteString(strconv.FormatInt(v, 10))
		case uint64:
			b.WriteString(strconv.FormatUint(v, 10))
		}
	}
	b.WriteByte('}')
	return b.String()
}

// Attrs returns the fields but for service, for documents.
func (e *Event) Attrs() map[string]any {
	m := make(map[string]any, len(e.Fields)+len(e.Extra))
	for _, fs := range [...][]Field{e.Fields, e.Extra} {
		for _, f := range fs {
			if f.Key != logs.KeyService {
				m[f.Key] = f.Value
			}
		}
	}
	return m
}

// level is how loud the event is in the log.
func (e *Event) level() slog.Level {
	switch e.Name {
	case NameServiceCrashed:
		return slog.LevelError
	case NameBreaker:
		if len(e.Fields) > 1 && e.Fields[1].Value == "open" {
			return slog.LevelWarn
		}
	case NameAdmission:
		for _, f := range e.Fields {
			if f.Key == "state" && f.Value == "shedding" {
				return slog.LevelWarn
			}
		}
	case NameHealth:
		for _, f := range e.Fields {
			if f.Key == "ok" && f.Value == false {
				return slog.LevelWarn
			}
		}
	}
	return slog.LevelInfo
}

// logAttrs are the fields each on its own, with the event's name.
func (e *Event) logAttrs() []slog.Attr {
	as := make([]slog.Attr, 0, 2+len(e.Fields)+len(e.Extra))
	as = append(as, slog.String(logs.KeyEvent, e.Name), slog.Uint64("seq", e.Seq))
	for _, fs := range [...][]Field{e.Fields, e.Extra} {
		for _, f := range fs {
			as = append(as, slog.Any(f.Key, f.Value))
		}
	}
	return as
}
