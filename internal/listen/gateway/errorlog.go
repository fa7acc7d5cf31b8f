// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"net/netip"
	"regexp"

	"github.com/rustyonions/macronode/internal/listen"
)

// addrPattern finds what may be an IP address, with or without a port.
var addrPattern = regexp.MustCompile(`\[[0-9a-fA-F:.%]+[0-9a-zA-Z]*\](:\d+)?|\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b|[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F.]*`)

// newErrorLog takes what net/http has to say about connections (failed reads,
// broken clients) to the debug level, without full client addresses.
func newErrorLog(l *slog.Logger) *log.Logger { return log.New(errorLog{l}, "", 0) }

type errorLog struct{ log *slog.Logger }

func (e errorLog) Write(b []byte) (int, error) {
	if e.log.Enabled(context.Background(), slog.LevelDebug) {
		e.log.Debug(redact(string(bytes.TrimSpace(b))), "event", "http")
	}
	return len(b), nil
}

// redact cuts every address in s to its /24 or /64.
func redact(s string) string {
	return addrPattern.ReplaceAllStringFunc(s, func(m string) string {
		if ap, err := netip.ParseAddrPort(m); err == nil {
			return listen.RedactAddr(ap.Addr())
		}
		if m[0] == '[' && m[len(m)-1] == ']' {
			m = m[1 : len(m)-1]
		}
		if a, err := netip.ParseAddr(m); err == nil {
			return listen.RedactAddr(a)
		}
		return m
	})
}
