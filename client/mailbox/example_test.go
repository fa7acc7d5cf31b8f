// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/clienttest"
	"github.com/rustyonions/macronode/client/mailbox"
)

// A message is sent, received and acked. Until then it would come again.
func Example() {
	node := clienttest.Start(clienttest.Options{})
	defer node.Close()
	c, err := client.Dial(node.URL(clienttest.OAP), client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx, jobs := context.Background(), mailbox.New(c, "jobs")
	if _, err := jobs.Send(ctx, mailbox.Message{Payload: []byte("resize 17"), Attrs: map[string]string{"by": "web"}}); err != nil {
		fmt.Println(err)
		return
	}
	got, err := jobs.Receive(ctx, mailbox.Want{Max: 10, Wait: time.Second})
	for _, m := range got {
		fmt.Println(m.Attempt, m.Attrs["by"], string(m.Payload))
		_, err = jobs.Ack(ctx, m.Receipt)
	}
	fmt.Println(len(got), err)
	// Output:
	// 1 web resize 17
	// 1 <nil>
}

// The same key is the same message, whoever sends it again within the topic's
// replay window; another message under the key is refused.
func ExampleTopic_Send() {
	node := clienttest.Start(clienttest.Options{})
	defer node.Close()
	c, err := client.Dial(node.URL(clienttest.HTTP), client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx, orders := context.Background(), mailbox.New(c, "orders")
	for _, payload := range []string{"order 4711", "order 4711", "order 4712"} {
		sent, err := orders.Send(ctx, mailbox.Message{Payload: []byte(payload), IdempotencyKey: "4711"})
		var refused *client.Error
		if errors.As(err, &refused) {
			fmt.Println(refused.Code)
			continue
		}
		fmt.Println(sent.Duplicate)
	}
	// Output:
	// false
	// true
	// idempotency_mismatch
}

// A consumer handles messages until its context ends. What fails comes again, and
// becomes a dead letter after the last attempt.
func ExampleConsumer() {
	node := clienttest.Start(clienttest.Options{})
	defer node.Close()
	c, err := client.Dial(node.URL(clienttest.OAP), client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	jobs := mailbox.New(c, "jobs")
	if _, err := jobs.SendBatch(ctx, []mailbox.Message{{Payload: []byte("one")}, {Payload: []byte("two")}}); err != nil {
		fmt.Println(err)
		return
	}
	worker := mailbox.Consumer{From: jobs, Handle: func(_ context.Context, m *mailbox.Delivery) error {
		if m.Attempt == 1 && string(m.Payload) == "one" {
			return mailbox.RetryIn(time.Millisecond, errors.New("not yet"))
		}
		fmt.Println(m.Attempt, string(m.Payload))
		if string(m.Payload) == "one" {
			stop()
		}
		return nil
	}}
	fmt.Println(worker.Run(ctx))
	s, _ := node.Topic("jobs")
	fmt.Println(s.Counts["acked"], "acked")
	// Output:
	// 1 two
	// 2 one
	// <nil>
	// 2 acked
}
