// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package hot

// sketch estimates how often keys were seen lately: two counters a key, of
// which the smaller counts. All are halved from time to time.
type sketch struct {
	counts []uint8 // a power of two
	seen   int     // since the last halving
	epoch  int     // halvings
}

// agePerCounter is how many keys are seen for each counter before all are
// halved.
const agePerCounter = 4

func newSketch(counters int) sketch { return sketch{counts: make([]uint8, counters)} }

func (s *sketch) at(h uint64) (a, b *uint8) {
	mask := uint64(len(s.counts) - 1)
	return &s.counts[h&mask], &s.counts[(h>>32)&mask]
}

// add counts h once more. Of the two counters only the smaller grows: the other
// is already shared with another key.
func (s *sketch) add(h uint64) {
	a, b := s.at(h)
	low := min(*a, *b)
	if low == 255 {
		return
	}
	if *a == low {
		*a++
	}
	if *b == low && a != b {
		*b++
	}
	if s.seen++; s.seen >= agePerCounter*len(s.counts) {
		s.seen = 0
		s.epoch++
		for i := range s.counts {
			s.counts[i] /= 2
		}
	}
}

// estimate is at least how often h was seen, halvings aside.
func (s *sketch) estimate(h uint64) int {
	a, b := s.at(h)
	return int(min(*a, *b))
}
