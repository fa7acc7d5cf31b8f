// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

// What the log says of a message that is not as it was sent.
const (
	stReady   = iota
	stWaiting // delayed, or nacked: until then
	stLeased  // until then
)

// extra is what there is to say of a message beyond its slot: most have none
// until they are leased. The first part is what records made of it; the
// second follows from that, the config and the time.
type extra struct {
	seq      uint64 // 0: free
	key      uint64 // hash of the ordering key; 0 none
	lease    uint64 // the highest ever given: the fence
	owner    uint64 // whose that one is: a subscription; 0 none
	until    Time
	expire   Time // TTL; 0 none
	first    Time // first sent; 0: when its slot says
	wide     place
	attempts uint32
	base     uint32 // attempts at the last redrive
	state    uint8
	isWide   bool

	class      State
	timer      Time   // of the one entry among the timers that counts; 0 none
	prev, next uint64 // of the same key
}

const pageLen = 64

type page struct {
	epoch uint64
	hist  *[pageLen][]byte // encoded events; never changed in place
	recs  [pageLen]extra
}

// slab holds extras by handle, from 1.
type slab struct {
	epoch uint64
	pages []*page
	free  []uint32
	used  uint32 // handles ever given
	n     int
}

func (s *slab) get(h uint32) *extra { return &s.pages[(h-1)/pageLen].recs[(h-1)%pageLen] }

// edit returns the extra to change. It stays the one to change until the next snapshot.
func (s *slab) edit(h uint32) *extra { return &s.page(h).recs[(h-1)%pageLen] }

func (s *slab) page(h uint32) *page {
	p := s.pages[(h-1)/pageLen]
	if p.epoch != s.epoch {
		own := *p
		own.epoch = s.epoch
		if p.hist != nil {
			hist := *p.hist
			own.hist = &hist
		}
		p = &own
		s.pages[(h-1)/pageLen] = p
	}
	return p
}

func (s *slab) history(h uint32) []byte {
	if p := s.pages[(h-1)/pageLen]; p.hist != nil {
		return p.hist[(h-1)%pageLen]
	}
	return nil
}

func (s *slab) setHistory(h uint32, b []byte) {
	p := s.page(h)
	if p.hist == nil {
		if b == nil {
			return
		}
		p.hist = new([pageLen][]byte)
	}
	p.hist[(h-1)%pageLen] = b
}

func (s *slab) alloc(seq uint64) (uint32, *extra) {
	s.n++
	var h uint32
	if n := len(s.free); n > 0 {
		h = s.free[n-1]
		s.free = s.free[:n-1]
	} else {
		if s.used%pageLen == 0 {
			s.pages = append(s.pages, &page{epoch: s.epoch})
		}
		s.used++
		h = s.used
	}
	x := s.edit(h)
	*x = extra{seq: seq}
	return h, x
}

func (s *slab) release(h uint32) {
	s.edit(h).seq = 0
	s.setHistory(h, nil)
	s.n--
	if s.n == 0 && s.used > pageLen {
		*s = slab{epoch: s.epoch}
		return
	}
	s.free = append(s.free, h)
}
