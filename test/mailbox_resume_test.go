// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rustyonions/macronode/client/mailbox"
)

// TestKillSubscription kills the node with -9 under a subscription, over each wire: the
// cursor of what came last goes on in the next run. What came before it is still
// leased, under the receipts that were given, and counts against the credit; what was
// on its way comes again at once, though its visibility is far from over.
func TestKillSubscription(t *testing.T) {
	n := startDev(t, t.TempDir())
	for _, wire := range wiresOf {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		b := n.box(wire, "pushed-"+wire)
		for i := range 10 {
			b.must(b.send(ctx, fmt.Append(nil, i), "", nil))
		}
		read := func(b *box, cursor string) ([]*mailbox.Delivery, string) {
			t.Helper()
			s := mailbox.New(b.c, b.topic).Subscribe(ctx, mailbox.Follow{Credit: 4, Visibility: time.Hour, Cursor: cursor})
			defer s.Close()
			var list []*mailbox.Delivery
			for range 2 {
				d, err := s.Next()
				if err != nil {
					t.Fatalf("%s: %v\n%s", wire, err, n.log)
				}
				list = append(list, d)
			}
			for b.stand().Depth.InFlight != 4 {
				if ctx.Err() != nil {
					t.Fatalf("%s: %+v with a credit of 4", wire, b.stand())
				}
			}
			return list, s.Cursor()
		}
		first, cursor := read(b, "")
		n.kill()
		n.start()
		b = n.box(wire, b.topic)
		again, _ := read(b, cursor)
		var came []string
		for _, d := range slices.Concat(first, again) {
			came = append(came, fmt.Sprintf("%s/%d", d.Payload, d.Attempt))
		}
		if want := []string{"0/1", "1/1", "2/2", "3/2"}; !slices.Equal(came, want) {
			t.Errorf("%s: %v came, want %v", wire, came, want)
		}
		for _, d := range slices.Concat(first, again) {
			b.done("ack", []got{{Receipt: d.Receipt}}, nil)
		}
		if s := b.stand(); s.Depth.Ready != 6 || s.Depth.InFlight != 0 || s.Counts.Acked != 4 {
			t.Errorf("%s: %+v", wire, s)
		}
	}
}
