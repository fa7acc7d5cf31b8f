// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/internal/svc/overlay/gossip"
)

// State is how it stands with a peer.
type State uint8

// The states; see the package's comment.
const (
	Idle State = iota
	Handshake
	Active
	BackOff
	Closed
	numStates
)

var stateNames = [numStates]string{"idle", "handshake", "active", "back_off", "closed"}

func (s State) String() string { return stateNames[s] }

const (
	// shutEvery is how often a gate that refuses is asked again.
	shutEvery = 50 * time.Millisecond
	// goneAfter is how long a session that was replaced may finish its calls.
	goneAfter = 2 * time.Second
	maxWhy    = 200 // bytes of an error's text that are kept
	// A peer that lied is shut out for firstPenalty: an operator who mended it is not
	// kept waiting. Each time more doubles that, up to lastPenalty, until forgetAfter
	// has gone by since the last one ended.
	firstPenalty = 10 * time.Second
	lastPenalty  = 10 * time.Minute
	forgetAfter  = time.Hour
)

// peer is one peer's state machine. serve makes connections; whoever made or
// accepted one offers it, and attend keeps the one that stays.
type peer struct {
	s          *Service
	id         string
	smaller    bool // this node's id is the smaller one
	gate       Gate
	removeGate func()
	out        *gossip.Outbox
	kick       chan struct{} // capacity 1: something changed that serve waits for
	hearing    atomic.Bool   // a batch of the peer's is being taken
	listing    atomic.Bool   // a list for the peer is being made
	behind     chan struct{} // capacity 1: lists should be compared

	mu       sync.Mutex
	addr     string
	source   string
	state    State
	since    time.Time
	cur      *live
	attempt  context.CancelFunc // of the connection being made; nil: none
	serving  context.Context    // nil: not
	held     time.Time          // kept shut until then
	heldFor  string             // why
	offences int                // that were penalised, and are not forgotten
	why      string             // the last error
	quiet    bool               // that it cannot be had was told already
	sessions uint64
	gone     bool // a peer no more
	wg       sync.WaitGroup
}

// live is a session in use.
type live struct {
	Session
	dialled bool
	parent  context.Context // ends with the service
	ctx     context.Context // ends when it is no longer the session
	cancel  context.CancelFunc
	done    chan struct{} // closed when nothing of it runs any more
	before  *live         // the one it replaced
	began   time.Time
	rtt     atomic.Int64
	reason  atomic.Pointer[string] // for which this side ended it
}

func newPeer(s *Service, id string, out *gossip.Outbox) *peer {
	p := &peer{s: s, id: id, smaller: s.conf.NodeID < id, out: out, kick: make(chan struct{}, 1), behind: make(chan struct{}, 1), since: time.Now()}
	p.gate, p.removeGate = s.conf.Gate(id)
	return p
}

// move gives the peer an address; the next attempt goes there.
func (p *peer) move(addr, source string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr, p.source = addr, source
}

// remove ends what there is of the peer, for good.
func (p *peer) remove() {
	p.mu.Lock()
	p.gone = true
	cur, attempt := p.cur, p.attempt
	p.mu.Unlock()
	if attempt != nil {
		attempt()
	}
	if cur != nil {
		_ = cur.Close()
	}
	p.removeGate()
	p.rouse()
}

func (p *peer) rouse() {
	select {
	case p.kick <- struct{}{}:
	default: // it will look
	}
}

func (p *peer) current() *live {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cur
}

func (p *peer) now() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// enter changes the state. The lock is held.
func (p *peer) enter(to State, why string) {
	if p.state == to {
		return
	}
	p.state, p.since = to, time.Now()
	p.s.conf.Metrics.transitions.WithLabelValues(to.String()).Inc()
	// That attempts fail is told once, not with each of them.
	if trying := to == Handshake || to == BackOff; !trying || !p.quiet {
		p.s.conf.Event(p.id, to.String(), why)
		p.quiet = to == BackOff
	}
}

// become changes the state where there is no session.
func (p *peer) become(to State, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur == nil {
		p.enter(to, why)
	}
}

// serve makes connections until ctx ends or the peer is removed.
func (p *peer) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.mu.Lock()
	p.serving = ctx
	p.mu.Unlock()
	defer p.rest(cancel)
	var b backoff
	for ctx.Err() == nil && !p.removed() {
		if l := p.current(); l != nil {
			select {
			case <-l.done:
			case <-p.kick:
				continue
			case <-ctx.Done():
				return
			}
			if time.Since(l.began) >= settled {
				b.reset()
			}
			b.fail()
			continue
		}
		if d, why := p.shut(); d > 0 {
			p.become(Closed, why)
			p.pause(ctx, d)
			continue
		}
		if d := b.next(); d > 0 {
			p.become(BackOff, "")
			if p.pause(ctx, d) {
				continue
			}
		}
		if p.try(ctx) {
			b.fail()
		}
	}
}

// rest ends everything when serve ends.
func (p *peer) rest(cancel context.CancelFunc) {
	cancel()
	p.mu.Lock()
	p.serving = nil
	cur := p.cur
	p.mu.Unlock()
	if cur != nil {
		_ = cur.Close()
	}
	p.wg.Wait()
	p.become(Idle, "")
}

func (p *peer) removed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// shut is for how long the peer is at least kept shut, and why.
func (p *peer) shut() (time.Duration, string) {
	p.mu.Lock()
	left, why := time.Until(p.held), p.heldFor
	p.mu.Unlock()
	if left > 0 {
		return left, why
	}
	if p.gate.Held() {
		return shutEvery, "an operator keeps its breaker open"
	}
	return 0, ""
}

// pause waits, and reports whether something happened meanwhile.
func (p *peer) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-p.kick:
	case <-ctx.Done():
	}
	return true
}

// try makes one attempt and reports whether it failed.
func (p *peer) try(ctx context.Context) (failed bool) {
	leave, err := p.gate.Enter()
	if err != nil {
		p.become(BackOff, "the breaker is open")
		p.pause(ctx, shutEvery)
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.mu.Lock()
	addr, go_ := p.addr, p.cur == nil && !p.gone
	if go_ {
		p.enter(Handshake, "")
		p.attempt = cancel
	}
	p.mu.Unlock()
	if !go_ {
		leave(context.Canceled)
		return false
	}
	sess, err := p.s.conf.Connect(ctx, addr, p.id)
	p.mu.Lock()
	p.attempt = nil
	p.mu.Unlock()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Canceled // it was not given its time
		}
		leave(err)
		if !errors.Is(err, context.Canceled) {
			p.s.conf.Metrics.sessions.WithLabelValues(sessionFailed).Inc()
			p.mu.Lock()
			p.why = short(err)
			p.mu.Unlock()
			p.s.conf.Log.Debug("no session with a peer", "event", "peer", "node", p.id, "error", err)
		}
		return true
	}
	leave(nil)
	p.offer(sess, true)
	return false
}

// stays reports whether a new connection takes the place of the present one. The
// lock is held.
func (p *peer) stays(dialled bool) bool {
	// Who dials has no session, so a second one of the same side replaces the
	// first; of two sides the smaller one's stays.
	return p.cur == nil || p.cur.dialled == dialled || dialled == p.smaller
}

// offer makes sess the peer's session, or ends it.
func (p *peer) offer(sess Session, dialled bool) {
	p.mu.Lock()
	held := time.Until(p.held) > 0 || p.gate.Held()
	if p.serving == nil || p.gone || held || !p.stays(dialled) {
		p.mu.Unlock()
		p.s.conf.Metrics.sessions.WithLabelValues(sessionSurplus).Inc()
		_ = sess.Close()
		return
	}
	l := &live{Session: sess, dialled: dialled, done: make(chan struct{}), before: p.cur, began: time.Now(), parent: p.serving}
	l.ctx, l.cancel = context.WithCancel(p.serving)
	first := p.cur == nil
	p.cur = l
	p.sessions++
	how := "the peer dialled"
	if dialled {
		how = "this node dialled"
	}
	p.enter(Active, how)
	// An attempt of one's own goes on where its connection would stay.
	if p.attempt != nil && !dialled && !p.smaller {
		p.attempt()
	}
	p.wg.Go(func() { p.attend(l, first) })
	p.mu.Unlock()
	p.s.conf.Metrics.sessions.WithLabelValues(sessionKept).Inc()
	p.rouse()
}

// drop ends a session that does not work.
func (p *peer) drop(l *live, err error) {
	why := short(err)
	l.reason.CompareAndSwap(nil, &why)
	_ = l.Close()
}

// short is an error's text, cut.
func short(err error) string {
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), maxWhy)], "")
}

// hold keeps the peer shut for a while, twice as long as the last time unless that is
// forgotten, and returns for how long.
func (p *peer) hold(why string) time.Duration {
	now := time.Now()
	p.mu.Lock()
	if now.Sub(p.held) >= forgetAfter {
		p.offences = 0
	}
	d := min(firstPenalty<<min(p.offences, 16), lastPenalty)
	p.offences++
	p.held, p.heldFor = now.Add(d), why
	cur := p.cur
	p.mu.Unlock()
	if cur != nil {
		p.drop(cur, errors.New(why))
	}
	p.rouse()
	return d
}

// attend keeps a session until it ends or is replaced. first: there was none
// before it.
func (p *peer) attend(l *live, first bool) {
	defer close(l.done)
	if first {
		p.s.tell(p.id, true)
	}
	if b := l.before; b != nil {
		p.s.conf.Metrics.sessions.WithLabelValues(sessionReplaced).Inc()
		b.cancel()
		<-b.done // one reads the outbox at a time
		l.before = nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.pings(l) })
	wg.Go(func() { p.talk(l) })
	wg.Go(func() { p.compares(l) })
	select {
	case <-l.Done():
	case <-l.ctx.Done():
	}
	l.cancel()
	wg.Wait()
	p.mu.Lock()
	mine := p.cur == l
	if mine {
		p.cur = nil
		p.why = "the session was ended"
		if why := l.reason.Load(); why != nil {
			p.why = *why
		} else if err := l.Err(); err != nil {
			p.why = short(err)
		}
		p.enter(BackOff, p.why)
	}
	p.mu.Unlock()
	if mine {
		p.s.conf.Metrics.sessions.WithLabelValues(sessionLost).Inc()
		_ = l.Close()
		p.s.tell(p.id, false)
		return
	}
	// Replaced: calls that run on it may finish, and its successor begins.
	l.GoAway()
	p.wg.Go(func() {
		t := time.NewTimer(goneAfter)
		defer t.Stop()
		select {
		case <-l.Done():
		case <-l.parent.Done():
		case <-t.C:
		}
		_ = l.Close()
	})
}

// pings sees that the peer is there.
func (p *peer) pings(l *live) {
	t := time.NewTicker(p.s.conf.PingEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-l.ctx.Done():
			return
		}
		if p.gate.Held() {
			p.drop(l, errors.New("an operator opened its breaker"))
			return
		}
		ctx, cancel := context.WithTimeout(l.ctx, p.s.conf.PingLimit)
		rtt, err := l.Ping(ctx)
		cancel()
		switch {
		case err == nil:
			l.rtt.Store(int64(rtt))
		case l.ctx.Err() != nil:
			return
		case time.Since(l.Heard()) < p.s.conf.PingLimit:
			// Frames come: the answer waits behind them.
		default:
			p.drop(l, fmt.Errorf("nothing was heard for %s", p.s.conf.PingLimit))
			return
		}
	}
}

func (p *peer) status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := Status{NodeID: p.id, Addr: p.addr, Source: p.source, State: p.state.String(), Since: p.since, Sessions: p.sessions, LastError: p.why}
	if p.cur != nil {
		st.Dialled, st.RTT, st.LastError = p.cur.dialled, time.Duration(p.cur.rtt.Load()), ""
	}
	for _, l := range []gossip.Lane{gossip.Revocations, gossip.Registry, gossip.Announcements} {
		st.Queued += p.out.Depth(l)
	}
	return st
}
