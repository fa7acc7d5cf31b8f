// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
)

// tokenPrefix begins the text of every capability.
const tokenPrefix = "ron1_"

// redacted stands where a secret stood.
const redacted = "[redacted]"

// lineWriter is the last gate before stderr. mu is held by the handler for the
// whole line, since level belongs to it.
type lineWriter struct {
	w        io.Writer
	journald bool

	mu    sync.Mutex
	level slog.Level
	buf   []byte
}

// Write gets exactly one line from the slog handler and writes it with one call.
func (l *lineWriter) Write(line []byte) (int, error) {
	if !l.journald && !bytes.Contains(line, []byte(tokenPrefix)) {
		if _, err := l.w.Write(line); err != nil {
			return 0, err
		}
		return len(line), nil
	}
	l.buf = l.buf[:0]
	if l.journald {
		l.buf = append(l.buf, '<', priority(l.level), '>')
	}
	l.buf = appendRedacted(l.buf, line)
	if _, err := l.w.Write(l.buf); err != nil {
		return 0, err
	}
	return len(line), nil
}

// priority is the syslog severity as journald reads it.
func priority(l slog.Level) byte {
	switch {
	case l < slog.LevelInfo:
		return '7'
	case l < slog.LevelWarn:
		return '6'
	case l < slog.LevelError:
		return '4'
	default:
		return '3'
	}
}

// appendRedacted copies b to dst, each token replaced as a whole.
func appendRedacted(dst, b []byte) []byte {
	for {
		i := bytes.Index(b, []byte(tokenPrefix))
		if i < 0 {
			return append(dst, b...)
		}
		dst = append(append(dst, b[:i]...), redacted...)
		b = b[i+len(tokenPrefix):]
		n := 0
		for n < len(b) && isTokenByte(b[n]) {
			n++
		}
		b = b[n:]
	}
}

// isTokenByte covers both base64 alphabets and padding: a token that some
// caller re-encoded is one all the same.
func isTokenByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return c == '-' || c == '_' || c == '+' || c == '/' || c == '='
}

// Redact returns s with every capability replaced. What leaves the process by
// another way than the log (events, readiness details) goes through it.
func Redact(s string) string {
	if !strings.Contains(s, tokenPrefix) {
		return s
	}
	return string(appendRedacted(nil, []byte(s)))
}

// Network is how a client's address may be written down: its /24, or its /64
// for IPv6. "" for an invalid address, as of a Unix socket.
func Network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil || !p.IsValid() {
		return ""
	}
	return p.String()
}
