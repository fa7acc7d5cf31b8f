// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"errors"
	"fmt"

	"github.com/rustyonions/macronode/oap/mux/flow"
)

// Errors of sessions and streams; see the package's description.
var (
	ErrClosed   = errors.New("mux: the session is over")
	ErrDraining = errors.New("mux: the session takes no new streams")
	ErrCanceled = errors.New("mux: the stream was cancelled")
	ErrStalled  = errors.New("mux: the other side did not read in time")
	// ErrAnswered ends writing on a stream whose answer came before the
	// request's end; the answer can still be read.
	ErrAnswered = errors.New("mux: the answer is complete")

	errIdle      = errors.New("mux: idle")
	errTruncated = errors.New("mux: no byte of the frame came in time")
	errHello     = errors.New("mux: no HELLO in time")
	errEnded     = errors.New("mux: nothing can be sent after the end")
	errOrder     = errors.New("mux: an answer begins with its head")
	errTwice     = errors.New("mux: Run was called before")
	errTooLong   = errors.New("mux: it does not fit into one frame")
)

// StreamError is the answer that ended a stream: Code is at least 400, Problem
// the problem document, if there was one.
type StreamError struct {
	Code    uint16
	Problem []byte

	cause error
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("mux: the stream was answered with %d", e.Code)
}

// Unwrap gives ErrDraining where the stream was refused because of GOAWAY.
func (e *StreamError) Unwrap() error { return e.cause }

// Refused is the error of a session that the other side ended with one error
// frame.
type Refused struct{ StreamError }

func (e *Refused) Error() string {
	return fmt.Sprintf("mux: the other side refused the connection with %d", e.Code)
}

// Fault is the error of a session that this side ended because of what the
// other side sent.
type Fault struct {
	Reason string // one of Reasons
	Code   uint16 // of the error frame that was sent: 400 or 413
	text   string
}

func (e *Fault) Error() string { return "mux: refused: " + e.text }

// Kind is what a frame is for: one of flow's constants.
type Kind = flow.Kind

// Reasons are all values that Observer.Reject gets, Kinds the names of the
// kinds, by their number.
var (
	Reasons = flow.Reasons
	Kinds   = flow.Kinds
)

// Observer counts. Its methods are called with the session locked, so they must
// be quick and call nothing of it.
type Observer interface {
	Frame(out bool, k Kind)
	Reject(reason string)
}

type nobody struct{}

func (nobody) Frame(bool, Kind) {}
func (nobody) Reject(string)    {}
