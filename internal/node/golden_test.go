// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/node/parts"
)

var update = flag.Bool("update", false, "rewrite golden files")

// root is the module's root, seen from this package.
var root = filepath.Join("..", "..")

// golden compares got with a file below the module's root, or writes it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	file := filepath.Join(root, path)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s is missing; write it with: make golden", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		var have, should string
		if i < len(g) {
			have = g[i]
		}
		if i < len(w) {
			should = w[i]
		}
		if have != should {
			t.Fatalf("%s is not what the code says, first in line %d; look at it, then: make golden\n got  %s\n want %s", path, i+1, have, should)
		}
	}
}

// bodyNames are the Body constants of bindings.
var bodyNames = map[int64]string{macronode.BodyNone: "none", macronode.BodyDefault: "default", macronode.BodyObject: "object", macronode.BodyFrame: "frame"}

// describeBinding is a route as test/testdata/routes.golden shows it: a change of
// who may call what must show in review.
func describeBinding(b *macronode.Binding) string {
	var w strings.Builder
	fmt.Fprintf(&w, "%s\n", b.Label())
	for _, a := range b.Aliases {
		fmt.Fprintf(&w, "  alias    %s\n", a)
	}
	fmt.Fprintf(&w, "  op       %s (%s)\n", b.Op, b.Service)
	if b.Public {
		fmt.Fprintf(&w, "  access   PUBLIC: no capability, no policy\n")
	} else {
		resource := b.Resource.Prefix() + "/" + b.ResourceID
		if b.ResourceArg != "" {
			resource += "{" + b.ResourceArg + "}"
		}
		fmt.Fprintf(&w, "  access   %s on %s\n", b.Action, resource)
	}
	body, ok := bodyNames[b.MaxBody]
	if !ok {
		body = fmt.Sprint(b.MaxBody)
	}
	fmt.Fprintf(&w, "  class    %s, cost %d, body %s\n", b.Class, max(b.Cost, 1), body)
	var flags []string
	for _, f := range []struct {
		on   bool
		name string
	}{{b.Write, "write"}, {b.NeedsKey, "needs-key"}, {b.LongRunning, "long-running"}, {b.Streaming, "streaming"}, {b.PlainOK, "plain-ok"},
		{b.Audit == macronode.AuditAfter, "audit-after"}, {b.Audit == macronode.AuditBefore, "audit-before"}} {
		if f.on {
			flags = append(flags, f.name)
		}
	}
	if b.OAP != 0 {
		flags = append(flags, fmt.Sprintf("oap=%d", b.OAP))
	}
	if len(flags) > 0 {
		fmt.Fprintf(&w, "  flags    %s\n", strings.Join(flags, " "))
	}
	return w.String()
}

func metricsReference(n *Node) []byte {
	var w bytes.Buffer
	w.WriteString("<!-- Generated from the code by: make golden. Do not edit. -->\n# Metrics\n\n" +
		"`GET /metrics` answers in OpenMetrics or Prometheus text, as the scraper asks. Series whose labels have a closed set of\n" +
		"values are there at 0 from the first scrape. The Go runtime's `go_*` and the process's `process_*` metrics are exposed too.\n\n" +
		"| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n")
	for _, d := range n.metrics.Describe() {
		labels := make([]string, len(d.Labels))
		for i, l := range d.Labels {
			labels[i] = "`" + l + "`"
		}
		fmt.Fprintf(&w, "| `%s` | %s | %s | %s |\n", d.Name, d.Type, strings.Join(labels, " "), strings.ReplaceAll(d.Help, "|", `\|`))
	}
	return w.Bytes()
}

// TestDocuments holds what the node serves against what is in the repository.
func TestDocuments(t *testing.T) {
	n := beginDev(t)
	bindings := n.wall.Bindings()
	t.Run("routes", func(t *testing.T) {
		texts := make([]string, len(bindings))
		for i, b := range bindings {
			texts[i] = describeBinding(b)
		}
		slices.Sort(texts)
		golden(t, "test/testdata/routes.golden", []byte(strings.Join(texts, "\n")))
	})
	t.Run("openapi", func(t *testing.T) {
		var b bytes.Buffer
		if err := json.Indent(&b, n.openapi.JSON, "", "  "); err != nil {
			t.Fatal(err)
		}
		golden(t, "test/testdata/openapi.golden.json", append(bytes.TrimSpace(b.Bytes()), '\n'))
	})
	t.Run("metrics reference", func(t *testing.T) { golden(t, "docs/metrics.md", metricsReference(n)) })
	t.Run("public routes", func(t *testing.T) {
		var public []string
		for _, b := range bindings {
			if b.Public {
				public = append(public, b.Label())
			} else if b.Action == "" {
				t.Errorf("%s has no action: nothing decides who may call it", b.Label())
			}
		}
		slices.Sort(public)
		if want := []string{"GET /healthz", "GET /metrics", "GET /readyz", "GET /version"}; !slices.Equal(public, want) {
			t.Errorf("public routes %v, want %v", public, want)
		}
	})
	t.Run("both wires", func(t *testing.T) {
		for _, b := range bindings {
			if b.OAP == macronode.AppControl {
				t.Errorf("%s is not served over OAP/1: it has no app_proto_id", b.Label())
			}
		}
	})
	t.Run("policy covers every operation", func(t *testing.T) {
		if left := n.policy.Set().Uncovered(values(bindings)); len(left) > 0 {
			t.Errorf("no rule can permit %v: the schema lacks their actions", left)
		}
	})
	t.Run("service names", func(t *testing.T) {
		var names []string
		for _, s := range n.listServices() {
			names = append(names, s.Name())
		}
		if !slices.Equal(names, parts.ServiceNames()) {
			t.Errorf("services %v, names %v", names, parts.ServiceNames())
		}
	})
	t.Run("first scrape", func(t *testing.T) { firstScrape(t, n) })
}

// seriesOf returns the series names (with labels) of an exposition, and the
// families that have samples.
func seriesOf(body []byte) (series map[string]string, families map[string]bool) {
	series, families = map[string]string{}, map[string]bool{}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, _ := strings.Cut(line, " ")
		if i := strings.LastIndex(line, "} "); i > 0 {
			name, value = line[:i+1], line[i+2:]
		}
		series[name] = value
		family, _, _ := strings.Cut(name, "{")
		families[family] = true
	}
	return series, families
}

func firstScrape(t *testing.T, n *Node) {
	_, body, err := n.metrics.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	series, families := seriesOf(body)
	for _, name := range []string{
		"request_latency_seconds_bucket", "http_responses_total", "service_restarts_total", "bus_lagged_total", "ready_state", "rejected_total",
		"inflight_requests", "queue_depth", "integrity_fail_total", "auth_verify_total", "policy_decisions_total", "policy_eval_seconds_bucket",
		"oap_frames_total", "oap_rejects_total", "kms_ops_total", "audit_appended_total", "audit_append_lag_seconds_bucket",
		"zk_verify_success_total", "zk_verify_fail_total", "tls_handshakes_total", "build_info", "go_goroutines", "process_open_fds",
	} {
		if !families[name] {
			t.Errorf("the first scrape has no %s", name)
		}
	}
	for _, reason := range macronode.Reasons {
		if series[fmt.Sprintf("rejected_total{reason=%q}", reason)] == "" {
			t.Errorf("the first scrape has no rejected_total{reason=%q}", reason)
		}
	}
	for _, name := range parts.ServiceNames() {
		if series[fmt.Sprintf("service_restarts_total{service=%q}", name)] != "0" {
			t.Errorf("service_restarts_total of %s is not 0", name)
		}
	}
	for line := range series {
		if strings.Contains(line, `route="GET /o/`) && !strings.Contains(line, `{addr}`) {
			t.Errorf("a label holds a path: %s", line)
		}
	}
	stray, err := n.metrics.Stray()
	if err != nil || len(stray) > 0 {
		t.Errorf("labels outside their closed sets: %v %v", stray, err)
	}
	promtool(t, body)
}

// promtool must have nothing to say of the whole node's metrics.
func promtool(t *testing.T, body []byte) {
	bin, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("promtool is missing in CI")
		}
		t.Log("promtool is not installed")
		return
	}
	cmd := exec.Command(bin, "check", "metrics")
	cmd.Stdin = bytes.NewReader(body)
	out, err := cmd.CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
