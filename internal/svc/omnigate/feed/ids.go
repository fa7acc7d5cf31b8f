// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// ids makes the ids of posts, each greater than the one before.
type ids struct {
	mu   sync.Mutex
	last ulid.ULID
}

// next returns an id of this time, or of the last one's where the clock went back.
// Within a millisecond ids grow by chance, so that a tenant cannot count what others
// publish.
func (g *ids) next(now time.Time) (id ulid.ULID) {
	var chance [10]byte
	_, _ = rand.Read(chance[:]) // which does not fail
	g.mu.Lock()
	defer g.mu.Unlock()
	ms := ulid.Timestamp(now)
	if ms > g.last.Time() {
		_ = id.SetTime(ms) // until the year 10889
		copy(id[6:], chance[:])
		id[6] &= 0x7f // room to grow
		g.last = id
		return id
	}
	id = g.last
	step := uint64(binary.BigEndian.Uint32(chance[:])) + 1
	low := binary.BigEndian.Uint64(id[8:])
	binary.BigEndian.PutUint64(id[8:], low+step)
	if low+step < low {
		high := binary.BigEndian.Uint64(id[:8]) + 1
		binary.BigEndian.PutUint64(id[:8], high)
	}
	g.last = id
	return id
}
