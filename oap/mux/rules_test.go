// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux/flow"
)

// bubble runs a test against a greeted acceptor, in time of its own.
func bubble(t *testing.T, edit func(*Config), f func(t *testing.T, r *raw)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, greeted(t, edit)) })
}

func problemCode(t testing.TB, f oap.Frame) string {
	var p macronode.Problem
	if err := json.Unmarshal(f.Payload, &p); err != nil {
		t.Fatalf("no problem document: %v", err)
	}
	return p.Code
}

// acks are the ACKs among frames, the last one of each stream.
func acks(frames []oap.Frame) map[uint64]uint64 {
	m := map[uint64]uint64{}
	for _, f := range frames {
		if f.Flags == oap.EVENT && f.Code == 0 {
			n, _ := oap.Count(f.Payload)
			m[f.Corr] = n
		}
	}
	return m
}

func TestStreamsOverTheLimitAreRefused(t *testing.T) {
	bubble(t, func(c *Config) { c.Reply.MaxStreams, c.Handle = 2, mute }, func(t *testing.T, r *raw) {
		r.start(1, oap.END, "h")
		r.start(3, 0, "h")
		r.start(5, 0, "h")
		f := r.answer()
		if f.Corr != 5 || f.Code != 503 || !f.IsRefusal() || f.App != 1 || problemCode(t, f) != "overload" {
			t.Fatalf("stream %d: %d %v", f.Corr, f.Code, f.Flags)
		}
		r.data(5, oap.END, "more") // refused: dropped
		r.cancel(1)
		r.start(7, 0, "h")
		synctest.Wait()
		if got := r.drained(); len(acks(got)) != len(got) || r.s.Streams() != 2 || r.counts.rejects["overload"] != 1 {
			t.Errorf("%d frames, %d streams, %v", len(got), r.s.Streams(), r.counts.rejects)
		}
		// What was refused or cancelled takes no place in the window.
		<-time.After(10 * time.Millisecond)
		if n := acks(r.drained())[0]; n != 3 {
			t.Errorf("%d frames of the connection are acknowledged", n)
		}
	})
}

func TestFramesOfClosedStreamsAreDropped(t *testing.T) {
	bubble(t, func(c *Config) { c.Handle = func(st *Stream) { st.Fail(404, []byte("{}")) } }, func(t *testing.T, r *raw) {
		r.start(1, 0, "h")
		if f := r.answer(); f.Code != 404 {
			t.Fatal(f.Code)
		}
		for range 10 {
			r.data(1, 0, "late")
		}
		r.cancel(1)
		r.ack(1, 0)
		<-time.After(10 * time.Millisecond)
		got := r.drained()
		if n := acks(got)[0]; n != 11 || r.counts.frames["in dropped"] != 11 || r.s.Err() != nil {
			t.Errorf("%d acknowledged, %v, %v", n, r.counts.frames, r.s.Err())
		}
		for _, f := range got {
			if f.Flags&oap.EVENT == 0 {
				t.Errorf("%v was answered to a cancel or a late frame", f.Flags)
			}
		}
	})
}

func TestDrain(t *testing.T) {
	bubble(t, func(c *Config) { c.Handle = mute }, func(t *testing.T, r *raw) {
		r.start(1, oap.END, "h")
		synctest.Wait()
		r.s.GoAway()
		if f := r.answer(); f.Flags != oap.EVENT || f.Code != 503 || f.Corr != 0 || !bytes.Equal(f.Payload, []byte{0, 0, 0, 0, 0, 0, 0, 1}) {
			t.Fatalf("GOAWAY is %v %d %x", f.Flags, f.Code, f.Payload)
		}
		r.start(3, 0, "h")
		if f := r.answer(); f.Corr != 3 || f.Code != 503 || problemCode(t, f) != "draining" {
			t.Fatalf("a late START: %d", f.Code)
		}
		if r.s.Err() != nil {
			t.Fatal("it ended before its last stream")
		}
		r.cancel(1)
		if err := r.end(); !errors.Is(err, ErrDraining) {
			t.Error(err)
		}
	})
}

func TestEveryPingIsAnswered(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *raw) {
		for range 5 {
			f := oap.Ping()
			r.send(f.Header, "")
		}
		got := r.drained()
		if len(got) != 5 {
			t.Fatalf("%d answers to 5 PINGs", len(got))
		}
		for _, f := range got {
			if f.Flags != oap.EVENT || f.Corr != 0 || f.Code != 0 || len(f.Payload) != 8 {
				t.Errorf("PING is answered by %v on %d", f.Flags, f.Corr)
			}
		}
	})
}

func TestAckComesAtHalfAWindowAtOnceOrSoon(t *testing.T) {
	read := func(st *Stream) { io.Copy(io.Discard, onlyReader{st}); <-st.Context().Done() }
	bubble(t, func(c *Config) { c.Reply.MaxInflight, c.Handle = 8, read }, func(t *testing.T, r *raw) {
		r.start(1, 0, "h")
		r.data(1, 0, "1")
		r.data(1, 0, "2")
		if got := r.drained(); len(got) != 0 {
			t.Fatalf("%d frames before half a window", len(got))
		}
		r.data(1, 0, "3")
		if got := acks(r.drained()); got[1] != 4 {
			t.Errorf("at half a window: %v", got)
		}
		r.data(1, oap.ACKREQ, "4")
		// The answer may leave before the application has taken the frame; what that
		// adds to the connection's count follows in time.
		if got := acks(r.drained()); got[1] != 5 || got[0] < 4 || got[0] > 5 {
			t.Errorf("on ACK_REQ: %v", got)
		}
		r.data(1, 0, "5")
		began := time.Now()
		got := acks([]oap.Frame{r.next(), r.next()})
		if d := time.Since(began); got[1] != 6 || got[0] != 6 || d > 5*time.Millisecond {
			t.Errorf("%v after %v", got, d)
		}
		// Half of the connection's window, by one that reads at once.
		for i := range uint64(63) {
			r.start(3+2*i, oap.END, "h")
		}
		if got := r.drained(); len(got) != 0 {
			t.Errorf("%d frames before half of the connection's window", len(got))
		}
		r.start(3+2*63, oap.END, "h")
		if got := acks(r.drained()); got[0] != 6+64 {
			t.Errorf("half of the connection's window: %v", got[0])
		}
	})
}

// onlyReader hides WriteTo.
type onlyReader struct{ io.Reader }

func TestWhatNobodyReadsIsNotAcknowledged(t *testing.T) {
	bubble(t, func(c *Config) { c.Handle = mute }, func(t *testing.T, r *raw) {
		r.start(1, 0, "h")
		for range 31 {
			r.data(1, 0, "d")
		}
		<-time.After(time.Second)
		if got := acks(r.drained()); got[0] != 0 || got[1] != 0 {
			t.Errorf("acknowledged: %v", got)
		}
		r.cancel(1)
		<-time.After(time.Second)
		if got := acks(r.drained()); got[0] != 32 {
			t.Errorf("after the cancel: %v", got)
		}
	})
}

// flood answers every stream with much.
func flood(st *Stream) {
	st.WriteHead(200, []byte("HEAD"), nil, false)
	for {
		if _, err := st.Write([]byte("data")); err != nil {
			return
		}
	}
}

func TestSenderKeepsWindows(t *testing.T) {
	for _, c := range []struct {
		inflight, one, all int
	}{{5, 5, 20}, {64, 32, 128}} {
		bubble(t, func(cfg *Config) { cfg.Reply.MaxInflight, cfg.Handle = c.inflight, flood }, func(t *testing.T, r *raw) {
			n := map[uint64]int{}
			count := func() (all int) {
				for _, f := range r.drained() {
					if f.Counted() {
						n[f.Corr]++
					}
				}
				for _, k := range n {
					all += k
				}
				return all
			}
			r.start(1, oap.END, "h")
			if count() != c.one {
				t.Errorf("one stream of %d sends %d frames", c.inflight, n[1])
			}
			for id := uint64(3); id <= 11; id += 2 {
				r.start(id, oap.END, "h")
			}
			count()
			want := min(c.inflight*6, 128)
			if all := count(); all != want {
				t.Errorf("six streams of %d send %d frames, not %d", c.inflight, all, want)
			}
			// The connection's window alone moves no stream that is at its own.
			r.ack(0, uint64(count()))
			before := n[1]
			after := count()
			if c.inflight == 5 && n[1] != before {
				t.Error("an ACK of the connection let a stream past its window")
			}
			if c.inflight == 64 && after != 6*32+16 && after > 256 {
				t.Errorf("%d frames after an ACK of the connection", after)
			}
			r.ack(1, uint64(before))
			if count(); n[1] <= before && c.inflight == 5 {
				t.Error("an ACK of the stream moved nothing")
			}
		})
	}
}

func TestFramesAreFairBetweenStreams(t *testing.T) {
	bubble(t, func(c *Config) { c.Reply.MaxInflight, c.Handle = 64, flood }, func(t *testing.T, r *raw) {
		for id := uint64(1); id <= 15; id += 2 {
			r.start(id, oap.END, "h")
		}
		n := map[uint64]int{}
		for _, f := range r.drained() {
			n[f.Corr]++
		}
		for id, k := range n {
			if id != 0 && k > 33 {
				t.Errorf("stream %d sent %d frames of 128", id, k)
			}
		}
		// All have the same share from here on.
		total, mine := uint64(0), map[uint64]uint64{}
		for id, k := range n {
			if id != 0 {
				total += uint64(k)
				mine[id] = uint64(k)
			}
		}
		for range 20 {
			r.ack(0, total)
			for id, k := range mine {
				r.ack(id, k)
			}
			for _, f := range r.drained() {
				if f.Counted() {
					mine[f.Corr]++
					total++
				}
			}
		}
		low, high := uint64(1<<60), uint64(0)
		for id, k := range mine {
			k -= uint64(n[id])
			low, high = min(low, k), max(high, k)
		}
		if len(mine) != 8 || high > 2*low {
			t.Errorf("%d streams sent between %d and %d frames", len(mine), low, high)
		}
	})
}

func TestStalledStreamIsCancelledAlone(t *testing.T) {
	bubble(t, func(c *Config) { c.Handle = flood }, func(t *testing.T, r *raw) {
		r.start(1, oap.END, "h")
		r.start(3, oap.END, "h")
		seen, total := uint64(0), uint64(0)
		var refused oap.Frame
		for range 150 {
			<-time.After(100 * time.Millisecond)
			for _, f := range r.drained() {
				switch {
				case f.IsRefusal():
					refused = f
				case f.Counted():
					total++
					if f.Corr == 3 {
						seen++
					}
				}
			}
			r.ack(3, seen)
			r.ack(0, total-min(total, 32))
		}
		if refused.Corr != 1 || refused.Code != 408 || r.s.Streams() != 1 || r.counts.rejects["stalled"] != 1 {
			t.Errorf("refused %d with %d; %d streams, %v", refused.Corr, refused.Code, r.s.Streams(), r.counts.rejects)
		}
	})
}

func TestTimeouts(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *raw) { // idle
		began := time.Now()
		<-time.After(30 * time.Second)
		f := oap.Ping()
		r.send(f.Header, "")
		if err := r.end(); !errors.Is(err, errIdle) || time.Since(began) != 90*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
	bubble(t, func(c *Config) { c.Handle = mute }, func(t *testing.T, r *raw) { // a stream keeps it
		r.start(1, oap.END, "h")
		<-time.After(10 * time.Minute)
		if r.s.Err() != nil {
			t.Fatal(r.s.Err())
		}
		began := time.Now()
		r.cancel(1)
		if err := r.end(); !errors.Is(err, errIdle) || time.Since(began) < time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
	bubble(t, nil, func(t *testing.T, r *raw) { // half a frame
		began := time.Now()
		r.bytes(header(100))
		if err := r.end(); !errors.Is(err, errTruncated) || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
	synctest.Test(t, func(t *testing.T) { // nobody reads what is written
		c := newPipe()
		s, err := New(c, acceptorConfig(flood))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ended := make(chan error)
		go func() { ended <- s.Run(context.Background()) }()
		b, _ := oap.Append(nil, &oap.Frame{Header: oap.Header{Flags: oap.REQ}, Payload: []byte("{}")})
		c.other.Write(b)
		if err := <-ended; !isTimeout(err) || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		c.other.Close()
	})
}

func TestAnswersThatAreNotComplete(t *testing.T) {
	for name, c := range map[string]struct {
		handle func(*Stream)
		code   uint16
	}{
		"nothing":    {func(*Stream) {}, 500},
		"head alone": {func(st *Stream) { st.WriteHead(200, []byte("h"), nil, false) }, 502},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(cfg *Config) { cfg.Handle = c.handle }, func(t *testing.T, r *raw) {
				r.start(1, 0, "h")
				f := r.answer()
				for !f.IsRefusal() {
					f = r.answer()
				}
				if f.Code != c.code || r.s.Streams() != 0 {
					t.Errorf("code %d, %d streams", f.Code, r.s.Streams())
				}
			})
		})
	}
}

func TestEarlyAnswerLeavesTheStreamToItsOpener(t *testing.T) {
	early := func(st *Stream) { st.WriteHead(200, []byte("h"), nil, true) }
	bubble(t, func(c *Config) { c.Handle = early }, func(t *testing.T, r *raw) {
		r.start(1, 0, "h")
		r.start(3, 0, "h")
		r.start(5, 0, "h")
		synctest.Wait()
		if n := r.s.Streams(); n != 3 {
			t.Fatalf("%d streams", n)
		}
		for range 50 { // discarded, and so acknowledged
			r.data(1, 0, "more")
			r.drained()
		}
		r.data(1, oap.END, "more")
		r.cancel(3)
		synctest.Wait()
		if n := r.s.Streams(); n != 1 || r.s.Err() != nil {
			t.Errorf("%d streams, %v", n, r.s.Err())
		}
		r.ack(0, 3) // the answers were read
		r.ack(5, 1)
		<-time.After(20 * time.Second)
		if n := r.s.Streams(); n != 0 {
			t.Errorf("a request that never ends keeps its place")
		}
	})
	// The opener of this package cancels by itself.
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, acceptorConfig(early), openerConfig())
		st := d.open(t, Start{App: 1, Head: []byte("h")})
		if got, err := io.ReadAll(st); err != nil || string(got) != "h" {
			t.Errorf("%q %v", got, err)
		}
		if _, err := st.Write([]byte("more")); !errors.Is(err, ErrAnswered) {
			t.Error(err)
		}
		synctest.Wait()
		if d.peer.Streams() != 0 || d.node.Streams() != 0 {
			t.Error("the stream is still open")
		}
	})
}

func TestReaderThatStopsStopsItsOwnStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, acceptorConfig(flood), openerConfig())
		for range 5 {
			d.open(t, Start{App: 1, Head: []byte("slow"), End: true})
		}
		st := d.open(t, Start{App: 1, Head: []byte("h"), End: true})
		buf := make([]byte, 100)
		for range 2000 {
			if _, err := st.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
	})
	// And towards a node that sets nothing aside.
	synctest.Test(t, func(t *testing.T) {
		d := newDuo(t, acceptorConfig(func(st *Stream) {
			if h, _ := st.Head(); strings.HasPrefix(string(h), "slow") {
				mute(st)
				return
			}
			st.Skip(4)
			echo(st)
		}), openerConfig())
		for range 3 {
			slow := d.open(t, Start{App: 1, Head: []byte("slow")})
			go func() {
				for {
					if _, err := slow.Write([]byte("x")); err != nil {
						return
					}
				}
			}()
		}
		synctest.Wait()
		st := d.open(t, Start{App: 1, Head: []byte("fasthead")})
		go func() {
			for range 500 {
				st.Write([]byte("0123456789"))
			}
			st.CloseWrite()
		}()
		st.Head()
		got, err := io.ReadAll(st)
		if err != nil || len(got) != 4+5000 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func TestBuffersAreBounded(t *testing.T) {
	bubble(t, func(c *Config) { c.Handle = mute }, func(t *testing.T, r *raw) {
		big := string(make([]byte, 72<<10))
		capability := string(make([]byte, 60<<10))
		for i := range uint64(120) {
			r.sendCap(oap.Header{Flags: oap.REQ | oap.START, App: 1, Corr: 2*i + 1}, capability, big)
		}
		synctest.Wait()
		r.s.mu.Lock()
		held := r.s.buffered
		r.s.mu.Unlock()
		if held > maxBuffered || held < maxBuffered/2 || r.counts.rejects[flow.ReasonOverload] == 0 || r.s.Err() != nil {
			t.Errorf("%d bytes are held, %v, %v", held, r.counts.rejects, r.s.Err())
		}
	})
}

func TestCompressedPayloads(t *testing.T) {
	z, ok := compress(t, []byte("HEADHEADHEADHEAD"+strings.Repeat("a", 40)))
	if !ok {
		t.Fatal("it does not compress")
	}
	bubble(t, func(c *Config) { c.Expand = expander(t) }, func(t *testing.T, r *raw) {
		r.start(1, oap.COMP, string(z))
		r.data(1, oap.COMP|oap.END, string(z))
		var got []byte
		for {
			f := r.answer()
			got = append(got, f.Payload...)
			if f.Flags&oap.END != 0 {
				break
			}
		}
		if len(got) != 2*56 {
			t.Errorf("%d bytes came back", len(got))
		}
	})
}
