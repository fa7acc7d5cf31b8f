// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/tlog"
)

const (
	writer = "b3:1111111111111111111111111111111111111111111111111111111111111111"
	origin = "macronode/1111111111111111111111111111111111111111111111111111111111111111"
)

// node serves one record, its receipt and the export.
type node struct {
	entry, receipt, export []byte
	key                    tlog.Key
	asked                  []string
}

func newNode(t *testing.T) *node {
	secret := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
	n := &node{key: tlog.Key{Name: origin, Type: tlog.Ed25519, Public: secret.Public().(ed25519.PublicKey)}}
	r := tlog.Record{V: tlog.Version, TSMilli: 1767225600000, Writer: writer, Stream: "node", Kind: "cap.mint", Actor: "node", Subject: "node/"}
	var err error
	if n.entry, err = r.Seal(tlog.Genesis); err != nil {
		t.Fatal(err)
	}
	var front tlog.Frontier
	front.Add(tlog.LeafHash(n.entry), nil)
	text := tlog.Checkpoint{Origin: origin, Size: 1, Root: front.Root()}.Text()
	note := text + "\n" + tlog.Line(n.key, ed25519.Sign(secret, []byte(text)))
	if n.receipt, err = json.Marshal(tlog.Receipt{Record: n.entry, Inclusion: tlog.Inclusion{Size: 1, Path: tlog.Path{}}, Checkpoint: note}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	x, err := tlog.NewExporter(&b, tlog.Head{Origin: origin, Writer: writer, Size: 1})
	if err == nil {
		err = x.Add(n.entry)
	}
	if err == nil {
		err = x.Close([]byte(note))
	}
	if err != nil {
		t.Fatal(err)
	}
	n.export = b.Bytes()
	return n
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.asked = append(n.asked, r.URL.String())
	switch r.URL.Path {
	case "/v1/audit/records":
		_ = json.NewEncoder(w).Encode(map[string]any{"records": []json.RawMessage{n.entry}, "cursor": ""})
	case "/v1/audit/receipt":
		_, _ = w.Write(n.receipt)
	case "/v1/audit/export":
		_, _ = w.Write(n.export)
	case "/v1/audit/log/key":
		_, _ = w.Write([]byte(n.key.String() + "\n"))
	default:
		http.NotFound(w, r)
	}
}

// run runs "audit ARGS" against the node.
func run(t *testing.T, n *node, args ...string) (out string, err error) {
	t.Helper()
	s := httptest.NewServer(n)
	defer s.Close()
	var o, e bytes.Buffer
	term := &cli.Terminal{In: strings.NewReader(""), Out: &o, Err: &e, Getenv: func(string) string { return "" }, Output: "text"}
	c := Command(term, func(*cobra.Command) (context.Context, *client.Client, error) {
		cl, err := client.Dial(s.URL, client.Options{Retries: -1})
		return t.Context(), cl, err
	})
	c.SetArgs(args)
	c.SetOut(&o)
	c.SetErr(&e)
	c.SilenceErrors, c.SilenceUsage = true, true
	err = c.ExecuteContext(t.Context())
	return o.String(), err
}

func TestAudit(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	vkey, export, receipt := filepath.Join(dir, "vkey"), filepath.Join(dir, "export"), filepath.Join(dir, "receipt")
	if err := os.WriteFile(vkey, []byte(n.key.String()+"\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"export", "-o", export}, {"prove", "0", "-o", receipt}} {
		if _, err := run(t, n, args...); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	for _, file := range []string{export, receipt} {
		if out, err := run(t, n, "verify", file, "--key", vkey); err != nil || !strings.Contains(out, "1 records from 0, in a log of 1") || !strings.Contains(out, "Ed25519") {
			t.Errorf("%s: %v, %s", file, err, out)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bad := file + ".bad"
		if err := os.WriteFile(bad, bytes.Replace(b, []byte("cap.mint"), []byte("cap.mind"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := run(t, n, "verify", bad, "--key", vkey); macronode.KindOf(err) != macronode.Integrity || out != "" {
			t.Errorf("%s: %v, %s", bad, err, out)
		}
	}
	if _, err := run(t, n, "verify", export); err == nil || !strings.Contains(err.Error(), "--key is needed") {
		t.Errorf("without a key: %v", err)
	}
	var p tlog.Receipt
	if err := json.Unmarshal(n.receipt, &p); err != nil {
		t.Fatal(err)
	}
	text, err := p.Compact()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, n, "verify", "--receipt", text, "--key", vkey); err != nil || !strings.Contains(out, "1 records from 0, in a log of 1") || !strings.Contains(out, string(n.entry)) {
		t.Errorf("a compact receipt: %v, %s", err, out)
	}
	for _, bad := range []string{text[:len(text)-2], "B" + text[1:], strings.ToLower(text)} {
		if out, err := run(t, n, "verify", "--receipt", bad, "--key", vkey); macronode.KindOf(err) != macronode.Integrity || out != "" {
			t.Errorf("a compact receipt that was changed: %v, %s", err, out)
		}
	}
	out, err := run(t, n, "query", "--kind", "cap.mint", "--since", "1h", "--desc", "--limit", "5")
	if err != nil || !strings.Contains(out, "2026-01-01T00:00:00Z") || !strings.Contains(out, "cap.mint") {
		t.Errorf("%v: %s", err, out)
	}
	if last := n.asked[len(n.asked)-1]; !strings.Contains(last, "kind=cap.mint") || !strings.Contains(last, "from_ms=") || !strings.Contains(last, "order=desc") || !strings.Contains(last, "limit=5") {
		t.Errorf("asked %s", last)
	}
	for _, bad := range [][]string{{"prove"}, {"prove", "1", "--hash", "b3:0"}, {"query", "--since", "yesterday"}, {"verify"}, {"verify", export, "--receipt", text, "--key", vkey}} {
		if _, err := run(t, n, bad...); err == nil {
			t.Errorf("%v: no fault", bad)
		}
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if at, err := moment("90m", now); err != nil || !at.Equal(now.Add(-90*time.Minute)) {
		t.Errorf("%v, %v", at, err)
	}
	if at, err := moment("2026-02-03T04:05:06Z", now); err != nil || at.Month() != 2 {
		t.Errorf("%v, %v", at, err)
	}
}

// With --witness a checkpoint that others did not cosign is worth nothing.
func TestVerifyWitnesses(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var p tlog.Receipt
	if err := json.Unmarshal(n.receipt, &p); err != nil {
		t.Fatal(err)
	}
	vkey := file("vkey", n.key.String())
	var keys []string
	for i := range 2 {
		secret := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, 32))
		k := tlog.Key{Name: "w.example/" + string(rune('a'+i)), Type: tlog.Ed25519Cos, Public: secret.Public().(ed25519.PublicKey)}
		keys = append(keys, k.String())
		if i == 0 {
			text, _, _ := strings.Cut(p.Checkpoint, "\n\n")
			msg, err := k.Message(text+"\n", 1767225600)
			if err != nil {
				t.Fatal(err)
			}
			p.Checkpoint += tlog.Line(k, k.Seal(ed25519.Sign(secret, msg), 1767225600))
		}
	}
	both := file("witnesses", strings.Join(keys, "\n"))
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	plain, cosigned := file("plain", string(n.receipt)), file("cosigned", string(b))
	if out, err := run(t, n, "verify", cosigned, "--key", vkey, "--witness", both, "--quorum", "1"); err != nil || !strings.HasSuffix(out, "w.example/a\n") {
		t.Errorf("%v, %s", err, out)
	}
	for _, args := range [][]string{{cosigned, "--witness", both}, {plain, "--witness", both, "--quorum", "1"}, {cosigned, "--witness", file("other", keys[1])}} {
		if out, err := run(t, n, append([]string{"verify", "--key", vkey}, args...)...); macronode.KindOf(err) != macronode.Integrity || out != "" {
			t.Errorf("%v: %v, %s", args, err, out)
		}
	}
	for _, args := range [][]string{{cosigned, "--quorum", "1"}, {cosigned, "--witness", both, "--quorum", "3"}} {
		if _, err := run(t, n, append([]string{"verify", "--key", vkey}, args...)...); err == nil || macronode.KindOf(err) == macronode.Integrity {
			t.Errorf("%v: %v", args, err)
		}
	}
}
