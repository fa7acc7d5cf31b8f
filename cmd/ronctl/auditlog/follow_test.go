// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/tlog"
)

// ledger is a log that may go on in two ways.
type ledger struct {
	key     tlog.Key
	secret  ed25519.PrivateKey
	entries [][]byte
	roots   []tlog.Hash
	front   tlog.Frontier
	heads   map[string]b3.Addr
}

func newLedger() *ledger {
	secret := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
	return &ledger{key: tlog.Key{Name: origin, Type: tlog.Ed25519, Public: secret.Public().(ed25519.PublicKey)}, secret: secret, heads: map[string]b3.Addr{}, roots: []tlog.Hash{tlog.EmptyRoot}}
}

// add appends n records; lie is in the kind of those.
func (l *ledger) add(t *testing.T, n int, lie string) *ledger {
	t.Helper()
	for range n {
		seq := len(l.entries)
		r := tlog.Record{V: tlog.Version, TSMilli: 1767225600000 + int64(seq), Writer: writer, Seq: uint64(seq), Stream: []string{"node", "tenant/a"}[seq%2], Kind: "cap.mint" + lie, Actor: "node", Subject: "node/"}
		e, err := r.Seal(l.heads[r.Stream])
		if err != nil {
			t.Fatal(err)
		}
		l.heads[r.Stream] = r.Hash
		l.entries = append(l.entries, e)
		l.front.Add(tlog.LeafHash(e), nil)
		l.roots = append(l.roots, l.front.Root())
	}
	return l
}

func (l *ledger) note(size int) []byte {
	text := tlog.Checkpoint{Origin: origin, Size: uint64(size), Root: l.roots[size]}.Text()
	return []byte(text + "\n" + tlog.Line(l.key, ed25519.Sign(l.secret, []byte(text))))
}

func (l *ledger) export(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	x, err := tlog.NewExporter(&b, tlog.Head{Origin: origin, Writer: writer, Size: uint64(size)})
	for _, e := range l.entries[:size] {
		if err == nil {
			err = x.Add(e)
		}
	}
	if err == nil {
		err = x.Close(l.note(size))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// command runs "audit ARGS" with --node as ronctl has it.
func command(t *testing.T, ctx context.Context, base string, args ...string) (out, errs string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	term := &cli.Terminal{In: strings.NewReader(""), Out: &o, Err: &e, Getenv: func(string) string { return "" }, Output: "json"}
	var at string
	c := Command(term, func(*cobra.Command) (context.Context, *client.Client, error) {
		cl, err := client.Dial(at, client.Options{Retries: -1})
		return ctx, cl, err
	})
	c.PersistentFlags().StringVar(&at, "node", base, "")
	c.SetArgs(args)
	c.SetOut(&o)
	c.SetErr(&e)
	c.SilenceErrors, c.SilenceUsage = true, true
	err = c.ExecuteContext(ctx)
	return o.String(), e.String(), err
}

func save(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDiff: of two states of a log one is the beginning of the other, or the first
// record that differs is named, though each verifies by itself.
func TestDiff(t *testing.T) {
	long := newLedger().add(t, 700, "")
	fork := newLedger().add(t, 300, "").add(t, 400, ".not")
	key := save(t, "vkey", []byte(long.key.String()+"\n"))
	var served []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/audit/export" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(served)
	}))
	defer s.Close()
	e := func(l *ledger, size int) string { return save(t, "export", l.export(t, size)) }
	n := func(l *ledger, size int) string { return save(t, "note", l.note(size)) }
	damaged := save(t, "damaged", bytes.Replace(long.export(t, 700), []byte(`"seq":650`), []byte(`"seq":651`), 1))
	for name, c := range map[string]struct {
		a, b   string
		served []byte
		says   []string // in the answer
		fails  string   // "": it does not
	}{
		"the same":                     {a: e(long, 700), b: e(long, 700), says: []string{`"verdict": "equal"`, `"same": 700`}},
		"a later one":                  {a: e(long, 256), b: e(long, 700), says: []string{`"verdict": "extends"`, `"same": 256`}},
		"an earlier one":               {a: e(long, 700), b: e(long, 5), says: []string{`"verdict": "shorter"`, `"same": 5`}},
		"a fork":                       {a: e(long, 700), b: e(fork, 700), says: []string{`"verdict": "fork"`, `"same": 300`, `"first_difference": 300`, `"cap.mint.not"`}, fails: "from record 300 on"},
		"a fork that ended":            {a: e(long, 700), b: e(fork, 301), says: []string{`"first_difference": 300`}, fails: "from record 300 on"},
		"up to where it forks":         {a: e(long, 300), b: e(fork, 700), says: []string{`"verdict": "extends"`}},
		"a node":                       {a: e(long, 100), b: s.URL, served: long.export(t, 700), says: []string{`"verdict": "extends"`, `"same": 100`}},
		"a node that went back":        {a: e(long, 700), b: s.URL, served: long.export(t, 650), says: []string{`"verdict": "shorter"`}, fails: "went back"},
		"a node that forked":           {a: e(long, 700), b: s.URL, served: fork.export(t, 700), says: []string{`"first_difference": 300`}, fails: "from record 300 on"},
		"a checkpoint that was kept":   {a: n(long, 400), b: e(long, 700), says: []string{`"verdict": "extends"`, `"same": 400`}},
		"one of the fork":              {a: n(long, 400), b: e(fork, 700), says: []string{`"verdict": "fork"`}, fails: "signed two logs"},
		"one of a node that went back": {a: n(long, 400), b: s.URL, served: long.export(t, 399), says: []string{`"verdict": "shorter"`}, fails: "went back"},
		"an old one last":              {a: e(long, 700), b: n(long, 400), says: []string{`"verdict": "shorter"`}},
		"not whole":                    {a: e(long, 700), b: damaged, fails: "record 650"},
		"two checkpoints":              {a: n(long, 1), b: n(long, 2), fails: "two checkpoints"},
		"another's checkpoint":         {a: save(t, "bad", bytes.Replace(long.note(400), []byte("\n400\n"), []byte("\n401\n"), 1)), b: e(long, 700), fails: "signature"},
	} {
		served = c.served
		out, _, err := command(t, t.Context(), "http://127.0.0.1:1", "diff", c.a, c.b, "--key", key)
		if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %v, want %q", name, err, c.fails)
		}
		for _, want := range c.says {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %s in %.400s", name, want, out)
			}
		}
		if c.fails != "" && len(c.says) > 0 && macronode.KindOf(err) != macronode.Integrity {
			t.Errorf("%s: the exit code does not say it: %v", name, err)
		}
	}
}

// TestTail: a stream that breaks off goes on where it was, in a later run too; what
// does not belong there ends it.
func TestTail(t *testing.T) {
	l := newLedger().add(t, 40, "")
	var asked []string
	broken := func(int) []byte { return nil }
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		from, err := strconv.Atoi(r.URL.Query().Get("from"))
		if err != nil {
			from = 30
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "retry: 1000\n\n")
		for seq := from; seq < min(from+7, len(l.entries)); seq++ { // then it breaks off
			entry := l.entries[seq]
			if b := broken(seq); b != nil {
				entry = b
			}
			fmt.Fprintf(w, "id: %d\nevent: record\ndata: %s\n\n: still here\n\n", seq, entry)
		}
	}))
	defer s.Close()
	seqs := func(out string) (list []uint64) {
		for line := range strings.Lines(out) {
			r, err := tlog.Parse([]byte(strings.TrimSpace(line)))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, r.Seq)
		}
		return list
	}
	cursor := filepath.Join(t.TempDir(), "cursor")
	out, errs, err := command(t, t.Context(), s.URL, "tail", "--from", "0", "-n", "18", "--cursor", cursor)
	if got := seqs(out); err != nil || len(got) != 18 || got[0] != 0 || got[17] != 17 || !strings.Contains(errs, "broke off") {
		t.Errorf("%v, %v, %s", err, got, errs)
	}
	if strings.Join(asked, " ") != "from=0 from=7 from=14" {
		t.Errorf("asked %q", asked)
	}
	out, _, err = command(t, t.Context(), s.URL, "tail", "-n", "3", "--cursor", cursor)
	if got := seqs(out); err != nil || len(got) != 3 || got[0] != 18 {
		t.Errorf("a later run: %v, %v", err, got)
	}
	if out, _, err = command(t, t.Context(), s.URL, "tail", "-n", "1"); err != nil || seqs(out)[0] != 30 {
		t.Errorf("from now on: %v, %s", err, out)
	}
	for name, b := range map[string][]byte{
		"record 7 came where 5 was due": l.entries[7],
		"hash":                          bytes.Replace(l.entries[5], []byte("cap.mint"), []byte("cap.mind"), 1),
	} {
		broken = func(seq int) []byte {
			if seq == 5 {
				return b
			}
			return nil
		}
		if _, _, err := command(t, t.Context(), s.URL, "tail", "--from", "2"); macronode.KindOf(err) != macronode.Integrity || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := command(t, t.Context(), s.URL, "tail", "--from", "yesterday"); err == nil {
		t.Error("no index")
	}
}
