// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// killDir tells a test binary that it is the process to be killed, and where it
// is to write.
const killDir = "MACRONODE_KILL_DIR"

// rounds returns the number of kills: MACRONODE_KILL_ROUNDS, 10, or 2 with -short.
func rounds(t *testing.T) int {
	t.Helper()
	if s := os.Getenv("MACRONODE_KILL_ROUNDS"); s != "" {
		return number(t, s)
	}
	if testing.Short() {
		return 2
	}
	return 10
}

// killed runs this test in another process, takes its lines with line, and kills
// it after some of them. Lines that it wrote before it died all count.
func killed(t *testing.T, dir string, after int, line func(string)) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	n := 0
	r := bufio.NewReader(out)
	for {
		s, err := r.ReadString('\n')
		if err != nil { // a line cut off is none
			break
		}
		line(s)
		if n++; n == after {
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); n < after {
		t.Fatalf("it ended by itself after %d lines: %v: %s", n, err, stderr.Bytes())
	}
}

// child writes lines for killed, whole ones, from many goroutines.
type child struct{ mu sync.Mutex }

func (c *child) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(os.Stdout, fmt.Sprintf(format, args...)) // the parent may be gone
}

// KVKill kills a process that writes, again and again, with SIGKILL: all that it
// acknowledged is there, nothing in part. It must be all that its test does.
func KVKill(t *testing.T, open func(dir string) (store.KV, error)) {
	l := &load{seed: 77}
	dir := os.Getenv(killDir)
	if dir != "" {
		kvVictim(t, l, open)
		return
	}
	dir = t.TempDir()
	r := rand.New(rand.NewPCG(1, 1))
	for round := range rounds(t) {
		killed(t, dir, 20+r.IntN(300), func(s string) {
			var w int
			var n int64
			if _, err := fmt.Sscanf(s, "ack %d %d\n", &w, &n); err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			l.acked[w].Store(n)
		})
		kv, err := open(dir)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := errors.Join(l.check(t.Context(), kv, l.told()), kv.Close()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

func kvVictim(t *testing.T, l *load, open func(dir string) (store.KV, error)) {
	kv, err := open(os.Getenv(killDir))
	must(t, err)
	var c child
	var wg sync.WaitGroup
	for w := range crashWriters {
		wg.Go(func() {
			for l.write(context.Background(), kv, w) == nil {
				c.say("ack %d %d\n", w, l.acked[w].Load())
			}
		})
	}
	wg.Wait()
}

// ObjectsKill is KVKill for objects.
func ObjectsKill(t *testing.T, open func(dir string) (store.Objects, error)) {
	if os.Getenv(killDir) != "" {
		objectsVictim(t, open)
		return
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(2, 1))
	s := newShelf()
	for round := range rounds(t) {
		killed(t, dir, 10+r.IntN(60), func(line string) {
			var verb, loc string
			var n int
			var seed uint64
			if _, err := fmt.Sscanf(line, "%s %d %d %s\n", &verb, &n, &seed, &loc); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			data := Bytes(n, seed)
			addr := b3.Sum(data)
			s.tried[addr] = data
			switch verb {
			case "put":
				s.stored[store.Loc(loc)] = addr
			case "removing":
				delete(s.stored, store.Loc(loc))
			case "removed":
				s.removed[store.Loc(loc)] = true
			}
		})
		objs, err := open(dir)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := errors.Join(s.check(t.Context(), objs), objs.Close()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

func objectsVictim(t *testing.T, open func(dir string) (store.Objects, error)) {
	objs, err := open(os.Getenv(killDir))
	must(t, err)
	var c child
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				n, seed := rand.IntN(200_000), uint64(rand.Uint32())
				c.say("try %d %d -\n", n, seed)
				o, err := Put(context.Background(), objs, Bytes(n, seed), 50_000)
				if err != nil {
					return
				}
				c.say("put %d %d %s\n", n, seed, o.Loc)
				if i%3 == 0 {
					c.say("removing %d %d %s\n", n, seed, o.Loc)
					if objs.Remove(context.Background(), o.Loc) != nil {
						return
					}
					c.say("removed %d %d %s\n", n, seed, o.Loc)
				}
			}
		})
	}
	wg.Wait()
}
