// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// pair is both ends of a connection.
func pair(t testing.TB, stall time.Duration) (*Conn, net.Conn) {
	t.Helper()
	s, _ := newSet(t, wide())
	e := tcp("127.0.0.1:0")
	e.StallTimeout = stall
	client := dial(t, apply(t, s, e))
	v := s.View()
	t.Cleanup(func() { v.Close() })
	return accept(t, v).(*Conn), client
}

// What is held leaves with what comes after it, in order, once.
func TestHold(t *testing.T) {
	c, client := pair(t, patience)
	big := bytes.Repeat([]byte("b"), 1<<20)
	received := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(client)
		received <- all
	}()
	write := func(p []byte) {
		t.Helper()
		if n, err := c.Write(p); n != len(p) || err != nil {
			t.Fatalf("%d of %d: %v", n, len(p), err)
		}
	}
	write([]byte("first."))
	c.Hold()
	write([]byte("head."))
	if string(c.head) != "head." {
		t.Fatalf("%q is held", c.head)
	}
	write(big)
	write([]byte("plain."))
	c.Hold()
	write(bytes.Repeat([]byte("h"), maxHeld+1)) // too much to be held
	if len(c.head) != 0 {
		t.Fatal("held")
	}
	write([]byte("end"))
	c.Close()
	want := "first.head." + string(big) + "plain." + string(bytes.Repeat([]byte("h"), maxHeld+1)) + "end"
	if got := <-received; string(got) != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
}

// A write whose client does not read ends after the stall timeout, whether the
// socket's deadline is of this write or of one before; what was held does not
// count as written.
func TestStall(t *testing.T) {
	const stall = 80 * time.Millisecond
	c, _ := pair(t, stall)
	big := make([]byte, 16<<20)
	for _, hold := range []bool{false, true} {
		if hold {
			c.Hold()
			c.Write([]byte("head"))
		}
		began := time.Now()
		n, err := c.Write(big)
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || n == len(big) || took < stall {
			t.Fatalf("%d bytes after %v: %v", n, took, err)
		}
	}
}

// A deadline that passed between two writes harms neither.
func TestIdleBetweenWrites(t *testing.T) {
	c, client := pair(t, patience)
	go io.Copy(io.Discard, client)
	for range 3 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		c.limit(time.Now().Add(-time.Second))
		c.mu.Unlock()
	}
}

func TestWriteDeadline(t *testing.T) {
	c, client := pair(t, time.Hour)
	c.SetWriteDeadline(time.Now().Add(-time.Second))
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d %v", n, err)
	}
	c.SetWriteDeadline(time.Time{})
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	// It ends a write under way too.
	failed := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, 16<<20))
		failed <- err
	}()
	for {
		c.mu.Lock()
		writing := c.writing
		c.mu.Unlock()
		if writing > 0 {
			break
		}
		runtime.Gosched()
	}
	c.SetWriteDeadline(time.Now().Add(-time.Second))
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	_ = client
}

func TestWriteDoesNotAllocate(t *testing.T) {
	c, client := pair(t, patience)
	go io.Copy(io.Discard, client)
	head, p := make([]byte, 500), make([]byte, 8<<10)
	if n := testing.AllocsPerRun(100, func() {
		c.Hold()
		c.Write(head)
		c.Write(p)
		c.Write(p)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is gathered leaves together, before what others write then; what there is no
// room for does not wait.
func TestGather(t *testing.T) {
	c, client := pair(t, patience)
	received := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(client)
		received <- all
	}()
	var want []byte
	write := func(p string) {
		t.Helper()
		want = append(want, p...)
		if n, err := c.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatalf("%d of %d: %v", n, len(p), err)
		}
	}
	write("before.")
	other := errors.New("other")
	err := c.Gather(make([]byte, 10), func() error {
		write("12345")
		if string(c.gathered) != "12345" {
			t.Fatalf("%q is gathered", c.gathered)
		}
		write("67890")
		write("next")
		if string(c.gathered) != "next" {
			t.Fatalf("%q is gathered", c.gathered)
		}
		write("longer than there is room")
		write("rest")
		return other
	})
	if err != other {
		t.Errorf("%v, want what write returned", err)
	}
	if c.gather || c.gathered != nil {
		t.Error("gathers on")
	}
	write("after")
	c.Close()
	if got := <-received; !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := c.Gather(make([]byte, 10), func() error { _, err := c.Write([]byte("x")); return err }); err == nil {
		t.Error("what was gathered is lost, and nobody is told")
	}
}
