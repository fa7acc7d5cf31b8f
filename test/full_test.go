// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

const (
	smallDisk = 112 << 20 // of the file system
	// smallReserve leaves some 45 MiB of it for objects.
	smallReserve = 24 << 20
	// reserveUse is what deletes, the metadata's log and the like may have taken of
	// it; objects may not.
	reserveUse = 8 << 20
)

// mountSmall makes a file system of its own, that is full soon.
func mountSmall(t *testing.T) (dir string) {
	t.Helper()
	return mountDisk(t, smallDisk)
}

// mountDisk makes a file system of so many bytes.
func mountDisk(t *testing.T, size int64) (dir string) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-m", "0", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err == nil {
			continue
		}
		text := fmt.Sprintf("%v: %v\n%s", args, err, out)
		if os.Getenv("MACRONODE_NO_MOUNT") != "" {
			t.Skip("NOT TESTED, though it should be: a full disk. A loop device cannot be mounted here: " + text)
		}
		t.Fatal("a full disk needs a loop device and the right to mount it; MACRONODE_NO_MOUNT=1 goes without: " + text)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return dir
}

// TestDiskFull fills a file system and makes room again, cycle after cycle.
// While it is full, writes and nothing else are refused; the node drains, is
// killed and starts. It recovers by itself, and nothing that was acknowledged is
// lost. MACRONODE_FULL_CYCLES sets the number of cycles.
func TestDiskFull(t *testing.T) {
	cycles := envInt(t, "MACRONODE_FULL_CYCLES", 3)
	n := startSignedOn(t, mountSmall(t), section("data", fmt.Sprintf("reserve_bytes = \"%dB\"", smallReserve)))
	w := newWorld("acme")
	var full time.Duration
	for cycle := range uint64(cycles) {
		rnd := rand.New(rand.NewPCG(cycle, 11))
		c := w.dial(t, n)
		w.fillUp(t, c, cycle)
		begun := time.Now()
		n.whileFull(w, c, rnd)
		c.Close()
		switch cycle % 3 {
		case 0:
			n.kill()
			n.start()
		case 1:
			if code := n.stop(); code != 0 {
				t.Errorf("SIGTERM on a full disk: exit %d", code)
			}
			n.start()
		case 2:
			n.drainAndBack()
		}
		w.check(t, n)
		c = w.dial(t, n)
		n.makeRoom(w, c, rnd)
		full += time.Since(begun)
		w.check(t, n)
		c.Close()
		if t.Failed() {
			t.Fatalf("cycle %d\n%s", cycle, n.log)
		}
		w.forget()
	}
	t.Logf("%d cycles, %d objects put, %d deleted, full for %s in all", cycles, w.puts, w.deletes, full.Round(time.Millisecond))
}

// TestKillFull kills the node with -9 under writers that the disk has no room for,
// MACRONODE_FULL_KILLS times.
func TestKillFull(t *testing.T) {
	rounds := envInt(t, "MACRONODE_FULL_KILLS", 3)
	n := startSignedOn(t, mountSmall(t), section("data", fmt.Sprintf("reserve_bytes = \"%dB\"", smallReserve)))
	w := newWorld("acme")
	c := w.dial(t, n)
	defer c.Close()
	w.fillUp(t, c, 1)
	for round := range uint64(rounds) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for worker := range uint64(8) {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(round, worker+500))
				for ctx.Err() == nil {
					if err := w.step(ctx, c, rnd); err != nil && !isFull(err) {
						return // the node is gone
					}
				}
			})
		}
		before := n.metric("rejected_total", `reason="disk"`)
		n.await("refusing the load", func() bool { return n.metric("rejected_total", `reason="disk"`) > before+20 })
		n.kill()
		cancel()
		wg.Wait()
		n.start()
		w.check(t, n)
		if t.Failed() {
			t.Fatalf("round %d\n%s", round, n.log)
		}
		c.Close()
		c = w.dial(t, n)
	}
	t.Logf("%d kills on a full disk, %d objects put, %d deleted, %d put again", rounds, w.puts, w.deletes, w.again)
}

// isFull reports a refusal as it has to be on a full disk.
func isFull(err error) bool {
	var p *client.Error
	return errors.As(err, &p) && p.Status == 507 && p.Code == "disk_full" && !p.Retryable && p.RetryAfter == 0
}

// fillUp writes from four clients until the disk is full for all of them. Nothing
// but that may refuse them.
func (w *world) fillUp(t *testing.T, c *client.Client, seed uint64) {
	t.Helper()
	var wg sync.WaitGroup
	for worker := range uint64(4) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, worker+300))
			for refused := 0; refused < 5; {
				s := seeded{seed: rnd.Uint64(), size: 1 + rnd.IntN(16<<10)}
				if rnd.IntN(3) == 0 || refused > 0 { // what is small fits longest
					s.size = 256<<10 + rnd.IntN(1<<20)
				}
				err := w.put(t.Context(), c, s)
				switch {
				case isFull(err):
					refused++
				case err != nil:
					t.Errorf("a put while the disk fills: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// whileFull does what must go on, and what must be refused.
func (n *node) whileFull(w *world, c *client.Client, rnd *rand.Rand) {
	t, ctx := n.t, n.t.Context()
	t.Helper()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(n.dir, &disk); err != nil {
		t.Fatal(err)
	}
	if free := int64(disk.Bavail) * disk.Bsize; free < smallReserve-reserveUse {
		t.Errorf("%d bytes are free, the reserve is %d", free, smallReserve)
	}
	var slowest time.Duration
	before := n.metric("rejected_total", `reason="disk"`)
	for range 10 {
		begun := time.Now()
		err := w.put(ctx, c, seeded{seed: rnd.Uint64(), size: 2 << 20})
		slowest = max(slowest, time.Since(begun))
		if !isFull(err) {
			t.Errorf("a put on a full disk: %v", err)
		}
	}
	if got := n.metric("rejected_total", `reason="disk"`) - before; got != 10 {
		t.Errorf("rejected_total{reason=disk} counts %v of 10", got)
	}
	if slowest > 2*time.Second {
		t.Errorf("a refusal took %s", slowest)
	}
	for range 20 {
		addr, s, ok := w.pick(present)
		if !ok {
			t.Fatal("nothing was stored")
		}
		w.settle(addr, present, present, nil)
		var got bytes.Buffer
		if _, err := c.Get(ctx, addr, &got, client.GetOptions{}); err != nil || !bytes.Equal(got.Bytes(), content(s.seed, s.size)) {
			t.Errorf("a read on a full disk: %v", err)
		}
	}
	if _, err := c.List(ctx, "", "", 10); err != nil {
		t.Errorf("a list on a full disk: %v", err)
	}
	n.operate("tenant", "usage", "acme").must(t, 0)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200} {
		resp, err := http.Get(n.HTTP + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s on a full disk: %d %.300s", path, resp.StatusCode, text)
		}
	}
	for range 2 { // small ones: they must not make room for the puts that follow
		if addr, s, ok := w.pickSmall(); ok {
			if err := w.drop(ctx, c, addr, s); err != nil {
				t.Errorf("a delete on a full disk: %v", err)
			}
		}
	}
}

// pickSmall takes a present object of less than 16 KiB.
func (w *world) pickSmall() (b3.Addr, seeded, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for addr, s := range w.bytes {
		if s.state == present && s.size < 16<<10 {
			return addr, s, true
		}
	}
	return b3.Addr{}, seeded{}, false
}

// drainAndBack drains the node to idle and takes it back.
func (n *node) drainAndBack() {
	n.t.Helper()
	n.operate("node", "drain").must(n.t, 0)
	n.await("idle", func() bool {
		return strings.Contains(n.operate("node", "status", "--output", "json").must(n.t, 0).out, `"phase": "idle"`)
	})
	n.operate("node", "undrain").must(n.t, 0)
	n.operate("node", "ready", "--wait", "30s").must(n.t, 0)
}

// makeRoom deletes two of three objects and waits until writes are taken again.
func (n *node) makeRoom(w *world, c *client.Client, rnd *rand.Rand) {
	t, ctx := n.t, n.t.Context()
	t.Helper()
	for range w.count(present) * 2 / 3 {
		addr, s, _ := w.pick(present)
		if err := w.drop(ctx, c, addr, s); err != nil {
			t.Fatalf("a delete on a full disk: %v", err)
		}
	}
	n.await("taking writes again", func() bool {
		err := w.put(ctx, c, seeded{seed: rnd.Uint64(), size: 1 << 20})
		if err != nil && !isFull(err) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// forget drops what is known to be deleted; should it come back, it is an object
// that was never put.
func (w *world) forget() {
	for addr, s := range w.bytes {
		if s.state == absent {
			delete(w.bytes, addr)
		}
	}
}

// stored returns what a tenant's usage says.
func (n *node) stored(label string) (bytes, objects int64) {
	n.t.Helper()
	var u client.Usage
	if err := json.Unmarshal([]byte(n.operate("tenant", "usage", label, "--output", "json").must(n.t, 0).out), &u); err != nil {
		n.t.Fatal(err)
	}
	return u.StoredBytes, u.Objects
}
