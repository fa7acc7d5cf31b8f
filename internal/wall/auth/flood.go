// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auth

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
)

// The bucket of failed authentications that each address has.
const (
	floodPerSecond = 100
	floodBurst     = 1000

	// One failure takes floodStep of the time that floodWindow is.
	floodStep   = time.Second / floodPerSecond
	floodWindow = floodBurst * floodStep
)

// Bounds of the table, over all shards.
const (
	floodShards    = 16
	floodAddresses = 16384
	// floodSample is how many entries are weighed to make room for one.
	floodSample = 8
)

// floods counts failed authentications by address. An entry is one time: when
// the address's bucket is full again. Addresses with a full bucket need no entry.
//
// The table is bounded. When it is full, of a few entries the one with the
// fewest failures gives way, so one who fails from ever new addresses cannot
// clear the name of one who fails a lot; nor can he lock others out.
type floods struct {
	seed    maphash.Seed
	start   time.Time
	tracked atomic.Int64
	shards  [floodShards]floodShard
}

type floodShard struct {
	mu   sync.Mutex
	full map[floodKey]time.Duration // since start
}

// floodKey is an IPv4 address (mapped into IPv6), an IPv6 /64, or a user of a
// Unix socket.
type floodKey [16]byte

func newFloods(start time.Time) *floods {
	f := &floods{seed: maphash.MakeSeed(), start: start}
	for i := range f.shards {
		f.shards[i].full = make(map[floodKey]time.Duration)
	}
	return f
}

func keyOf(p *macronode.Peer) (k floodKey) {
	a := p.Addr.Unmap()
	switch {
	case p.UDS || !a.IsValid():
		// The second half of a /64 is zero, and a mapped IPv4's begins so.
		k[8] = 1
		binary.BigEndian.PutUint32(k[12:], p.UID)
	case a.Is4():
		k = a.As16()
	default:
		k = a.As16()
		clear(k[8:])
	}
	return k
}

func (f *floods) shard(k *floodKey) *floodShard {
	return &f.shards[maphash.Bytes(f.seed, k[:])%floodShards]
}

// wait returns how long the address has to wait before it may fail again; zero
// where it need not.
func (f *floods) wait(p *macronode.Peer, now time.Time) time.Duration {
	if f.tracked.Load() == 0 {
		return 0
	}
	k := keyOf(p)
	s := f.shard(&k)
	at := now.Sub(f.start)
	s.mu.Lock()
	defer s.mu.Unlock()
	full, ok := s.full[k]
	if !ok {
		return 0
	}
	if full <= at {
		delete(s.full, k)
		f.tracked.Add(-1)
		return 0
	}
	// Never more than a whole bucket, should the clock have been set back.
	if full > at+floodWindow {
		full = at + floodWindow
		s.full[k] = full
	}
	return max(0, full+floodStep-at-floodWindow)
}

// failed counts one failure.
func (f *floods) failed(p *macronode.Peer, now time.Time) {
	k := keyOf(p)
	s := f.shard(&k)
	at := now.Sub(f.start)
	s.mu.Lock()
	defer s.mu.Unlock()
	full, ok := s.full[k]
	if !ok {
		if len(s.full) >= floodAddresses/floodShards {
			s.makeRoom()
			f.tracked.Add(-1)
		}
		f.tracked.Add(1)
	}
	// Calls that began before the bucket was empty may end after it; they do
	// not make the wait longer than a whole bucket.
	s.full[k] = min(max(full, at)+floodStep, at+floodWindow)
}

// makeRoom drops, of a few entries, the one whose bucket is the fullest. The
// map's order is random enough for a sample.
func (s *floodShard) makeRoom() {
	var least floodKey
	fullest := time.Duration(-1)
	n := 0
	for k, full := range s.full {
		if fullest < 0 || full < fullest {
			least, fullest = k, full
		}
		if n++; n == floodSample {
			break
		}
	}
	delete(s.full, least)
}

func (f *floods) len() int { return int(f.tracked.Load()) }
