// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package announce

import (
	"io"
	"slices"
	"sync"
	"time"
)

// maxHeld is how many messages wait while a summary is on its way.
const maxHeld = 64

// Known is what other nodes announced to this one. Its methods may be called from
// any goroutine.
type Known struct {
	now func() time.Time
	ttl time.Duration

	mu    sync.Mutex
	peers map[string]*peer
	asked uint64 // how often Ask said yes
}

// peer is what one node announced.
type peer struct {
	tags      map[Tag]struct{} // nil: never heard the whole
	epoch, at uint64
	heard     time.Time // when the whole was heard last
	asking    uint64    // of the summary on its way, what Ask returned; 0: none is
	held      []message // that came meanwhile
	missed    bool      // more came than can be held, or one was missed
	gone      map[Tag]struct{}
}

// NewKnown returns a Known that forgets what was not confirmed for ttl.
func NewKnown(ttl time.Duration, now func() time.Time) *Known {
	if now == nil {
		now = time.Now
	}
	return &Known{now: now, ttl: ttl, peers: make(map[string]*peer)}
}

// Join begins to listen to a node, if that did not happen yet; what others send is
// not looked at.
func (k *Known) Join(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.peers[id] == nil {
		k.peers[id] = &peer{}
	}
}

// Leave forgets the node and all that it announced.
func (k *Known) Leave(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.peers, id)
}

// Heard takes a message. stale says that one was missed: the whole should be asked
// for. An error means that it is no message.
func (k *Known) Heard(id string, b []byte) (stale bool, err error) {
	m, err := parseMessage(b)
	if err != nil {
		return false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.peers[id]
	switch {
	case p == nil:
		return false, nil
	case p.asking != 0:
		if len(p.held) == maxHeld {
			p.missed = true
			return false, nil
		}
		p.held = append(p.held, m)
		return false, nil
	}
	return !p.apply(&m), nil
}

// apply makes m's changes; false where it does not follow on what was heard.
func (p *peer) apply(m *message) bool {
	end := m.at + uint64(len(m.changes))
	switch {
	case p.tags == nil || m.epoch != p.epoch || m.at > p.at:
		return false
	case end <= p.at:
		return true // known
	}
	for _, c := range m.changes[p.at-m.at:] {
		if c.gone {
			delete(p.tags, c.tag)
		} else if len(p.tags) < MaxTags {
			p.tags[c.tag] = struct{}{}
		}
	}
	p.at = end
	return true
}

// Ask is called before the node is asked for its summary. It returns what Answered
// is to be told, or 0 where the node should not be asked: it is asked already, or has
// left.
func (k *Known) Ask(id string) (asked uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.peers[id]
	if p == nil || p.asking != 0 {
		return 0
	}
	k.asked++
	p.asking, p.missed, p.held, p.gone = k.asked, false, nil, nil
	return p.asking
}

// Answered takes the summary that Ask led to, as it comes, or the error that
// came instead. stale says that it is outdated already, and to be asked for again. An
// answer that was asked for before the node left, or of somebody else, counts nothing.
func (k *Known) Answered(id string, asked uint64, r io.Reader, failed error) (stale bool, err error) {
	var s *Summary
	if err = failed; err == nil {
		s, err = readSummary(r)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.peers[id]
	if p == nil || asked == 0 || p.asking != asked {
		return false, err
	}
	p.asking = 0
	held, missed, gone := p.held, p.missed, p.gone
	p.held, p.gone = nil, nil
	if err != nil {
		return false, err
	}
	p.tags = make(map[Tag]struct{}, len(s.tags))
	for _, t := range s.tags {
		if _, there := gone[t]; !there {
			p.tags[t] = struct{}{}
		}
	}
	p.epoch, p.at, p.heard = s.epoch, s.at, k.now()
	for i := range held {
		if !p.apply(&held[i]) {
			missed = true
		}
	}
	return missed, nil
}

// Holders are the nodes that announced the tag, in the order of their ids.
func (k *Known) Holders(t Tag) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	oldest := k.now().Add(-k.ttl)
	var ids []string
	for id, p := range k.peers {
		if p.tags != nil && p.heard.Before(oldest) {
			p.tags = nil // nobody confirmed it
		}
		if _, there := p.tags[t]; there {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Disown forgets that the node announced the tag, until it does so again.
func (k *Known) Disown(id string, t Tag) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.peers[id]
	if p == nil {
		return
	}
	delete(p.tags, t)
	if p.asking != 0 && len(p.gone) < maxHeld {
		if p.gone == nil {
			p.gone = make(map[Tag]struct{})
		}
		p.gone[t] = struct{}{}
	}
}

// Peers are the nodes that are listened to.
func (k *Known) Peers() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := make([]string, 0, len(k.peers))
	for id := range k.peers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Len is how many announcements are known.
func (k *Known) Len() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.peers {
		n += len(p.tags)
	}
	return n
}
