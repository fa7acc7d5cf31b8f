// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/client"
)

// box is a topic of a node's tenant, over one of the wires.
type box struct {
	t     testing.TB
	c     *client.Client
	topic string
}

// box dials over HTTP or OAP/1. Nothing is tried twice.
func (n *node) box(wire, topic string) *box {
	n.t.Helper()
	token, err := os.ReadFile(n.TenantCap)
	if err != nil {
		n.t.Fatal(err)
	}
	at := n.HTTP
	if wire == "oap" {
		at = "oap://" + n.OAP
	}
	c, err := client.Dial(at, client.Options{Token: strings.TrimSpace(string(token)), Retries: -1})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(c.Close)
	return &box{n.t, c, topic}
}

// wiresOf are the wires that a client may use.
var wiresOf = [2]string{"http", "oap"}

func (b *box) call(ctx context.Context, method, path, key string, in, out any) error {
	return b.c.JSON(ctx, method, "/v1/mailbox/"+b.topic+path, key, in, out)
}

// sent is the answer to a message.
type sent struct {
	ID        string `json:"msg_id"`
	Duplicate bool   `json:"duplicate"`
}

// send sends one message, with an idempotency key where that is not empty.
func (b *box) send(ctx context.Context, body []byte, idem string, query url.Values) (out sent, err error) {
	h := http.Header{"Content-Type": {"application/octet-stream"}}
	if idem != "" {
		h.Set("Idempotency-Key", idem)
	}
	path := "/v1/mailbox/" + b.topic + "/messages"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := b.c.Do(ctx, client.Request{Method: "POST", Path: path, Header: h, Body: bytes.NewReader(body), Length: int64(len(body))})
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return out, json.NewDecoder(resp.Body).Decode(&out)
}

// must fails the test where a send did.
func (b *box) must(s sent, err error) sent {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("send: %v", err)
	}
	return s
}

// got is a received message.
type got struct {
	ID      string            `json:"msg_id"`
	Receipt string            `json:"receipt"`
	TS      time.Time         `json:"ts"`
	Attempt int               `json:"attempt"`
	Attrs   map[string]string `json:"attrs"`
	Key     string            `json:"key"`
	Hash    string            `json:"payload_hash"`
	Payload []byte            `json:"payload"`
}

type pull struct {
	Max        int   `json:"max_messages,omitempty"`
	Visibility int64 `json:"visibility_ms,omitempty"`
	Wait       int64 `json:"wait_ms,omitempty"`
}

func (b *box) receive(ctx context.Context, a pull) ([]got, error) {
	var out struct{ Messages []got }
	err := b.call(ctx, "POST", "/receive", "", a, &out)
	return out.Messages, err
}

// take receives, which must work.
func (b *box) take(a pull) []got {
	b.t.Helper()
	list, err := b.receive(b.t.Context(), a)
	if err != nil {
		b.t.Fatalf("receive: %v", err)
	}
	return list
}

// outcome is what became of a receipt.
type outcome struct {
	OK   bool
	Code string
}

// settle acknowledges (or "nack", "extend" with more) receipts.
func (b *box) settle(ctx context.Context, verb string, list []got, more map[string]any) ([]outcome, error) {
	in := map[string]any{}
	for k, v := range more {
		in[k] = v
	}
	receipts := make([]string, len(list))
	for i := range list {
		receipts[i] = list[i].Receipt
	}
	in["receipts"] = receipts
	var out struct{ Results []outcome }
	if err := b.call(ctx, "POST", "/"+verb, "", in, &out); err != nil {
		return nil, err
	}
	if len(out.Results) != len(list) {
		return nil, fmt.Errorf("%d results for %d receipts", len(out.Results), len(list))
	}
	return out.Results, nil
}

// done settles receipts, all of which must be good.
func (b *box) done(verb string, list []got, more map[string]any) {
	b.t.Helper()
	results, err := b.settle(b.t.Context(), verb, list, more)
	if err != nil {
		b.t.Fatalf("%s: %v", verb, err)
	}
	for i, r := range results {
		if !r.OK {
			b.t.Fatalf("%s: receipt %d: %s", verb, i, r.Code)
		}
	}
}

// configure makes the topic.
func (b *box) configure(conf map[string]any) {
	b.t.Helper()
	if err := b.call(b.t.Context(), "PUT", "", "", conf, nil); err != nil {
		b.t.Fatalf("config of the topic: %v", err)
	}
}

// standing is how a topic stands.
type standing struct {
	Depth struct {
		Ready, Delayed, Dead int64
		InFlight             int64 `json:"in_flight"`
	}
	Counts struct {
		Sent, Acked, Expired, Purged, Deleted int64
		MovedIn                               int64 `json:"moved_in"`
		MovedOut                              int64 `json:"moved_out"`
	}
}

// stand asks how the topic stands, whose counts must add up.
func (b *box) stand() (s standing) {
	b.t.Helper()
	if err := b.call(b.t.Context(), "GET", "", "", nil, &s); err != nil {
		b.t.Fatalf("topic: %v", err)
	}
	d, c := s.Depth, s.Counts
	if in, out := c.Sent+c.MovedIn, d.Ready+d.Delayed+d.InFlight+d.Dead+c.Acked+c.Expired+c.Purged+c.Deleted+c.MovedOut; in != out {
		b.t.Errorf("%d messages came in, %d are accounted for: %+v", in, out, s)
	}
	return s
}

// dead is a dead letter.
type dead struct {
	ID        string `json:"msg_id"`
	Reason    string
	Attempts  int
	LastError string `json:"last_error"`
	TS        time.Time
	Payload   []byte
}

func (b *box) graveyard() []dead {
	b.t.Helper()
	var out struct{ Messages []dead }
	if err := b.call(b.t.Context(), "GET", "/dlq", "", nil, &out); err != nil {
		b.t.Fatalf("dead letters: %v", err)
	}
	return out.Messages
}

// refusedAs reports whether err is a refusal with this status and code.
func refusedAs(err error, status int, code string) bool {
	var p *client.Error
	return errors.As(err, &p) && p.Status == status && p.Code == code
}

// TestMailboxWires drives the same topic over both wires in turn: what is sent over
// one is received over the other, with attributes, delays and every way to settle.
func TestMailboxWires(t *testing.T) {
	n := startDev(t, t.TempDir())
	web, oap := n.box("http", "orders"), n.box("oap", "orders")
	for i, pair := range [][2]*box{{web, oap}, {oap, web}} {
		from, to := pair[0], pair[1]
		body := content(uint64(i), 3000+i)
		id := from.must(from.send(t.Context(), body, "", url.Values{"attr": {"kind:order"}, "key": {"k"}})).ID
		list := to.take(pull{Max: 10, Visibility: 60_000, Wait: 10_000})
		if len(list) != 1 || list[0].ID != id || !bytes.Equal(list[0].Payload, body) || list[0].Attempt != 1 || list[0].Attrs["kind"] != "order" || list[0].Key != "k" || time.Since(list[0].TS).Abs() > time.Hour {
			t.Fatalf("%d messages of 1, %+v", len(list), summary(list))
		}
		if more := from.take(pull{Max: 10}); len(more) != 0 {
			t.Errorf("a message that is hidden came: %v", summary(more))
		}
		to.done("extend", list, map[string]any{"visibility_ms": 90_000})
		from.done("nack", list, map[string]any{"delay_ms": 0, "reason": "not now"})
		again := to.take(pull{Wait: 10_000})
		if len(again) != 1 || again[0].ID != id || again[0].Attempt != 2 || again[0].Receipt == list[0].Receipt {
			t.Fatalf("after a nack: %v", summary(again))
		}
		if _, err := from.settle(t.Context(), "ack", list, nil); !refusedAs(err, 409, "lease_lost") {
			t.Errorf("a stale receipt: %v", err)
		}
		from.done("ack", again, nil)
		if s := from.stand(); s.Counts.Acked != int64(i+1) || s.Depth.Ready+s.Depth.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	}
	if _, err := n.box("oap", "none").receive(t.Context(), pull{}); !refusedAs(err, 404, "not_found") {
		t.Errorf("a topic that is not there: %v", err)
	}
}

// summary shows messages without their payloads.
func summary(list []got) (out []string) {
	for _, g := range list {
		out = append(out, fmt.Sprintf("%s attempt %d key %q, %d bytes", g.ID, g.Attempt, g.Key, len(g.Payload)))
	}
	return out
}
