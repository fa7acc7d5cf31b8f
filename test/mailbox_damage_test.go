// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/client"
)

// stock is what a stopped node's mailbox holds: messages in the order they were
// sent, of which some were acknowledged.
type stock struct {
	dir   string
	sent  []string // payloads
	acked map[string]bool
}

// fillStock makes one in a node's directory and stops the node by end.
func fillStock(t *testing.T, end func(*node)) (*node, *stock) {
	t.Helper()
	n := startSigned(t, nil)
	n.TenantCap = filepath.Join(n.dir, "tenant.cap")
	s := &stock{dir: n.dir, acked: map[string]bool{}}
	n.box("http", "stock").configure(map[string]any{})
	n.stop() // the topic is in a snapshot
	n.start()
	n.TenantCap = filepath.Join(n.dir, "tenant.cap")
	b := n.box("oap", "stock")
	for i := range 120 {
		body := fmt.Sprintf("%03d ", i) + strings.Repeat(string(rune('a'+i%26)), 20_000)
		b.must(b.send(t.Context(), []byte(body), "", nil))
		s.sent = append(s.sent, body)
		if i%10 == 9 {
			list := b.take(pull{Max: 1, Visibility: 600_000})
			b.done("ack", list, nil)
			s.acked[string(list[0].Payload)] = true
		}
	}
	end(n)
	return n, s
}

// found is what a node gave out of a stock.
type found struct {
	came      []string // payloads, in order
	integrity int      // dead letters for that reason
	log       string
	refused   error // where receiving ended otherwise
}

// open runs a node on a copy of the stock that spoil changed, and takes everything.
func (s *stock) open(t *testing.T, what string, spoil func(dir string)) (f found) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if out, err := exec.Command("cp", "-a", "--sparse=always", s.dir, dir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	defer os.RemoveAll(dir)
	spoil(filepath.Join(dir, "mailbox"))
	n := &node{t: t, dir: dir, file: filepath.Join(filepath.Dir(dir), "endpoints.json")}
	n.args = []string{"run", "--config", n.bundle(), "--data", n.dir, "--endpoints", n.file}
	n.start()
	defer n.kill()
	n.TenantCap = filepath.Join(n.dir, "tenant.cap")
	b := n.box("http", "stock")
	for {
		list, err := b.receive(t.Context(), pull{Max: 50, Visibility: 600_000})
		if err != nil || len(list) == 0 {
			f.refused = err
			break
		}
		for _, g := range list {
			f.came = append(f.came, string(g.Payload))
		}
		b.done("ack", list, nil)
	}
	if f.refused == nil {
		for _, d := range b.graveyard() {
			if d.Reason == "integrity" {
				f.integrity++
			}
		}
		b.stand()
	}
	f.log = n.log.String()
	for _, p := range f.came {
		if !slices.Contains(s.sent, p) {
			t.Errorf("%s: a payload of %d bytes came that nobody sent", what, len(p))
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(f.came)))) != len(f.came) {
		t.Errorf("%s: messages came twice", what)
	}
	return f
}

// lost are the messages that should have come and did not, back those that came
// though they were acknowledged.
func (s *stock) lost(f found) (lost, back []string) {
	for _, p := range s.sent {
		came := slices.Contains(f.came, p)
		if came && s.acked[p] {
			back = append(back, p[:3])
		}
		if !came && !s.acked[p] {
			lost = append(lost, p[:3])
		}
	}
	return lost, back
}

// files are those of a mailbox, with the bytes that are in use.
func (s *stock) files(t *testing.T) map[string]int64 {
	t.Helper()
	top := filepath.Join(s.dir, "mailbox")
	used := map[string]int64{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(top, path)
		if n := len(bytes.TrimRight(text, "\x00")); n > 0 {
			used[name] = int64(n)
		}
		return nil
	})
	if err != nil || len(used) == 0 {
		t.Fatalf("%d files, %v", len(used), err)
	}
	return used
}

// TestMailboxDamage flips a bit at places of every file that a stopped node's mailbox
// has, and cuts each of them: the node starts and says what it found, no more than
// what lay there is lost, and nothing comes that is not what was sent.
// MACRONODE_DAMAGE_SPOTS sets the number of places in each file.
func TestMailboxDamage(t *testing.T) {
	spots := envInt(t, "MACRONODE_DAMAGE_SPOTS", 3)
	for name, end := range map[string]func(*node){
		"after a clean stop": func(n *node) { n.stop() },
		"after kill -9":      func(n *node) { n.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			_, s := fillStock(t, end)
			if lost, back := s.lost(s.open(t, "undamaged", func(string) {})); len(lost)+len(back) != 0 {
				t.Fatalf("undamaged: %v lost, %v came again", lost, back)
			}
			files := s.files(t)
			t.Logf("%d files: %v", len(files), files)
			for _, file := range slices.Sorted(maps.Keys(files)) {
				used := files[file]
				for spot := range spots {
					s.flip(t, file, used*int64(2*spot+1)/int64(2*spots))
				}
				s.flip(t, file, 9)
				s.cut(t, file, used, used/2)
				s.cut(t, file, used, 0)
			}
		})
	}
}

// flip holds damage to one record: one message that does not come, or comes again.
func (s *stock) flip(t *testing.T, file string, at int64) {
	t.Helper()
	what := fmt.Sprintf("%s, a bit at %d", file, at)
	f := s.open(t, what, func(dir string) {
		h, err := os.OpenFile(filepath.Join(dir, file), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		var b [1]byte
		_, err1 := h.ReadAt(b[:], at)
		b[0] ^= 1 << (at % 8)
		_, err2 := h.WriteAt(b[:], at)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
	})
	lost, back := s.lost(f)
	if f.refused != nil {
		t.Errorf("%s: %v", what, f.refused)
	}
	if len(lost)+len(back) > 1 {
		t.Errorf("%s: %d messages are lost, %d came again: %v %v\n%s", what, len(lost), len(back), lost, back, tellTale(f.log))
	}
	if len(lost) > f.integrity && !spoken(f.log) {
		t.Errorf("%s: %v is lost, and nobody says so:\n%s", what, lost, f.log)
	}
}

// cut takes the end of a file away: what was before it comes, and what comes is right.
func (s *stock) cut(t *testing.T, file string, used, at int64) {
	t.Helper()
	what := fmt.Sprintf("%s, cut at %d", file, at)
	f := s.open(t, what, func(dir string) {
		if err := os.Truncate(filepath.Join(dir, file), at); err != nil {
			t.Fatal(err)
		}
	})
	lost, back := s.lost(f)
	if f.refused != nil && len(lost) == 0 {
		t.Errorf("%s: %v", what, f.refused)
	}
	// A file of the log holds acks of others too.
	if most := int(used/20_000) + 1; len(lost) > most || len(back) > len(s.acked) {
		t.Errorf("%s: %d messages are lost, %d came again\n%s", what, len(lost), len(back), tellTale(f.log))
	}
	if len(lost) > 0 && !spoken(f.log) {
		t.Errorf("%s: %d messages are lost, and nobody says so:\n%s", what, len(lost), f.log)
	}
}

// spoken reports whether a log has a word of damage.
func spoken(log string) bool {
	for line := range strings.Lines(log) {
		if l := strings.ToLower(line); strings.Contains(l, "mailbox") && (strings.Contains(l, "damage") || strings.Contains(l, "torn") || strings.Contains(l, "cut")) {
			return true
		}
	}
	return false
}

// tellTale are a log's lines about the mailbox.
func tellTale(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if strings.Contains(line, "mailbox") || strings.Contains(line, "damage") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// mailboxDisk has room for a few files of the log, which grow to 64 MiB.
const mailboxDisk = 400 << 20

// fewMore is how many messages a restart may make room for: a part of the log's last file.
const fewMore = 100

// TestMailboxDiskFull: where the disk has no more room, sends are refused and all else
// goes on; what is acknowledged makes room, and nothing is lost.
func TestMailboxDiskFull(t *testing.T) {
	n := startSignedOn(t, mountDisk(t, mailboxDisk), section("data", fmt.Sprintf("reserve_bytes = \"%dB\"", smallReserve)))
	n.TenantCap = filepath.Join(n.dir, "tenant.cap")
	ctx := t.Context()
	b := n.box("http", "full")
	b.configure(map[string]any{"max_attempts": 2})
	b.must(b.send(ctx, []byte("to die"), "", nil))
	for range 2 {
		b.done("nack", b.one(), map[string]any{"delay_ms": 0, "reason": "dead"})
	}
	sent := map[string]bool{}
	for i, refused := 0, 0; refused < 5; i++ {
		s, err := b.send(ctx, content(uint64(i), 200_000), "", nil)
		switch {
		case isFull(err):
			refused++
		case err != nil:
			t.Fatalf("a send while the disk fills: %v\n%s", err, n.log)
		default:
			sent[s.ID] = true
		}
		if i > 2000 {
			t.Fatal("the disk does not fill")
		}
	}
	t.Logf("%d messages of 200 kB were taken", len(sent))
	n.whileMailboxFull(b)
	n.kill()
	n.start()
	b = n.box("oap", "full")
	// A start leaves room for a few at most.
	for i := 0; ; i++ {
		s, err := b.send(ctx, content(1, 200_000), "", nil)
		if isFull(err) {
			break
		}
		if err != nil || i == fewMore {
			t.Fatalf("send %d after a restart on a full disk: %v", i, err)
		}
		sent[s.ID] = true
	}
	for len(sent) > 0 {
		list := b.take(pull{Max: 50, Visibility: 600_000})
		if len(list) == 0 {
			t.Fatalf("%d messages are lost\n%s", len(sent), n.log)
		}
		for _, g := range list {
			if !sent[g.ID] || len(g.Payload) != 200_000 {
				t.Errorf("%v", summary([]got{g}))
			}
			delete(sent, g.ID)
		}
		b.done("ack", list, nil)
	}
	b.await(func() bool {
		_, err := b.send(context.WithoutCancel(ctx), content(2, 200_000), "", nil)
		var p *client.Error
		if err != nil && !(errors.As(err, &p) && p.Status == 507) {
			t.Fatal(err)
		}
		return err == nil
	})
	if d := b.graveyard(); len(d) != 1 {
		t.Errorf("%d dead letters", len(d))
	}
}

// whileMailboxFull does what must go on.
func (n *node) whileMailboxFull(b *box) {
	t := n.t
	t.Helper()
	begun := time.Now()
	list := b.take(pull{Max: 1, Visibility: 1})
	if len(list) != 1 {
		t.Fatalf("a receive on a full disk: %v", summary(list))
	}
	if d := b.graveyard(); len(d) == 0 {
		t.Error("no dead letters are listed on a full disk")
	}
	b.stand()
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if resp, text := n.request("GET", path, nil, nil); resp.StatusCode != 200 {
			t.Errorf("%s on a full disk: %d %.300s", path, resp.StatusCode, text)
		}
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}
