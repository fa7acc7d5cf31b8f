// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A stranger's view of a node's audit log: what golang.org/x/mod and a C2SP
// log checker make of what is served, with no code of the node's.
type stranger struct {
	t     testing.TB
	base  string // of the log, with a slash
	token string
}

// stranger looks at the node's log.
func (n *node) stranger() *stranger {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, "operator.cap"))
	if err != nil {
		n.t.Fatal(err)
	}
	return &stranger{n.t, n.HTTP + "/v1/audit/log/", strings.TrimSpace(string(text))}
}

func (s *stranger) get(path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", s.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("%s: %d", path, resp.StatusCode)
	}
	return body, err
}

func (s *stranger) must(path string) []byte {
	s.t.Helper()
	body, err := s.get(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return body
}

// checkpoint is the newest tree that x/mod's note says was signed.
func (s *stranger) checkpoint() tlog.Tree {
	s.t.Helper()
	v, err := note.NewVerifier(strings.TrimSpace(string(s.must("key"))))
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := note.Open(s.must("checkpoint"), note.VerifierList(v))
	if err != nil {
		s.t.Fatal(err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 3 || lines[0] != v.Name() {
		s.t.Fatalf("a checkpoint of %q", n.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		s.t.Fatal(err)
	}
	return tlog.Tree{N: size, Hash: root}
}

// tiles has x/mod read tiles from C2SP's paths, which have no height.
type tiles struct{ *stranger }

func (t tiles) Height() int                     { return 8 }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t tiles) ReadTiles(list []tlog.Tile) (out [][]byte, err error) {
	for _, tile := range list {
		b, err := t.get("tile/" + strings.TrimPrefix(tile.Path(), "tile/8/"))
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// entries are those of a bundle of the tree.
func (s *stranger) entries(index, size int64) (out [][]byte) {
	s.t.Helper()
	tile := tlog.Tile{H: 8, L: 0, N: index, W: int(min(size-index*256, 256))}
	b := s.must("tile/entries/" + strings.TrimPrefix(tile.Path(), "tile/8/0/"))
	for len(b) >= 2 {
		n := int(b[0])<<8 | int(b[1])
		if len(b) < 2+n {
			s.t.Fatalf("bundle %d ends in the middle", index)
		}
		out, b = append(out, b[2:2+n]), b[2+n:]
	}
	if len(b) > 0 || len(out) != tile.W {
		s.t.Fatalf("bundle %d has %d entries and %d bytes more, not %d", index, len(out), len(b), tile.W)
	}
	return out
}

// verify reads the whole log with x/mod: each entry is what its leaf says, the
// leaves make the root that was signed, and older trees are its beginnings.
func (s *stranger) verify(older ...tlog.Tree) tlog.Tree {
	s.t.Helper()
	now := s.checkpoint()
	hashes := tlog.TileHashReader(now, tiles{s})
	if root, err := tlog.TreeHash(now.N, hashes); err != nil || root != now.Hash {
		s.t.Fatalf("the tiles do not make the root of %d records: %v", now.N, err)
	}
	for index := int64(0); index*256 < now.N; index++ {
		var at []int64
		list := s.entries(index, now.N)
		for i := range list {
			at = append(at, tlog.StoredHashIndex(0, index*256+int64(i)))
		}
		leaves, err := hashes.ReadHashes(at)
		if err != nil {
			s.t.Fatal(err)
		}
		for i, entry := range list {
			if tlog.RecordHash(entry) != leaves[i] {
				s.t.Fatalf("entry %d is not what the tree was made of", index*256+int64(i))
			}
		}
	}
	for _, old := range older {
		if old.N > now.N {
			s.t.Fatalf("a tree of %d was signed, and now there are %d", old.N, now.N)
		}
		p, err := tlog.ProveTree(now.N, old.N, hashes)
		if err == nil {
			err = tlog.CheckTree(p, now.N, now.Hash, old.N, old.Hash)
		}
		if err != nil {
			s.t.Fatalf("the tree of %d does not begin with the one of %d that was signed: %v", now.N, old.N, err)
		}
	}
	return now
}

// fsck runs the checker and returns what it found wrong; "": nothing. Where it found
// something it may wait for ever, with that on its screen: most is how long it gets.
func (s *stranger) fsck(most time.Duration) string {
	s.t.Helper()
	tool := toolAt(s.t, "tlog-fsck")
	key := filepath.Join(s.t.TempDir(), "vkey")
	if err := os.WriteFile(key, s.must("key"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), most)
	defer cancel()
	out, err := exec.CommandContext(ctx, tool, "--storage_url", s.base, "--public_key", key, "--bearer_token", s.token, "--ui=false", "-v=1", "--N=4").CombinedOutput()
	switch {
	case bytes.Contains(out, []byte("fsck failed")), bytes.Contains(out, []byte(":Invalid")):
		return string(out)
	case err != nil:
		s.t.Fatalf("fsck: %v\n%s", err, out)
	case !bytes.Contains(out, []byte("Completed ranges")):
		s.t.Fatalf("fsck did not end\n%s", out)
	}
	return ""
}

// toolAt is a tool that setup builds.
func toolAt(t testing.TB, name string) string {
	t.Helper()
	tool := binary(t, name)
	if _, err := os.Stat(tool); err != nil {
		t.Fatalf("%v; run: make setup", err)
	}
	return tool
}

// both has both look at the log.
func (s *stranger) both(when string, older ...tlog.Tree) tlog.Tree {
	s.t.Helper()
	now := s.verify(older...)
	if wrong := s.fsck(patience); wrong != "" {
		s.t.Fatalf("%s: %s", when, wrong)
	}
	s.t.Logf("%s: both find a log of %d records right", when, now.N)
	return now
}

// refusals makes n records, of which few are admin actions.
func (n *node) refusals(count int) {
	n.t.Helper()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range count / 4 {
				resp, err := http.Get(n.HTTP + "/v1/objects")
				if err != nil {
					return // it was killed
				}
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
}

// settled waits until what is durable has a checkpoint.
func (n *node) settled() {
	n.t.Helper()
	s := n.stranger()
	n.await("signing what it recorded", func() bool {
		size := n.metric("audit_tree_size")
		if _, err := s.get("checkpoint"); err != nil {
			return false // there is none yet
		}
		return size > 0 && float64(s.checkpoint().N) >= size
	})
}

// TestStrangersVerifyTheLog: today's tools verify the log of a node that runs, after
// kill -9 in the middle of a load, and of a directory that was copied back.
func TestStrangersVerifyTheLog(t *testing.T) {
	n := startDev(t, t.TempDir())
	n.refusals(400)
	n.operate("tenant", "create", "one").must(t, 0)
	n.settled()
	trees := []tlog.Tree{n.stranger().both("a live log")}
	for range 3 {
		var wg sync.WaitGroup
		wg.Go(func() { n.refusals(4000) })
		for i := range 5 {
			n.operate("tenant", "create", fmt.Sprintf("k-%d-%d", len(trees), i)).must(t, 0)
		}
		trees = append(trees, n.stranger().checkpoint()) // under the load: it was signed
		n.kill()
		wg.Wait()
		n.start()
		n.settled()
		trees = append(trees, n.stranger().both("after kill -9", trees...))
	}
	if n.stop() != 0 {
		t.Errorf("the node does not stop\n%s", n.log)
	}
	copied := filepath.Join(t.TempDir(), "restored")
	if out, err := exec.Command("cp", "-a", n.dir, copied).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	r := startDev(t, copied)
	r.refusals(40)
	r.settled()
	r.stranger().both("a copied directory", trees...)

	// A tool that finds nothing wrong with anything would show nothing.
	for what, change := range map[string]func(path string, body []byte) []byte{
		"an entry": func(path string, body []byte) []byte {
			if strings.Contains(path, "/tile/entries/") {
				return bytes.Replace(body, []byte(`"kind":"object.list"`), []byte(`"kind":"object.lost"`), 1)
			}
			return body
		},
		"a tile": func(path string, body []byte) []byte {
			if strings.Contains(path, "/tile/0/") {
				body[7] ^= 1
			}
			return body
		},
	} {
		s := r.stranger()
		s.base = liar(t, s.base, change) + "/v1/audit/log/"
		if s.fsck(5*time.Second) == "" {
			t.Errorf("%s was changed on its way, and the checker finds nothing", what)
		}
	}
}

// liar serves what is at base, changed.
func liar(t *testing.T, base string, change func(path string, body []byte) []byte) string {
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+u.Host+r.URL.Path, nil)
		if err != nil {
			w.WriteHeader(500)
			return
		}
		req.Header = r.Header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			w.WriteHeader(502)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			w.WriteHeader(502)
			return
		}
		if resp.StatusCode == 200 {
			body = change(r.URL.Path, body)
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestAuditOnAFullDisk fills the disk from outside, to the last byte. Admin actions go
// on, on record, from the log's own reserve, and checkpoints are signed; other records
// are dropped with a count. Once the reserve is used up, nothing is done that cannot be
// put on record. When there is room again all goes on, and the log verifies.
func TestAuditOnAFullDisk(t *testing.T) {
	dir := mountDisk(t, 192<<20)
	n := startSignedOn(t, dir, func(text string) string {
		return section("audit", "segment_bytes = \"1MiB\"\nreserve_bytes = \"4MiB\"")(section("data", "reserve_bytes = \"1MiB\"")(text))
	})
	n.OperatorCap = filepath.Join(n.dir, "operator.cap")
	s := n.stranger()
	n.settled()
	old := s.both("before")
	big := filepath.Join(dir, "somebody-else")
	f, err := os.Create(big)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 1<<20); ; {
		if _, err = f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
		if len(chunk) == 0 {
			break
		}
	}
	_ = f.Close() // it may say once more that there is no space
	act := func() error {
		req, err := http.NewRequestWithContext(t.Context(), "POST", n.HTTP+"/v1/admin/breakers/metadata", strings.NewReader(`{"state":"auto"}`))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+s.token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			return errors.New(resp.Status)
		}
		return nil
	}
	shed := n.metric("audit_shed_total")
	for range 20 {
		if err := act(); err != nil {
			t.Fatalf("an admin action on a full disk: %v\n%s", err, n.log)
		}
	}
	n.await("dropping what nobody must know", func() bool {
		n.refusals(400)
		return n.metric("audit_shed_total") > shed
	})
	for range 20 {
		if err := act(); err != nil {
			t.Fatalf("an admin action on a full disk: %v\n%s", err, n.log)
		}
	}
	n.settled() // signed, though the disk is full
	full := s.both("on a full disk", old)
	if err := os.Remove(big); err != nil {
		t.Fatal(err)
	}
	n.await("recording refusals again", func() bool {
		before := n.metric("audit_tree_size")
		n.refusals(40)
		return n.metric("audit_tree_size") > before+20
	})
	tries := 0
	n.await("making tenants again", func() bool {
		tries++
		return n.operate("tenant", "create", fmt.Sprint("later-", tries)).code == 0
	})
	n.settled()
	after := s.both("with room again", old, full)
	n.kill()
	n.start()
	n.settled()
	n.stranger().both("killed and started", old, full, after)
	if out := n.operate("audit", "query", "--kind", "audit.shed").must(t, 0).out; !strings.Contains(out, "audit.shed") {
		t.Error("what was dropped is not on record")
	}
}
