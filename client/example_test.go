// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/clienttest"
)

// Both wires do the same; only the address says which it is.
func Example() {
	node := clienttest.Start(clienttest.Options{})
	defer node.Close()
	for _, address := range []string{node.URL(clienttest.HTTP), node.URL(clienttest.OAP)} {
		c, err := client.Dial(address, client.Options{})
		if err != nil {
			fmt.Println(err)
			return
		}
		put, err := c.Put(context.Background(), strings.NewReader("hello\n"), client.PutOptions{ContentType: "text/plain"})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(put.Existed)
		if _, err := c.Get(context.Background(), put.Addr, os.Stdout, client.GetOptions{}); err != nil {
			fmt.Println(err)
		}
		c.Close()
	}
	// Output:
	// false
	// hello
	// true
	// hello
}

// A range is verified as the whole object is, and only what it needs is fetched.
func ExampleClient_GetRange() {
	node := clienttest.Start(clienttest.Options{})
	defer node.Close()
	addr := node.Put([]byte("the quick brown fox"), "text/plain")
	c, err := client.Dial(node.URL(clienttest.OAP), client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	r, err := c.GetRange(context.Background(), addr, 4, 5)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	word := make([]byte, 5)
	n, err := r.Read(word)
	fmt.Printf("%s %v\n", word[:n], err)
	// Output: quick <nil>
}

// Refusals are *Error; those that say "later" were tried again before, within the
// budget of the client and the time of the context.
func ExampleError() {
	node := clienttest.Start(clienttest.Options{})
	defer node.Close()
	node.Inject(clienttest.Fault{Op: "object.post", Effect: clienttest.Refuse(macronode.Overload, time.Millisecond)})
	node.Inject(clienttest.Fault{Op: "object.post", Effect: clienttest.Refuse(macronode.QuotaBytes, 0)})
	c, err := client.Dial(node.URL(clienttest.OAP), client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	_, err = c.Put(context.Background(), strings.NewReader("hello"), client.PutOptions{})
	var refused *client.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.Status, refused.Code, refused.Denied())
	}
	fmt.Println(c.Stats().Retries, "retry")
	// Output:
	// 429 quota_bytes true
	// 1 retry
}
