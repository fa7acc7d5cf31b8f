// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// asked runs one command against a node that gives answer, and returns the exit
// code, what was printed, and what the node was asked.
func asked(t *testing.T, answer string, args ...string) (code int, out, call string) {
	t.Helper()
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		call = strings.TrimSpace(q.Method + " " + q.RequestURI + " " + string(body))
		_, _ = io.WriteString(w, answer)
	}))
	defer node.Close()
	var stdout, stderr bytes.Buffer
	term := &cli.Terminal{Out: &stdout, Err: &stderr}
	root := &cobra.Command{Use: "ronctl"}
	term.Setup(root, "", Command(term, func(c *cobra.Command) (context.Context, *client.Client, error) {
		cl, err := client.Dial(node.URL, client.Options{})
		return c.Context(), cl, err
	}))
	code = term.Run(t.Context(), root, append([]string{"policy"}, args...), cli.Judge{
		Exit:     func(error) int { return macronode.ExitFailed },
		Describe: func(err error, _ int) (string, any) { return err.Error(), nil },
	})
	return code, stdout.String() + stderr.String(), call
}

func TestShadow(t *testing.T) {
	const answer = `{"bundle_hash":"blake3:ab","version":7,"since_ms":1000,"results":{"same":5,"would_deny":2},"recorded":9,"dropped":1,
		"flips":[{"was":"allow","now":"deny","was_by":["all"],"now_by":[],"count":2,"uncertain":1,
		"examples":[{"ts_ms":1,"request":{"tenant":"T","action":"object:get","resource":"object/h:1"}}]}]}`
	code, out, call := asked(t, answer, "shadow")
	if code != 0 || call != "GET /v1/admin/policy/shadow" {
		t.Errorf("%d %s", code, call)
	}
	for _, want := range []string{"version 7, blake3:ab", "would_deny", "9 decisions, 1 never", "(no policy permits it)", "T object:get object/h:1 (1 uncertain"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if _, out, _ := asked(t, `{"results":{},"flips":[]}`, "shadow"); !strings.Contains(out, "none: set policy.shadow_kms") {
		t.Errorf("without a shadow: %s", out)
	}
}

func TestRecord(t *testing.T) {
	file := filepath.Join(t.TempDir(), "d.ndjson")
	code, out, call := asked(t, "{\"ts_ms\":1}\n{\"ts_ms\":2}\n", "record", "-o", file)
	text, err := os.ReadFile(file)
	if code != 0 || err != nil || string(text) != "{\"ts_ms\":1}\n{\"ts_ms\":2}\n" || !strings.Contains(out, "2 decisions") || call != "GET /v1/admin/policy/decisions" {
		t.Errorf("%d %v %s %s", code, err, out, call)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: %v %v", info.Mode(), err)
	}
	if code, _, _ := asked(t, "", "record"); code != macronode.ExitUsage {
		t.Errorf("without -o: %d", code)
	}
}

func TestReplay(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	src := filepath.Dir(write("src/a.cedar", "permit"))
	write("src/.hidden.cedar", "x")
	write("src/README.md", "x")
	bundle, list := write("b.json", `{"payload":"x"}`), write("d.ndjson", "{\"ts_ms\":1}\n\n{\"ts_ms\":2}\n")
	const same, flips = `{"decisions":2,"same":2,"flipped":0,"flips":[]}`, `{"decisions":2,"same":1,"flipped":1,"flips":[{"was":"allow","now":"allow","was_by":["a"],"now_by":["a"],"dropped":["audit"],"count":1,"examples":[]}]}`
	for _, c := range []struct {
		name, answer string
		args         []string
		code         int
		call, out    string
	}{
		{"sources", same, []string{"--candidate", src}, 0, `POST /v1/admin/policy/replay {"sources":{"a.cedar":"permit"}}`, "2 decisions, 2 the same, 0 flip"},
		{"a bundle and decisions", same, []string{"--candidate", bundle, "--decisions", list}, 0, `POST /v1/admin/policy/replay {"bundle":{"payload":"x"},"decisions":[{"ts_ms":1},{"ts_ms":2}]}`, ""},
		{"flips", flips, []string{"--candidate", src}, 1, "POST", "allow -audit"},
		{"flips that are allowed", flips, []string{"--candidate", src, "--allow-flips"}, 0, "POST", ""},
		{"no candidate", "", nil, 2, "", ""},
		{"a candidate that is not there", "", []string{"--candidate", filepath.Join(dir, "none")}, 3, "", ""},
		{"not a bundle", "", []string{"--candidate", filepath.Join(src, "a.cedar")}, 3, "", "no policy bundle"},
		{"no decisions", "", []string{"--candidate", src, "--decisions", filepath.Join(src, "a.cedar")}, 3, "", "no decision"},
	} {
		code, out, call := asked(t, c.answer, append([]string{"replay"}, c.args...)...)
		if code != c.code || !strings.HasPrefix(call, c.call) || c.call == "" && call != "" || !strings.Contains(out, c.out) {
			t.Errorf("%s: exit %d, asked %q, printed %s", c.name, code, call, out)
		}
	}
}
