// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package facet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// desk runs commands against a server that a test plays.
type desk struct {
	t    *testing.T
	url  string
	asks []string // METHOD PATH?QUERY BODY
}

// play answers each call with what reply says.
func play(t *testing.T, reply func(r *http.Request, body string) string) *desk {
	d := &desk{t: t}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d.asks = append(d.asks, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, reply(r, string(body)))
	}))
	t.Cleanup(s.Close)
	d.url = s.URL
	return d
}

func (d *desk) run(in string, args ...string) (code int, out, errs string) {
	d.t.Helper()
	var stdout, stderr bytes.Buffer
	term := &cli.Terminal{In: strings.NewReader(in), Out: &stdout, Err: &stderr}
	root := &cobra.Command{Use: "ronctl"}
	connect := func(c *cobra.Command) (context.Context, *client.Client, error) {
		cl, err := client.Dial(d.url, client.Options{Retries: -1})
		return c.Context(), cl, err
	}
	term.Setup(root, "", Graph(term, connect), Feed(term, connect))
	code = term.Run(d.t.Context(), root, args, cli.Judge{
		Exit:     func(error) int { return macronode.ExitFailed },
		Describe: func(err error, _ int) (string, any) { return err.Error(), nil },
	})
	return code, stdout.String(), stderr.String()
}

// do runs a command line that must succeed.
func (d *desk) do(in string, args ...string) string {
	d.t.Helper()
	code, out, errs := d.run(in, args...)
	if code != 0 {
		d.t.Fatalf("%v: %d %s", args, code, errs)
	}
	return out
}

func (d *desk) asked(want ...string) {
	d.t.Helper()
	if got := strings.Join(d.asks, "\n"); got != strings.Join(want, "\n") {
		d.t.Errorf("asked\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	d.asks = nil
}

func TestGraph(t *testing.T) {
	d := play(t, func(r *http.Request, _ string) string {
		switch r.URL.Path {
		case "/v1/graph/neighbours":
			if r.URL.Query().Get("cursor") == "" {
				return `{"neighbours":[{"id":"id/1","type":"t","created_ms":0,"value":"a\u001b[31m"}],"cursor":"next"}`
			}
			return `{"neighbours":[{"id":"id/2","type":"t","created_ms":0}],"cursor":""}`
		case "/v1/graph/expand":
			return `{"vertices":[{"id":"id/a","depth":0}],"edges":[],"visited":7,"ended":"time"}`
		}
		return `{"created":true}`
	})
	if out := d.do("", "graph", "put", "id/a", "t", "id/b", "--value", "v"); out != "new\n" {
		t.Errorf("%q", out)
	}
	d.asked(`PUT /v1/graph/edge {"from":"id/a","type":"t","to":"id/b","value":"v"}`)
	d.do("", "graph", "rm", "id/a", "t", "id/b c")
	d.asked("DELETE /v1/graph/edge?from=id%2Fa&to=id%2Fb+c&type=t")
	if out := d.do("", "graph", "neighbours", "id/a", "--in"); !strings.Contains(out, `"a\x1b[31m"`) || strings.Count(out, "\n") != 2 {
		t.Errorf("%q", out)
	}
	d.asked("GET /v1/graph/neighbours?direction=in&id=id%2Fa&limit=1000", "GET /v1/graph/neighbours?cursor=next&direction=in&id=id%2Fa&limit=1000")
	if out := d.do("", "graph", "neighbours", "id/a", "--limit", "1", "--output", "json"); !json.Valid([]byte(out)) || strings.Contains(out, "id/2") {
		t.Errorf("%q", out)
	}
	d.asks = nil
	if out := d.do("", "graph", "expand", "id/a", "--depth", "3", "--types", "x,y"); !strings.Contains(out, "7 visited; the budget of time is spent") {
		t.Errorf("%q", out)
	}
	d.asked("GET /v1/graph/expand?depth=3&direction=out&id=id%2Fa&types=x%2Cy")
}

func TestImport(t *testing.T) {
	d := play(t, func(_ *http.Request, body string) string {
		return fmt.Sprintf(`{"created":%d}`, strings.Count(body, `"from"`))
	})
	var in strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&in, "{\"from\":\"id/%d\",\"type\":\"t\",\"to\":\"id/b\"}\n\n", i)
	}
	if out := d.do(in.String(), "graph", "import"); out != "1500 edges, 1500 new\n" || len(d.asks) != 2 {
		t.Errorf("%q in %d calls", out, len(d.asks))
	}
	if code, _, errs := d.run("{\"from\":\"id/1\"}\n{\"form\":\"id/1\"}", "graph", "import", "-"); code == 0 || !strings.Contains(errs, "line 2") {
		t.Errorf("%d %q", code, errs)
	}
	if code, _, _ := d.run("", "graph", "import", t.TempDir()+"/none"); code == 0 {
		t.Error("a file that is not there is imported")
	}
}

func TestFeed(t *testing.T) {
	d := play(t, func(r *http.Request, _ string) string {
		switch r.URL.Path {
		case "/v1/feed/timeline", "/v1/feed/posts":
			if r.Method == "GET" {
				return `{"posts":[{"post_id":"P1","ts":"2026-01-02T03:04:05.000Z","author":"name/a","text":"hi"}],"cursor":""}`
			}
		case "/v1/feed/watch":
			return "retry: 1000\n\n: still here\n\nid: P1\nevent: post\ndata: {\"post_id\":\"P1\",\"ts\":\"2026-01-02T03:04:05.000Z\",\"author\":\"name/a\",\"text\":\"hi\"}\n\n"
		}
		return `{"post_id":"P1","ts":"2026-01-02T03:04:05.000Z"}`
	})
	if out := d.do("", "feed", "publish", "name/a", "hi"); out != "P1\n" {
		t.Errorf("%q", out)
	}
	d.asked(`POST /v1/feed/posts {"author":"name/a","text":"hi"}`)
	if code, _, _ := d.run("", "feed", "publish", "name/a"); code != macronode.ExitUsage || len(d.asks) != 0 {
		t.Errorf("a post of nothing: %d", code)
	}
	if out := d.do("", "feed", "read", "id/b"); !strings.Contains(out, "P1  name/a") {
		t.Errorf("%q", out)
	}
	d.do("", "feed", "read", "name/a", "--author")
	d.do("", "feed", "rm", "P1")
	d.asked("GET /v1/feed/timeline?id=id%2Fb&limit=1000", "GET /v1/feed/posts?author=name%2Fa&limit=1000", "DELETE /v1/feed/posts/P1")
}
