// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rustyonions/macronode"
)

// Error is a node's refusal.
type Error struct {
	macronode.Problem
	RetryAfter time.Duration // asked for by the node, at most a day; 0: none
	again      bool          // with another capability it may be taken
}

func (e *Error) Error() string {
	s := e.Title
	if s == "" {
		s = http.StatusText(e.Status)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	s += " (" + strconv.Itoa(e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.CorrID != "" {
		s += ", corr_id " + e.CorrID
	}
	return strings.Map(printable, s+")")
}

// printable keeps a node from steering the terminal that its text ends up on.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

// Denied reports whether auth, policy or quota refused.
func (e *Error) Denied() bool {
	return e.Status == 401 || e.Status == 403 || e.Status == 429
}

func refusal(resp *http.Response) *Error {
	e := &Error{}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxProblemBytes))
	if err != nil || json.Unmarshal(text, &e.Problem) != nil || e.Problem.Status == 0 {
		e.Problem = macronode.Problem{Title: http.StatusText(resp.StatusCode), CorrID: resp.Header.Get("X-Corr-Id")}
		e.Retryable = resp.StatusCode == 503 || resp.StatusCode == 429
	}
	e.Problem.Status = resp.StatusCode
	// What the node asks for is bounded before it is multiplied.
	const most = int64(24 * time.Hour / time.Millisecond)
	e.RetryAfter = time.Duration(min(max(e.RetryAfterMS, 0), most)) * time.Millisecond
	if s, err := strconv.ParseInt(resp.Header.Get("Retry-After"), 10, 64); err == nil && e.RetryAfter == 0 {
		e.RetryAfter = time.Duration(min(max(s, 0), most/1000)) * time.Second
	}
	return e
}
