// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux/flow"
)

// Conn is what a session runs over; net.Conn is one. A read that failed because
// of its deadline, with an error whose Timeout() is true, can be repeated.
type Conn interface {
	io.Reader
	io.Writer
	io.Closer
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Gatherer is a Conn that writes several parts with one system call. It may change
// the list, not the parts. To a Conn that is none, frames are written in one piece.
type Gatherer interface {
	WriteParts(parts [][]byte) error
}

const (
	maxHeadBytes = 8 << 10
	// maxBuffered bounds what a connection holds for those who did not read yet,
	// unless it sets windows aside.
	maxBuffered = 8 << 20
	// ackDelay is how long a consumption waits for its ACK; the contract's limit
	// is 5 ms.
	ackDelay = 3 * time.Millisecond
	// maxUrgent is how many uncounted frames may wait before the session stops
	// reading those that cause them.
	maxUrgent = 512
)

// Config says what a session is. Durations must be more than 0.
type Config struct {
	Opener bool           // this side dialled: it says HELLO and uses odd numbers
	Both   bool           // both sides may open streams
	UA     string         // the opener's HELLO
	Reply  oap.HelloReply // the acceptor's answer to it, and what it keeps to
	// ChunkBytes is the most body bytes a frame, either way.
	ChunkBytes int
	// SetAside keeps a full window for each stream, so that a stream that nobody
	// reads holds nothing of the connection's. Memory: max_inflight chunks a
	// stream.
	SetAside bool
	// Expand appends to dst what a COMP payload expands to, at most limit bytes;
	// nil: such frames are refused.
	Expand func(dst, payload []byte, limit int) ([]byte, error)
	// HelloTimeout is how long the other side has for its HELLO or answer.
	// IdleTimeout ends a session without streams on which no frame comes.
	// StallTimeout ends a stream whose frames nobody acknowledges, and a session
	// in whose frame no byte comes. WriteTimeout bounds one write.
	HelloTimeout, IdleTimeout, StallTimeout, WriteTimeout time.Duration
	// Handle is called for each stream that the other side opened, in a goroutine
	// of its own; when it returns, the stream is closed. It may be nil where the
	// other side opens none.
	Handle func(*Stream)
	// Observe counts; nil: nobody.
	Observe Observer
	// Linger, if not nil, is called before the connection is closed after an
	// error frame or GOAWAY, so that the other side can still read it.
	Linger func()
}

func (c *Config) validate() error {
	r := &c.Reply
	switch {
	case c.ChunkBytes < 1 || c.ChunkBytes > oap.MaxFrameBytes:
		return errors.New("mux: chunk bytes out of range")
	case c.HelloTimeout <= 0 || c.IdleTimeout <= 0 || c.StallTimeout <= 0 || c.WriteTimeout <= 0:
		return errors.New("mux: all timeouts must be more than 0")
	case !c.Opener && (r.MaxFrame <= oap.HeaderBytes || r.MaxFrame > oap.MaxFrameBytes || r.MaxInflight < 1 || r.MaxStreams < 1):
		return errors.New("mux: an acceptor needs the limits that it announces")
	case c.Handle == nil && (!c.Opener || c.Both):
		return errors.New("mux: whoever takes streams needs a Handle")
	}
	return nil
}

// Session is one connection.
type Session struct {
	cfg      Config
	conn     Conn
	ctx      context.Context // parent of the streams'
	cancel   context.CancelCauseFunc
	ready    chan struct{}
	done     chan struct{}
	maxFrame int // what the other side may send
	chunk    int // body bytes of a frame that this side sends; fixed once Ready

	mu       sync.Mutex
	t        flow.Table
	running  bool
	greeted  bool // HELLO is done
	helloID  uint64
	peer     oap.HelloReply
	err      error // why it ended
	over     bool
	writing  bool
	drained  sync.Cond // the writer has written something, or ended
	buffered int       // bytes held for streams
	waiting  []chan struct{}
	pings    []ping
	ackTimer *time.Timer
	ackArmed bool
	stall    *time.Timer
	stallOn  bool
	blocked  []*Stream // whose writers wait, longest first

	lastAcked uint64 // as starved last saw it
	ackedAt   time.Time
	open      int       // streams, when last looked
	activity  time.Time // the last frame, or the end of the last stream
	heard     time.Time // the last frame

	// Owned by the writer.
	writeBy time.Time
	out     out
}

type ping struct {
	at   time.Time
	done chan time.Duration
}

// New checks cfg and makes a session over c, which it owns once Run is called.
func New(c Conn, cfg Config) (*Session, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if c == nil {
		return nil, errors.New("mux: a connection is needed")
	}
	if cfg.Observe == nil {
		cfg.Observe = nobody{}
	}
	s := &Session{
		cfg: cfg, conn: c, ready: make(chan struct{}), done: make(chan struct{}),
		maxFrame: oap.MaxFrameBytes, chunk: cfg.ChunkBytes, t: *flow.NewTable(cfg.Opener, cfg.Both, cfg.SetAside), helloID: 1,
	}
	if !cfg.Opener {
		s.cfg.Reply.ChunkBytes = cfg.ChunkBytes
		s.maxFrame, s.peer = cfg.Reply.MaxFrame, s.cfg.Reply
	}
	s.out.gather, _ = c.(Gatherer)
	s.drained.L = &s.mu
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s, nil
}

// Ready is closed when HELLO is done.
func (s *Session) Ready() <-chan struct{} { return s.ready }

// Peer is the answer to HELLO, whoever gave it. It is valid once Ready is
// closed.
func (s *Session) Peer() oap.HelloReply { return s.peer }

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session ended, nil before. It wraps ErrClosed.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Streams is how many streams are open.
func (s *Session) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.t.Lines) + s.t.Opening
}

// Heard is when the last frame of the other side came; the zero time before there
// was one.
func (s *Session) Heard() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard
}

// Draining reports whether Open is refused, because either side said GOAWAY.
func (s *Session) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.t.GoneAway || s.t.Draining
}

// Run says or awaits HELLO and reads frames until the connection ends, and
// closes it. The result wraps ErrClosed and says why: a *Fault, a *Refused,
// ErrDraining after GOAWAY, io.EOF where the other side closed between frames,
// ctx's error, or that of the connection. It is called once.
func (s *Session) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return errTwice
	}
	s.running = true
	if s.over { // closed before
		s.mu.Unlock()
		return s.finish(nil)
	}
	if s.cfg.Opener {
		f, err := oap.NewHello(s.helloID, oap.Hello{UA: s.cfg.UA})
		if err != nil {
			s.mu.Unlock()
			return s.finish(err)
		}
		s.t.Urgent = append(s.t.Urgent, flow.Frame{Header: f.Header, Buf: flow.FrameBuffer(f.Payload), Kind: flow.KindHello})
		s.kick()
	}
	s.mu.Unlock()
	unhook := context.AfterFunc(ctx, func() { s.end(context.Cause(ctx)) })
	defer unhook()
	in := reader{s: s}
	defer in.release()
	return s.finish(in.loop())
}

// finish ends the session for the reason given, unless it has ended before.
func (s *Session) finish(err error) error {
	var f *flow.Fault
	if errors.As(err, &f) {
		s.lastWords(f)
		err = &Fault{f.Reason, f.Code, f.Text}
	}
	linger := f != nil || errors.Is(err, ErrDraining)
	s.mu.Lock()
	linger = linger && !s.over && s.cfg.Linger != nil
	s.mu.Unlock()
	if linger {
		s.cfg.Linger()
	}
	s.end(err)
	s.mu.Lock()
	for s.writing {
		s.drained.Wait()
	}
	err = s.err
	s.mu.Unlock()
	close(s.done)
	return err
}

// lastWords writes the error frame that ends the session.
func (s *Session) lastWords(f *flow.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Observe.Reject(f.Reason)
	h := oap.Answer(&f.Header, f.Code, oap.END, nil).Header
	s.t.Final = &flow.Frame{Header: h, Kind: flow.KindError, Buf: flow.FrameBuffer(problem(&f.Header, kindOf(f), f.Text))}
	s.kick()
	for s.writing && !s.over {
		s.drained.Wait()
	}
}

func kindOf(f *flow.Fault) macronode.Kind {
	switch {
	case f.Code == 413 && f.Reason == flow.ReasonComp:
		return macronode.DecompressLimit
	case f.Code == 413:
		return macronode.TooLarge
	}
	return macronode.Malformed
}

// problem is the document of an error that this side gives of itself.
func problem(h *oap.Header, k macronode.Kind, text string) []byte {
	e := macronode.Errorf(k, "%s", text)
	doc, err := json.Marshal(e.Problem("oap-" + strconv.FormatUint(h.Corr, 10)))
	if err != nil {
		return nil // it holds text and numbers alone
	}
	return doc
}

// end closes the connection and ends all streams.
func (s *Session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	if err == nil {
		s.err = ErrClosed
	} else {
		s.err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	s.conn.Close()
	s.cancel(s.err)
	for _, l := range s.t.Abandon() {
		why := s.err
		if l.Mine && (l.ID == 0 || s.t.GoneAway && l.ID > s.t.AwayLast) {
			why = ErrDraining // the other side never had it, or said that it would not take it
		}
		owner(l).fail(why)
	}
	for _, c := range s.waiting {
		close(c)
	}
	s.waiting, s.pings = nil, nil
	for _, t := range []*time.Timer{s.ackTimer, s.stall} {
		if t != nil {
			t.Stop()
		}
	}
	s.drained.Broadcast()
}

// Close ends the session and its streams at once; GoAway is the gentle way.
func (s *Session) Close() error {
	s.end(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		s.running = true
		close(s.done)
	}
	return nil
}

// GoAway announces that this side takes no new streams: later ones are refused
// with 503 "draining". The session ends after its last stream. It cannot be
// taken back.
func (s *Session) GoAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.t.Draining || s.over {
		return
	}
	s.t.Draining, s.t.SayGoAway = true, true
	s.release()
	s.kick()
}

// release lets those see who wait for a place that there is one, or none for
// ever.
func (s *Session) release() {
	free := s.t.Out.Streams - s.t.MineNow
	if s.over || s.t.Draining || s.t.GoneAway {
		free = len(s.waiting)
	}
	for ; free > 0 && len(s.waiting) > 0; free-- {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
	}
}

// Ping asks whether the other side is there, and returns how long it took to
// hear anything of the connection from it: an ACK that was on its way counts.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	if err := s.await(ctx, s.ready); err != nil {
		return 0, err
	}
	p := ping{time.Now(), make(chan time.Duration, 1)}
	s.mu.Lock()
	if s.over {
		defer s.mu.Unlock()
		return 0, s.err
	}
	s.pings = append(s.pings, p)
	s.t.Urgent = append(s.t.Urgent, flow.Frame{Header: oap.Header{Flags: oap.EVENT | oap.ACKREQ}, Kind: flow.KindPing})
	s.kick()
	s.mu.Unlock()
	select {
	case d := <-p.done:
		return d, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-s.ctx.Done():
		return 0, s.Err()
	}
}

// await waits for c, the session's end or ctx's.
func (s *Session) await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	default:
	}
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.ctx.Done():
		return s.Err()
	}
}
