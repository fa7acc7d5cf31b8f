// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

// Want says what to receive. The zero value is one message that is there now.
type Want struct {
	Max      int   // messages at most; 0: 1
	MaxBytes int64 // of all of them, though one comes at least; 0: the node's limit
	// Visibility is how long they are hidden from others; 0: the topic's.
	Visibility time.Duration
	// Wait is how long to wait where there is none; the node bounds it.
	Wait time.Duration
}

// Delivery is a message that was received.
type Delivery struct {
	MsgID   string    `json:"msg_id"`
	Receipt string    `json:"receipt"` // of this delivery, for Ack, Nack and Extend
	Topic   string    `json:"topic"`
	Time    time.Time `json:"ts"`      // when it was sent, by the node's clock
	Attempt int       `json:"attempt"` // 1 at first
	// Attrs and Key are the sender's; CorrID is of the call that sent it.
	Attrs  map[string]string `json:"attrs,omitempty"`
	Key    string            `json:"key,omitempty"`
	CorrID string            `json:"corr_id,omitempty"`
	// Hash is the payload's. Payloads that do not match theirs are not handed out.
	Hash    b3.Addr `json:"payload_hash"`
	Payload []byte  `json:"payload"`
}

// Receive returns messages, oldest first, and hides them from others. None is no
// error. An error may come beside messages: it tells that others came damaged
// (client.ErrIntegrity), which come again once their visibility ends.
//
// It is not repeated where a connection broke: messages may be on their way then,
// and come again once their visibility ends.
func (t *Topic) Receive(ctx context.Context, w Want) ([]Delivery, error) {
	path, err := t.path("/receive", nil)
	if err != nil {
		return nil, err
	}
	in := struct {
		Max        int   `json:"max_messages,omitempty"`
		MaxBytes   int64 `json:"max_bytes,omitempty"`
		Visibility int64 `json:"visibility_ms,omitempty"`
		Wait       int64 `json:"wait_ms,omitempty"`
	}{w.Max, w.MaxBytes, millis(w.Visibility), millis(w.Wait)}
	var out struct {
		Messages []Delivery `json:"messages"`
	}
	if err := t.ask(ctx, question{method: "POST", path: path, accept: t.form(), in: in}, &out); err != nil {
		return nil, err
	}
	return verified(out.Messages)
}

// verified keeps the messages whose payload is what its hash says.
func verified(all []Delivery) (good []Delivery, err error) {
	for i := range all {
		if b3.Sum(all[i].Payload) == all[i].Hash {
			good = append(good, all[i])
			continue
		}
		err = errors.Join(err, fmt.Errorf("message %.30q: %w", all[i].MsgID, client.ErrIntegrity))
	}
	return good, err
}

// Outcome is what became of a receipt.
type Outcome struct {
	Receipt string
	MsgID   string // "" where Err is set
	Err     error  // nil, ErrLeaseLost, ErrReceipt or a *client.Error
}

// Ack says that messages are done with: once it returns without an error they are
// durably so, and never come again. The outcomes are in the order of the receipts;
// there are none where the call failed. The error is nil where all went well, else
// the first outcome's or the call's. An outcome changes nothing for the others.
func (t *Topic) Ack(ctx context.Context, receipts ...string) ([]Outcome, error) {
	return t.settle(ctx, "/ack", receipts, struct {
		Receipts []string `json:"receipts"`
	}{receipts})
}

// Nack gives messages back: they are delivered again after delay, or where that is
// nil after a back-off of the node's, which grows with the attempts up to a minute.
// After the last attempt that the topic allows they become dead letters. The
// reason is kept with the message. Outcomes are as Ack's.
func (t *Topic) Nack(ctx context.Context, delay *time.Duration, reason string, receipts ...string) ([]Outcome, error) {
	in := struct {
		Receipts []string `json:"receipts"`
		Delay    *int64   `json:"delay_ms,omitempty"`
		Reason   string   `json:"reason,omitempty"`
	}{Receipts: receipts, Reason: reason}
	if delay != nil {
		ms := millis(*delay)
		in.Delay = &ms
	}
	return t.settle(ctx, "/nack", receipts, in)
}

// Extend hides messages for visibility from now on, in place of what is left.
// Outcomes are as Ack's.
func (t *Topic) Extend(ctx context.Context, visibility time.Duration, receipts ...string) ([]Outcome, error) {
	return t.settle(ctx, "/extend", receipts, struct {
		Receipts   []string `json:"receipts"`
		Visibility int64    `json:"visibility_ms"`
	}{receipts, millis(visibility)})
}

// settle makes a call about receipts. It may be repeated: a receipt that did its
// work is stale, and a stale one changes nothing.
func (t *Topic) settle(ctx context.Context, verb string, receipts []string, in any) ([]Outcome, error) {
	if len(receipts) == 0 {
		return nil, nil
	}
	path, err := t.path(verb, nil)
	if err != nil {
		return nil, err
	}
	var out struct {
		Results []struct {
			Receipt string `json:"receipt"`
			MsgID   string `json:"msg_id"`
			OK      bool   `json:"ok"`
			refusalJSON
		} `json:"results"`
	}
	err = t.ask(ctx, question{method: "POST", path: path, accept: formJSON, in: in, repeat: true}, &out)
	outcomes := make([]Outcome, len(receipts))
	var refused *client.Error
	switch {
	case errors.As(err, &refused) && refused.Status == http.StatusConflict && refused.Code == macronode.LeaseLost.String():
		for i, r := range receipts {
			outcomes[i] = Outcome{Receipt: r, Err: ErrLeaseLost}
		}
		return outcomes, lost(len(receipts), len(receipts), fmt.Errorf("%w: %w", ErrLeaseLost, err))
	case err != nil:
		return nil, err
	case len(out.Results) != len(receipts):
		return nil, errResults
	}
	failed := 0
	for i := range out.Results {
		r := &out.Results[i]
		if r.Receipt != receipts[i] {
			return nil, errResults
		}
		outcomes[i] = Outcome{Receipt: r.Receipt, MsgID: r.MsgID}
		if r.OK {
			continue
		}
		if outcomes[i].MsgID, outcomes[i].Err = "", r.err(); outcomes[i].Err == nil {
			outcomes[i].Err = errors.New("refused without a code")
		}
		if failed++; failed == 1 {
			err = outcomes[i].Err
		}
	}
	if failed > 0 {
		err = lost(failed, len(receipts), err)
	}
	return outcomes, err
}

// lost tells how many receipts did nothing.
func lost(failed, of int, first error) error {
	if of == 1 {
		return first
	}
	return fmt.Errorf("%d of %d receipts did nothing, the first: %w", failed, of, first)
}
