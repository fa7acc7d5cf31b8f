// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mail

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/clienttest"
	"github.com/rustyonions/macronode/client/mailbox"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// desk runs commands against a node in memory.
type desk struct {
	t    *testing.T
	node *clienttest.Node
	wire clienttest.Wire
}

// each runs f over either wire.
func each(t *testing.T, f func(d *desk)) {
	for _, w := range []clienttest.Wire{clienttest.HTTP, clienttest.OAP} {
		t.Run(string(w), func(t *testing.T) {
			n := clienttest.Start(clienttest.Options{})
			defer n.Close()
			f(&desk{t, n, w})
		})
	}
}

// result is what a command did.
type result struct {
	code     int
	out, err string
}

func (d *desk) run(ctx context.Context, in string, args ...string) (r result) {
	d.t.Helper()
	var stdout, stderr bytes.Buffer
	term := &cli.Terminal{In: strings.NewReader(in), Out: &stdout, Err: &stderr}
	root := &cobra.Command{Use: "ronctl"}
	term.Setup(root, "", Command(term, func(c *cobra.Command) (context.Context, *client.Client, error) {
		cl, err := d.node.Dial(d.wire, client.Options{Retries: -1})
		return c.Context(), cl, err
	}))
	r.code = term.Run(ctx, root, append([]string{"mailbox"}, args...), cli.Judge{
		Exit:     func(error) int { return macronode.ExitFailed },
		Describe: func(err error, _ int) (string, any) { return err.Error(), nil },
	})
	r.out, r.err = stdout.String(), stderr.String()
	return r
}

// do runs a command line that must succeed, and returns what it printed.
func (d *desk) do(in, line string, more ...string) string {
	d.t.Helper()
	r := d.run(d.t.Context(), in, append(strings.Fields(line), more...)...)
	if r.code != 0 {
		d.t.Fatalf("%s: %+v", line, r)
	}
	return r.out
}

func (d *desk) depth(topic string) mailbox.Depth {
	s, _ := d.node.Topic(topic)
	return s.Depth
}

var ulid = regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{26}$`)

// TestSend: a message from an argument, a file and a pipe, and many from a pipe.
func TestSend(t *testing.T) {
	each(t, func(d *desk) {
		file := filepath.Join(t.TempDir(), "body")
		if err := os.WriteFile(file, []byte("from a file\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
		for i, out := range []string{
			d.do("", "send jobs", "two words", "--attr", "a=1", "--attr", "b=x=y", "--key", "k"),
			d.do("", "send jobs --file", file),
			d.do("from a pipe\n", "send jobs"),
			d.do("-", "send jobs -"),
		} {
			if !ulid.MatchString(strings.TrimSpace(out)) {
				t.Errorf("%d: %q", i, out)
			}
		}
		if out := d.do("a\n\nb", "send jobs --lines"); strings.Count(out, "\n") != 3 {
			t.Errorf("--lines prints %q", out)
		}
		out := d.do(`{"text":"t","key":"own"}`+"\n\n"+`{"json":{"a": 1}}`+"\n"+`{"payload":"AAE="}`, "send jobs --ndjson --json --key other --attr c=d")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		var doc struct {
			MsgID     string `json:"msg_id"`
			Duplicate *bool
		}
		if len(lines) != 3 || json.Unmarshal([]byte(lines[2]), &doc) != nil || !ulid.MatchString(doc.MsgID) || doc.Duplicate == nil {
			t.Errorf("--ndjson --json prints %q", out)
		}
		var got []string
		for line := range strings.Lines(d.do("", "recv jobs -n 9 --ndjson --ack")) {
			var m mailbox.Delivery
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%q %s %v", m.Payload, m.Key, m.Attrs))
		}
		want := []string{`"two words" k map[a:1 b:x=y]`, `"from a file\x00"  map[]`, `"from a pipe\n"  map[]`, `"-"  map[]`, `"a"  map[]`, `""  map[]`, `"b"  map[]`,
			`"t" own map[c:d]`, `"{\"a\": 1}" other map[c:d]`}
		// The last has the key of the one before it, and comes after that.
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("received\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if out := d.do("", "recv jobs --raw --ack"); out != "\x00\x01\n" {
			t.Errorf("--raw prints %q", out)
		}
	})
}

// TestSendOnce: with a key, a second run stores nothing; a line that was refused is
// told, and the others are stored.
func TestSendOnce(t *testing.T) {
	each(t, func(d *desk) {
		first := d.do("", "send jobs hello --idempotency-key order-1 --delay 1h")
		if again := d.do("", "send jobs hello --idempotency-key order-1 --delay 1h"); !strings.HasPrefix(again, strings.TrimSpace(first)) || !strings.Contains(again, "duplicate") {
			t.Errorf("%q, then %q", first, again)
		}
		if r := d.run(t.Context(), "", "send", "jobs", "other", "--idempotency-key", "order-1"); r.code != macronode.ExitFailed || !strings.Contains(r.err, "idempotency_mismatch") {
			t.Errorf("%+v", r)
		}
		r := d.run(t.Context(), `{"text":"x"}`+"\n"+`{"text":"y","idempotency_key":"order-1"}`, "send", "jobs", "--ndjson")
		if r.code != macronode.ExitFailed || strings.Count(r.out, "\n") != 2 || !strings.Contains(r.out, "refused: ") || !strings.Contains(r.err, "1 messages were refused") {
			t.Errorf("%+v", r)
		}
		if got := d.depth("jobs"); got.Ready != 1 || got.Delayed != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// TestRecvAndSettle: what recv prints is what ack, nack and extend take, as arguments
// and from a pipe.
func TestRecvAndSettle(t *testing.T) {
	each(t, func(d *desk) {
		if r := d.run(t.Context(), "", "recv", "jobs"); r.code != macronode.ExitFailed || !strings.Contains(r.err, "404") {
			t.Errorf("no topic: %+v", r)
		}
		d.do("1\n2\n3\n4\n5\n6\n", "send jobs --lines")
		text := d.do("", "recv jobs")
		fields := strings.Fields(text)
		if len(fields) != 5 || fields[4] != "1" || fields[2] != "1" {
			t.Fatalf("recv prints %q", text)
		}
		if out := d.do("", "ack jobs", fields[3]); !strings.Contains(out, fields[0]) || !strings.Contains(out, "ok") {
			t.Errorf("ack prints %q", out)
		}
		if r := d.run(t.Context(), "", "ack", "jobs", fields[3]); r.code != macronode.ExitFailed || !strings.Contains(r.out, "lease was lost") || !strings.Contains(r.err, "1 of 1 receipts") {
			t.Errorf("a second ack: %+v", r)
		}
		var doc struct {
			Messages []struct{ Receipt, Text string }
		}
		if err := json.Unmarshal([]byte(d.do("", "recv jobs -n 2 --output json --visibility 1m")), &doc); err != nil || len(doc.Messages) != 2 || doc.Messages[1].Text != "3" {
			t.Fatalf("%v: %+v", err, doc)
		}
		d.do(doc.Messages[0].Receipt+"\n\n"+doc.Messages[1].Receipt+"\n", "extend jobs --visibility 1h")
		if p := d.do("", "peek jobs --state in_flight"); strings.Count(p, "\n") != 2 {
			t.Errorf("peek prints %q", p)
		}
		d.do("", "nack jobs --delay 0s --reason no", doc.Messages[0].Receipt, doc.Messages[1].Receipt)
		lines := d.do("", "recv jobs -n 10 --ndjson")
		if strings.Count(lines, "\n") != 5 || !strings.Contains(lines, `"attempt":2`) {
			t.Errorf("recv --ndjson prints %q", lines)
		}
		if out := d.do(lines, "ack jobs --json"); strings.Count(out, `"ok": true`) != 5 {
			t.Errorf("ack of a pipe prints %q", out)
		}
		if out := d.do("", "recv jobs --json"); !strings.Contains(out, `"messages": []`) {
			t.Errorf("nothing is %q", out)
		}
		if got := d.depth("jobs"); got.Ready+got.InFlight != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestRecvAckIsAfterPrint: what could not be printed is not acked.
func TestRecvAckIsAfterPrint(t *testing.T) {
	n := clienttest.Start(clienttest.Options{})
	defer n.Close()
	for _, args := range [][]string{{"--ndjson"}, {"--output", "json"}, {"--raw"}, {}} {
		n.Send("jobs", mailbox.Message{Payload: []byte("a")})
		term := &cli.Terminal{Out: full{}, Err: io.Discard}
		root := &cobra.Command{Use: "ronctl"}
		term.Setup(root, "", Command(term, func(c *cobra.Command) (context.Context, *client.Client, error) {
			cl, err := n.Dial(clienttest.HTTP, client.Options{})
			return c.Context(), cl, err
		}))
		code := term.Run(t.Context(), root, append([]string{"mailbox", "recv", "jobs", "--ack"}, args...), cli.Judge{
			Exit: func(error) int { return 1 }, Describe: func(err error, _ int) (string, any) { return err.Error(), nil }})
		if s, _ := n.Topic("jobs"); code != 1 || s.Counts["acked"] != 0 {
			t.Errorf("%v: exit %d, %v", args, code, s.Counts)
		}
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// TestExec: a command a message, ack on exit 0, nack with its last words otherwise.
func TestExec(t *testing.T) {
	each(t, func(d *desk) {
		d.do("", "topics set jobs --max-attempts 1")
		d.do("", "send jobs good --attr content-type=text --key k1")
		d.do("", "send jobs bad")
		r := d.run(t.Context(), "", "recv", "jobs", "--drain", "--jobs", "2", "--wait", "50ms", "--exec",
			`read -r body; echo "$body $RON_TOPIC $RON_ATTEMPT $RON_KEY $RON_ATTR_CONTENT_TYPE"; if [ "$body" = bad ]; then echo first >&2; echo "no such file" >&2; exit 3; fi`)
		if r.code != macronode.ExitFailed || !strings.Contains(r.out, "good jobs 1 k1 text\n") || !strings.Contains(r.out, "bad jobs 1") || !strings.Contains(r.err, "handled 2 messages, 1 failed") {
			t.Errorf("%+v", r)
		}
		if got := d.depth("jobs"); got.Ready+got.InFlight+got.Delayed != 0 || got.Dead != 1 {
			t.Errorf("%+v", got)
		}
		if out := d.do("", "dlq list jobs"); !strings.Contains(out, "exit status 3: no such file") {
			t.Errorf("dlq list prints %q", out)
		}
		d.do("1\n2\n3\n", "send jobs --lines")
		if out := d.do("", "recv jobs -n 2 --json --exec true"); !strings.Contains(out, `"handled": 2`) {
			t.Errorf("two of three: %q", out)
		}
		if got := d.depth("jobs"); got.Ready != 1 || got.InFlight != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestExecStops: an interrupt lets the command finish.
func TestExecStops(t *testing.T) {
	each(t, func(d *desk) {
		dir := t.TempDir()
		d.do("1\n2\n", "send jobs --lines")
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		go func() {
			defer stop()
			for ctx.Err() == nil {
				if _, err := os.Stat(filepath.Join(dir, "begun")); err == nil {
					return
				}
				<-time.After(5 * time.Millisecond)
			}
		}()
		r := d.run(ctx, "", "recv", "jobs", "--exec", "touch "+dir+"/begun; sleep 0.3; touch "+dir+"/ended")
		if _, err := os.Stat(filepath.Join(dir, "ended")); r.code != 0 || err != nil {
			t.Errorf("%+v, %v", r, err)
		}
		if got := d.depth("jobs"); got.Ready != 1 || got.InFlight != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestTail: messages as they come, each acked once it is printed.
func TestTail(t *testing.T) {
	each(t, func(d *desk) {
		d.node.Send("jobs", mailbox.Message{Payload: []byte("a")}, mailbox.Message{Payload: []byte("b")})
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		go func() {
			defer stop()
			for ctx.Err() == nil {
				if s, _ := d.node.Topic("jobs"); s.Counts["acked"] == 2 {
					return
				}
				<-time.After(5 * time.Millisecond)
			}
		}()
		if r := d.run(ctx, "", "tail", "jobs", "--raw", "--credit", "1"); r.code != 0 || r.out != "a\nb\n" {
			t.Errorf("%+v", r)
		}
	})
}

// TestTopics: what is shown and changed of topics, and what is not done without --yes.
func TestTopics(t *testing.T) {
	each(t, func(d *desk) {
		if out := d.do("", "topics set jobs.a --visibility 5m --ordered"); !strings.Contains(out, "visibility") || !strings.Contains(out, "5m0s") {
			t.Errorf("set prints %q", out)
		}
		out := d.do("", "topics set jobs.a --max-attempts 9")
		for _, want := range []string{"5m0s", "9", "ordered"} {
			if !strings.Contains(out, want) {
				t.Errorf("a second set prints no %q: %q", want, out)
			}
		}
		if s, _ := d.node.Topic("jobs.a"); s.Config.MaxAttempts != 9 || s.Config.Visibility != mailbox.Millis(5*time.Minute) || !*s.Config.Ordered {
			t.Errorf("%+v", s.Config)
		}
		d.do("x\ny\n", "send jobs.a --lines")
		d.do("", "topics set other")
		if out := d.do("", "topics list jobs."); !strings.Contains(out, "jobs.a  2 ready") || strings.Contains(out, "other") {
			t.Errorf("list prints %q", out)
		}
		if out := d.do("", "stats"); !strings.Contains(out, "OLDEST") || strings.Count(out, "\n") != 3 {
			t.Errorf("stats prints %q", out)
		}
		if out := d.do("", "topics show jobs.a --json"); !strings.Contains(out, `"ready": 2`) {
			t.Errorf("show prints %q", out)
		}
		for _, verb := range []string{"purge", "delete"} {
			if r := d.run(t.Context(), "", "topics", verb, "jobs.a"); r.code != macronode.ExitUsage || !strings.Contains(r.err, "--yes") {
				t.Errorf("%s without --yes: %+v", verb, r)
			}
		}
		if d.depth("jobs.a").Ready != 2 {
			t.Error("it was done without --yes")
		}
		if out := d.do("", "topics purge jobs.a --yes"); out != "purged 2 messages\n" {
			t.Errorf("purge prints %q", out)
		}
		d.do("", "topics delete jobs.a --yes")
		if _, ok := d.node.Topic("jobs.a"); ok {
			t.Error("it is still there")
		}
	})
}

// TestDLQ: dead letters are listed, shown, redriven and deleted.
func TestDLQ(t *testing.T) {
	each(t, func(d *desk) {
		d.do("", "topics set jobs --max-attempts 1")
		d.do("a\nb\nc\n", "send jobs --lines")
		d.do(d.do("", "recv jobs -n 3 --ndjson"), "nack jobs --reason", "upstream is down")
		var doc struct{ Messages []mailbox.Dead }
		if err := json.Unmarshal([]byte(d.do("", "dlq list jobs --json")), &doc); err != nil || len(doc.Messages) != 3 {
			t.Fatalf("%v: %+v", err, doc)
		}
		id := doc.Messages[1].MsgID
		if out := d.do("", "dlq show jobs", id); !strings.Contains(out, "upstream is down") || !strings.Contains(out, "payload     b\n") {
			t.Errorf("show prints %q", out)
		}
		if out := d.do("", "dlq show jobs --raw", id); out != "b" {
			t.Errorf("show --raw prints %q", out)
		}
		if out := d.do("", "dlq redrive jobs --all --dry-run"); !strings.Contains(out, "matched 3") || !strings.Contains(out, "moved 0") || d.depth("jobs").Dead != 3 {
			t.Errorf("a dry run prints %q", out)
		}
		if out := d.do("", "dlq redrive jobs --rate 1000 --wait", id); !strings.Contains(out, "moved 1") {
			t.Errorf("redrive prints %q", out)
		}
		if out := d.do("", "dlq jobs jobs --json"); strings.Count(out, `"id"`) != 2 {
			t.Errorf("jobs prints %q", out)
		}
		for _, args := range []string{"dlq delete jobs --all", "dlq delete jobs --yes", "dlq redrive jobs", "dlq redrive jobs --all --reason expired", "dlq delete jobs --before yesterday --yes"} {
			if r := d.run(t.Context(), "", strings.Fields(args)...); r.code != macronode.ExitUsage {
				t.Errorf("%s: %+v", args, r)
			}
		}
		if out := d.do("", "dlq delete jobs --reason max_attempts --yes"); out != "deleted 2 dead letters\n" {
			t.Errorf("delete prints %q", out)
		}
		if got := d.depth("jobs"); got.Dead != 0 || got.Ready != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// TestUsage: command lines that make no sense reach no node.
func TestUsage(t *testing.T) {
	n := clienttest.Start(clienttest.Options{})
	defer n.Close()
	d := &desk{t, n, clienttest.HTTP}
	for _, args := range []string{"send", "send Jobs x", "send jobs a b", "send jobs a --lines", "send jobs --lines --ndjson", "send jobs a --attr x", "send jobs a --delay -1s",
		"send jobs a --at tomorrow", "send jobs a --at 2026-11-23T18:00:00Z --delay 1s", "send jobs a --file b", "recv", "recv jobs -n -1", "recv jobs --exec true --ack", "recv jobs --drain",
		"recv jobs --raw --ndjson", "ack jobs", "extend jobs r", "nack jobs r --delay -1s", "peek jobs --limit -1", "topics set jobs --max-depth 0", "topics set jobs --visibility 0s",
		"tail jobs --credit -1", "dlq show jobs", "dlq jobs jobs --stop", "stats a b", "topics", "dlq", "tail"} {
		if r := d.run(t.Context(), "", strings.Fields(args)...); r.code != macronode.ExitUsage || r.out != "" {
			t.Errorf("%s: %+v", args, r)
		}
	}
	if r := d.run(t.Context(), `{"text":"a","nonsense":1}`, "send", "jobs", "--ndjson"); r.code != macronode.ExitUsage || !strings.Contains(r.err, "line 1") {
		t.Errorf("%+v", r)
	}
	if calls := n.Calls(); len(calls) != 0 {
		t.Errorf("%d calls were made", len(calls))
	}
}
