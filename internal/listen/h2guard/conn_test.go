// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package h2guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// frame is one frame's bytes.
func frame(kind, flags byte, stream uint32, payload string) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// end is a guarded connection with its client.
type end struct {
	guard  *Conn
	client net.Conn
	trips  []Flood
	got    bytes.Buffer  // what the guard let through
	done   chan error    // of the guard's reader
	heard  chan struct{} // closed: the client saw the end
	said   bytes.Buffer  // what the client was sent
}

// pair must run in a bubble.
func pair(t *testing.T) *end {
	client, server := net.Pipe()
	e := &end{client: client, done: make(chan error, 1), heard: make(chan struct{})}
	e.guard = New(server, Config{HeaderTimeout: 5 * time.Second, StallTimeout: 10 * time.Second, Trip: func(f Flood) { e.trips = append(e.trips, f) }})
	go func() {
		_, err := io.Copy(&e.got, e.guard)
		e.guard.Close()
		e.done <- err
	}()
	go func() {
		io.Copy(&e.said, client)
		close(e.heard)
	}()
	t.Cleanup(func() { client.Close() })
	return e
}

func (e *end) send(b []byte) bool {
	_, err := e.client.Write(b)
	return err == nil
}

// ended checks that the guard tripped over want alone and said so.
func (e *end) ended(t *testing.T, want Flood) {
	t.Helper()
	if err := <-e.done; !errors.Is(err, ErrFlood) {
		t.Errorf("Read ended with %v", err)
	}
	<-e.heard
	if !slices.Equal(e.trips, []Flood{want}) {
		t.Errorf("tripped %v, want %v", e.trips, want)
	}
	last := e.said.Bytes()
	last = last[max(0, len(last)-17-len(want)):]
	if len(last) != 17+len(want) || last[3] != typeGoAway || last[16] != errEnhanceYourCalm || string(last[17:]) != string(want) {
		t.Errorf("the last frame is %q", last)
	}
}

func TestFloods(t *testing.T) {
	request := frame(typeHeaders, flagEndStream|flagEndHeaders, 1, "x")
	for _, c := range []struct {
		name    string
		first   []byte
		flood   []byte
		allowed int // repetitions that pass
		want    Flood
	}{
		{"resets", request, frame(typeReset, 0, 1, "\x00\x00\x00\x08"), 1000, Resets},
		{"pings", nil, frame(typePing, 0, 0, "12345678"), 1000, Pings},
		{"ping answers", nil, frame(typePing, 1, 0, "12345678"), 1000, Pings},
		{"settings", nil, frame(typeSettings, 0, 0, ""), 100, Settings},
		{"settings acks", nil, frame(typeSettings, 1, 0, ""), 100, Settings},
		{"priorities", nil, frame(typePriority, 0, 1, "12345"), 4000, Priorities},
		{"windows", nil, frame(typeWindowUpdate, 0, 0, "\x00\x00\x00\x01"), 4000, Windows},
		{"empty data", frame(typeHeaders, flagEndHeaders, 1, "x"), frame(typeData, 0, 1, ""), 1000, Empty},
		{"unknown", nil, frame(99, 0, 0, "?"), 1000, Unknown},
		{"goaways", nil, frame(typeGoAway, 0, 0, "12345678"), 1000, Unknown},
		{"empty pieces", frame(typeHeaders, 0, 1, "x"), frame(typeContinuation, 0, 1, ""), MaxContinuations, Continuation},
		{"large pieces", frame(typeHeaders, 0, 1, "x"), frame(typeContinuation, 0, 1, string(make([]byte, 16<<10))), 3, Continuation},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := pair(t)
				e.send([]byte(preface))
				e.send(c.first)
				for i := range c.allowed {
					if !e.send(c.flood) {
						t.Fatalf("ended after %d", i)
					}
				}
				synctest.Wait()
				if len(e.trips) != 0 {
					t.Fatalf("%v after %d", e.trips, c.allowed)
				}
				e.send(c.flood)
				e.ended(t, c.want)
				want := append([]byte(preface), c.first...)
				if !bytes.HasPrefix(e.got.Bytes(), want) || e.got.Len() > len(want)+c.allowed*len(c.flood)+headBytes {
					t.Errorf("%d bytes were let through", e.got.Len())
				}
			})
		})
	}
}

// A rate that is kept is kept for ever.
func TestRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := pair(t)
		e.send([]byte(preface))
		ping := frame(typePing, 0, 0, "12345678")
		tick := time.NewTicker(time.Second / 100)
		defer tick.Stop()
		for i := range 5000 {
			if !e.send(ping) {
				t.Fatalf("ended after %d", i)
			}
			<-tick.C
		}
	})
}

// Resets of what was answered, and windows for what was sent, cost nothing.
func TestEarned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := pair(t)
		e.send([]byte(preface))
		reply := frame(typeHeaders, flagEndStream|flagEndHeaders, 1, "ok")
		data := frame(typeData, 0, 1, string(make([]byte, windowBytes)))
		for i := range 10_000 {
			if _, err := e.guard.Write(reply); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			if _, err := e.guard.Write(data); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			if !e.send(frame(typeReset, 0, 1, "\x00\x00\x00\x08")) || !e.send(frame(typeWindowUpdate, 0, 0, "\x00\x00\x00\x01")) {
				t.Fatalf("ended after %d: %v", i, e.trips)
			}
		}
		// What was earned is no stock for a flood to come.
		for e.send(frame(typeReset, 0, 1, "\x00\x00\x00\x08")) {
		}
		e.ended(t, Resets)
	})
}

func TestSlowFrames(t *testing.T) {
	for _, c := range []struct {
		name  string
		sent  []byte
		drip  []byte // one byte each 2 s
		after time.Duration
	}{
		{"header block", frame(typeHeaders, 0, 1, "x"), nil, 5 * time.Second},
		{"dripping header block", frame(typeHeaders, 0, 1, "x"), frame(typeContinuation, flagEndHeaders, 1, "0123456789")[:10], 5 * time.Second},
		{"frame head", frame(typePing, 0, 0, "12345678")[:5], nil, 10 * time.Second},
		{"payload", frame(typeData, 0, 1, "12345678")[:12], nil, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := pair(t)
				e.send([]byte(preface))
				begun := time.Now()
				e.send(c.sent)
				for i := range c.drip {
					<-time.After(2 * time.Second)
					if !e.send(c.drip[i : i+1]) {
						break
					}
				}
				e.ended(t, SlowFrame)
				if d := time.Since(begun); d < c.after || d > c.after+3*time.Second {
					t.Errorf("ended after %s", d)
				}
			})
		})
	}
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := pair(t)
			e.send([]byte(preface))
			e.send(frame(typeHeaders, flagEndHeaders|flagEndStream, 1, "x"))
			<-time.After(time.Hour)
			if !e.send(frame(typePing, 0, 0, "12345678")) {
				t.Errorf("an idle connection was ended: %v", e.trips)
			}
			// A payload that moves may take its time.
			for _, b := range frame(typeData, 0, 1, "0123456789") {
				<-time.After(9 * time.Second)
				if !e.send([]byte{b}) {
					t.Fatalf("a moving frame was ended: %v", e.trips)
				}
			}
		})
	})
}

func TestNoPreface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := pair(t)
		e.send([]byte("PRI * HTTP/1.1\r\n"))
		e.ended(t, Preface)
	})
}

// The last frame waits for the end of the one under way, and nothing follows it.
func TestFarewellBetweenFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := pair(t)
		e.send([]byte(preface))
		e.send(frame(typeHeaders, flagEndHeaders, 7, "x"))
		data := frame(typeData, 0, 7, "0123456789")
		e.guard.Write(data[:12])
		for range 101 {
			e.send(frame(typeSettings, 0, 0, ""))
		}
		synctest.Wait()
		if e.said.Len() != 12 {
			t.Fatalf("%q came into a frame", e.said.Bytes()[12:])
		}
		if _, err := e.guard.Write(data[12:]); err != nil {
			t.Error(err)
		}
		e.ended(t, Settings)
		if said := e.said.Bytes(); !bytes.HasPrefix(said, data) || binary.BigEndian.Uint32(said[len(data)+9:]) != 7 {
			t.Errorf("%q", said)
		}
		if _, err := e.guard.Write(data); err == nil {
			t.Error("a frame after the last")
		}
	})
}

// A client that does not read is not waited for.
func TestFarewellToTheDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		g := New(server, Config{HeaderTimeout: time.Second, StallTimeout: 10 * time.Second, Trip: func(Flood) {}})
		blocked := make(chan error, 1)
		go func() {
			_, err := g.Write(frame(typePing, 1, 0, "12345678"))
			blocked <- err
		}()
		done := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, g)
			done <- err
		}()
		begun := time.Now()
		client.Write([]byte("POST"))
		if err := <-done; !errors.Is(err, ErrFlood) || time.Since(begun) > 3*farewell {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		if err := <-blocked; err == nil {
			t.Error("the write went through")
		}
	})
}

// FuzzSee: however bytes are cut up, the guard sees the same frames, and takes
// no length for granted.
func FuzzSee(f *testing.F) {
	f.Add([]byte(preface), uint8(3))
	f.Add(slices.Concat([]byte(preface), frame(typeHeaders, 0, 1, "abc"), frame(typeContinuation, flagEndHeaders, 1, "def"), frame(typePing, 0, 0, "12345678")), uint8(1))
	f.Add(slices.Concat([]byte(preface), bytes.Repeat(frame(typeSettings, 0, 0, ""), 120)), uint8(7))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		at := func(step int) (Flood, head, int) {
			c := New(nil, Config{HeaderTimeout: time.Hour, StallTimeout: time.Hour, Trip: func(Flood) {}})
			for off := 0; off < len(b); off += step {
				if flood := c.see(b[off:min(off+step, len(b))]); flood != "" {
					return flood, head{}, 0
				}
			}
			return "", c.in, c.pieces
		}
		f1, h1, p1 := at(max(len(b), 1))
		f2, h2, p2 := at(int(cut)%17 + 1)
		if f1 != f2 || h1.have != h2.have || h1.left != h2.left || p1 != p2 {
			t.Errorf("%q %+v %d, in pieces %q %+v %d", f1, h1, p1, f2, h2, p2)
		}
	})
}
