// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package room

import (
	"testing"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

func TestAccounts(t *testing.T) {
	var s Segments
	s.Placed(queue.Freed{Segment: 1, Messages: 2, Bytes: 32})
	e := queue.Effect{Placed: []queue.Freed{{Segment: 2, Messages: 1, Bytes: 8}}, Freed: []queue.Freed{{Segment: 1, Messages: 1, Bytes: 16}}}
	s.Add(&e)
	s.Add(&e) // taken over already
	if got := s.Of(1); got != (Holding{1, 16}) {
		t.Errorf("segment 1 holds %+v", got)
	}
	if got := s.Of(2); got != (Holding{1, 8}) {
		t.Errorf("segment 2 holds %+v", got)
	}
	s.Add(&queue.Effect{Freed: []queue.Freed{{Segment: 1, Messages: 1, Bytes: 16}}})
	if got := s.Of(1); got != (Holding{}) || len(s.live) != 1 {
		t.Errorf("an empty segment holds %+v", got)
	}
}
