// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clienttest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client/mailbox"
)

// follower is a subscription through all of its streams.
type follower struct {
	next   int
	leases map[string]int // by receipt, its number
}

// mailSubscribe pushes messages until the caller is gone.
func (x *exchange) mailSubscribe(topic string) error {
	if _, err := x.n.box.Topic(topic); err != nil {
		return err
	}
	credit := defaultCredit
	if text := x.arg("credit"); text != "" {
		var err error
		if credit, err = strconv.Atoi(text); err != nil || credit < 1 || credit > maxPage {
			return macronode.Errorf(macronode.Malformed, "credit is 1 to %d", maxPage)
		}
	}
	visibility, err := x.millis("visibility_ms")
	if err != nil {
		return err
	}
	cursor := x.arg("cursor")
	if cursor == "" {
		cursor = x.r.Header.Get("Last-Event-Id")
	}
	id, f, surplus := x.n.follow(topic, cursor)
	if len(surplus) > 0 {
		_, _ = x.n.box.Nack(topic, surplus, new(time.Duration), "")
	}
	seq := x.r.Header.Get("Accept") == "application/cbor-seq"
	x.w.Header().Set("Content-Type", map[bool]string{true: "application/cbor-seq", false: "text/event-stream"}[seq])
	x.w.WriteHeader(200)
	for ctx := x.r.Context(); ctx.Err() == nil; {
		if err := x.beat(seq); err != nil {
			break
		}
		x.n.mu.Lock()
		receipts := make([]string, 0, len(f.leases))
		for r := range f.leases {
			receipts = append(receipts, r)
		}
		x.n.mu.Unlock()
		held, changed := x.n.box.Held(topic, receipts)
		if len(held) >= credit {
			x.pause(ctx, changed)
			continue
		}
		got, err := x.n.box.Receive(ctx, topic, mailbox.Want{Max: credit - len(held), Visibility: visibility, Wait: mailBeat})
		if err != nil {
			break
		}
		x.spoil(got)
		for _, m := range got {
			if x.push(seq, id, f, m) != nil {
				_, _ = x.n.box.Nack(topic, []string{m.Receipt}, new(time.Duration), "")
			}
		}
	}
	return nil
}

// pause waits for a change; leases may also end by themselves.
func (x *exchange) pause(ctx context.Context, changed chan struct{}) {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
	}
}

// follow finds the subscription of a cursor, or makes one. What it was sent behind
// the cursor never arrived.
func (n *Node) follow(topic, cursor string) (id string, f *follower, surplus []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id, after, _ := strings.Cut(cursor, ".")
	if f = n.followers[topic+" "+id]; f == nil {
		id = strconv.Itoa(len(n.followers) + 1)
		f = &follower{leases: map[string]int{}}
		n.followers[topic+" "+id] = f
		return id, f, nil
	}
	last, _ := strconv.Atoi(after)
	for r, at := range f.leases {
		if at > last {
			surplus = append(surplus, r)
			delete(f.leases, r)
		}
	}
	return id, f, surplus
}

func (x *exchange) beat(seq bool) error {
	if seq {
		return x.flush([]byte{0xf6})
	}
	return x.flush([]byte(": still here\n\n"))
}

func (x *exchange) push(seq bool, id string, f *follower, m mailbox.Delivery) error {
	x.n.mu.Lock()
	f.next++
	cursor := id + "." + strconv.Itoa(f.next)
	f.leases[m.Receipt] = f.next
	x.n.mu.Unlock()
	with := struct {
		mailbox.Delivery
		Cursor string `json:"cursor"`
	}{m, cursor}
	if seq {
		text, err := inCBOR(with)
		if err != nil {
			return err
		}
		return x.flush(text)
	}
	text, err := json.Marshal(with)
	if err != nil {
		return err
	}
	return x.flush(fmt.Appendf(nil, "id: %s\nevent: message\ndata: %s\n\n", cursor, text))
}

func (x *exchange) flush(text []byte) error {
	_, err := x.w.Write(text)
	if f, ok := x.w.(http.Flusher); ok {
		f.Flush()
	}
	return err
}
