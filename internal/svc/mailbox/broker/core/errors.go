// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"errors"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/stored"
)

// Outcomes that callers tell apart with errors.Is. Those that reach a caller are
// wrapped in a macronode.Error of the kind named here, with a wait where one helps.
var (
	ErrNoTopic   = errors.New("mailbox: no such topic")                 // NotFound
	ErrNoMessage = errors.New("mailbox: no such message")               // NotFound
	ErrNoJob     = errors.New("mailbox: no such job")                   // NotFound
	ErrTopics    = errors.New("mailbox: too many topics")               // QuotaDepth
	ErrDepth     = errors.New("mailbox: the topic is full")             // QuotaDepth
	ErrBytes     = errors.New("mailbox: the topic's bytes are used up") // QuotaDepth
	ErrAge       = errors.New("mailbox: the oldest message is too old") // QuotaDepth
	ErrInFlight  = errors.New("mailbox: too many messages in flight")   // QuotaInFlight
	ErrDedupFull = errors.New("mailbox: too many idempotency keys")     // QuotaDepth
	ErrTooLarge  = errors.New("mailbox: message too large")             // TooLarge
	ErrMismatch  = errors.New("mailbox: the key was used for another")  // IdempotencyMismatch
	ErrLeaseLost = errors.New("mailbox: the lease was lost")            // LeaseLost
	ErrReceipt   = errors.New("mailbox: not a receipt of this topic")   // Malformed
	ErrCursor    = errors.New("mailbox: not a cursor of this list")     // Malformed
	ErrInvalid   = errors.New("mailbox: not acceptable")                // Invalid
	ErrFailed    = errors.New("mailbox: the log failed")                // Unavailable
	ErrStopped   = errors.New("mailbox: stopped")                       // Draining
	errDamaged   = stored.ErrDamaged
)

var kinds = map[error]macronode.Kind{
	ErrNoTopic: macronode.NotFound, ErrNoMessage: macronode.NotFound, ErrNoJob: macronode.NotFound,
	ErrTopics: macronode.QuotaDepth, ErrDepth: macronode.QuotaDepth, ErrBytes: macronode.QuotaDepth, ErrAge: macronode.QuotaDepth,
	ErrInFlight: macronode.QuotaInFlight, ErrDedupFull: macronode.QuotaDepth,
	ErrTooLarge: macronode.TooLarge, ErrMismatch: macronode.IdempotencyMismatch,
	ErrLeaseLost: macronode.LeaseLost, ErrReceipt: macronode.Malformed, ErrCursor: macronode.Malformed,
	ErrInvalid: macronode.Invalid, ErrFailed: macronode.Unavailable, ErrStopped: macronode.Draining,
}

// Refuse gives a sentinel its kind, words for the caller, and a wait.
func Refuse(sentinel error, detail string, wait time.Duration) error {
	return &macronode.Error{Kind: kinds[sentinel], Detail: detail, RetryAfter: wait, Err: sentinel}
}

// Failed is what an error of the log means to a caller: a full disk is told as
// that; anything else is the end of this run, and an answer that is not known.
func Failed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrFull):
		return store.Refusal(err)
	case errors.Is(err, store.ErrTooLarge):
		return Refuse(ErrTooLarge, "the message does not fit into a record", 0)
	}
	if _, ok := errors.AsType[*macronode.Error](err); ok {
		return err
	}
	if refusal := macronode.AsError(store.Refusal(err)); refusal.Kind == macronode.ClientGone || refusal.Kind == macronode.DeadlineExceeded {
		return refusal
	}
	return &macronode.Error{Kind: macronode.Unavailable, Err: errors.Join(ErrFailed, err)}
}
