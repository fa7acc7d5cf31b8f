// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mail

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/client/mailbox"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

const (
	// maxBodyBytes bounds a message that is read from a pipe or a file: more than
	// a node takes.
	maxBodyBytes = 32 << 20
	// batchMessages and batchBytes are when a batch of lines goes off.
	batchMessages = 100
	batchBytes    = 4 << 20
)

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// sendFlags say how a message is sent.
type sendFlags struct {
	file, key, idem, at string
	attrs               []string
	delay, ttl          time.Duration
	lines, ndjson       bool
}

// message is what the flags make of a payload.
func (f *sendFlags) message(payload []byte) (m mailbox.Message, err error) {
	m = mailbox.Message{Payload: payload, Key: f.key, Delay: f.delay, TTL: f.ttl, IdempotencyKey: f.idem}
	if f.delay < 0 || f.ttl < 0 {
		return m, cli.Usagef("--delay and --ttl are not negative")
	}
	if f.at != "" {
		if m.DeliverAt, err = time.Parse(time.RFC3339, f.at); err != nil || f.delay != 0 {
			return m, cli.Usagef("--at is a time such as 2026-11-23T18:00:00Z, and excludes --delay")
		}
	}
	for _, a := range f.attrs {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return m, cli.Usagef("--attr is NAME=VALUE, not %q", a)
		}
		if m.Attrs == nil {
			m.Attrs = map[string]string{}
		}
		m.Attrs[name] = value
	}
	return m, nil
}

func (a *app) send() *cobra.Command {
	var f sendFlags
	c := &cobra.Command{
		Use: "send TOPIC [TEXT]", Short: "Send a message, or many from a pipe", Args: cli.MinArgs(1),
		Long: "send sends one message, TEXT, a file's bytes, or what standard input has, and prints its id\n" +
			"once it is durable. The topic is made if it is not there.\n\n" +
			"--lines sends a message for each line of standard input. --ndjson reads a document a line\n" +
			"with one of payload (base64), text and json, and attrs, delay_ms, deliver_at_ms, ttl_ms,\n" +
			"key, idempotency_key. Both send in batches as the lines come, and print a document a line\n" +
			"for each message with --json; flags hold for every message that does not say otherwise.\n\n" +
			"A message has an idempotency key of its own, so that what has to be tried again is stored\n" +
			"once. With --idempotency-key that holds over runs of this program too.",
		Example: "  ronctl mailbox send jobs 'resize 17'\n  ronctl mailbox send jobs --file photo.jpg --attr type=image/jpeg --key album-3\n" +
			"  ronctl mailbox send jobs hello --delay 10m --idempotency-key order-4711\n  seq 1000 | ronctl mailbox send jobs --lines\n" +
			"  jq -c '{json: ., key: .customer}' orders.json | ronctl mailbox send orders --ndjson --json",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 2 {
				return cli.Usagef("send takes one TEXT; quote it")
			}
			many := f.lines || f.ndjson
			if many && (f.lines == f.ndjson || len(args) > 1 || f.file != "" || f.idem != "") {
				return cli.Usagef("--lines or --ndjson reads messages from standard input: no TEXT, --file or --idempotency-key beside it")
			}
			if _, err := f.message(nil); err != nil {
				return err
			}
			ctx, t, err := a.topic(c, args)
			if err != nil {
				return err
			}
			if many {
				return a.sendLines(ctx, t, &f)
			}
			return a.sendOne(ctx, t, &f, args[1:])
		},
	}
	fl := c.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "send this file's bytes; - is standard input")
	fl.StringVar(&f.key, "key", "", "ordering key: messages with the same one are delivered one after the other, in order")
	fl.StringArrayVar(&f.attrs, "attr", nil, "attribute, NAME=VALUE; repeatable")
	fl.DurationVar(&f.delay, "delay", 0, "hide it for so long")
	fl.StringVar(&f.at, "at", "", "hide it until this time (RFC 3339)")
	fl.DurationVar(&f.ttl, "ttl", 0, "how long it is worth delivering; default: as long as the topic keeps messages")
	fl.StringVar(&f.idem, "idempotency-key", "", "sent again with the same key, it is stored once")
	fl.BoolVar(&f.lines, "lines", false, "send a message for each line of standard input")
	fl.BoolVar(&f.ndjson, "ndjson", false, "read messages from standard input, a JSON document a line")
	return c
}

// sentDoc is what is printed of a message that was sent.
type sentDoc struct {
	MsgID     string `json:"msg_id,omitempty"`
	Duplicate bool   `json:"duplicate"`
	Error     string `json:"error,omitempty"`
}

func (a *app) sendOne(ctx context.Context, t *mailbox.Topic, f *sendFlags, text []string) error {
	var payload []byte
	var err error
	switch {
	case len(text) == 1 && f.file != "":
		return cli.Usagef("TEXT or --file, not both")
	case len(text) == 1 && text[0] != "-":
		payload = []byte(text[0])
	case f.file == "" || f.file == "-":
		payload, err = readAll(a.In)
	default:
		var file *os.File
		if file, err = os.Open(f.file); err == nil {
			payload, err = readAll(file)
			file.Close()
		}
	}
	if err != nil {
		return err
	}
	m, err := f.message(payload)
	if err != nil {
		return err
	}
	sent, err := t.Send(ctx, m)
	if err != nil {
		return err
	}
	return a.Print(sentDoc{MsgID: sent.MsgID, Duplicate: sent.Duplicate}, func(w io.Writer) { writeSent(w, sent) })
}

func writeSent(w io.Writer, s mailbox.Sent) {
	switch {
	case s.Err != nil:
		fmt.Fprintf(w, "refused: %v\n", s.Err)
	case s.Duplicate:
		fmt.Fprintf(w, "%s\tduplicate\n", s.MsgID)
	default:
		fmt.Fprintln(w, s.MsgID)
	}
}

func readAll(r io.Reader) ([]byte, error) {
	p, err := io.ReadAll(io.LimitReader(r, maxBodyBytes+1))
	if err == nil && len(p) > maxBodyBytes {
		err = fmt.Errorf("the message is over %d bytes", maxBodyBytes)
	}
	return p, err
}

// sendLines sends messages as lines come. Those that were taken are told even where
// others were refused.
func (a *app) sendLines(ctx context.Context, t *mailbox.Topic, f *sendFlags) error {
	lines, errs := readLines(ctx, a.In)
	var batch []mailbox.Message
	size, refused := 0, 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		sent, err := t.SendBatch(ctx, batch)
		if sent == nil {
			return err
		}
		for _, s := range sent {
			if s.Err != nil {
				refused++
			}
			if err := a.tellSent(s); err != nil {
				return err
			}
		}
		batch, size = nil, 0
		return nil
	}
	n := 0
	for text := range lines {
		n++
		if f.ndjson && len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		m, err := f.lineMessage(text)
		if err != nil {
			return cli.Usagef("line %d: %w", n, err)
		}
		batch, size = append(batch, m), size+len(m.Payload)
		// What is there goes together; nobody waits for more.
		if len(batch) >= batchMessages || size >= batchBytes || len(lines) == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	err := flush()
	if err == nil {
		err = <-errs
	}
	if err == nil && refused > 0 {
		err = fmt.Errorf("%d messages were refused", refused)
	}
	return err
}

// tellSent prints what became of one message, in a line.
func (a *app) tellSent(s mailbox.Sent) error {
	if !a.JSON() {
		writeSent(a.Out, s)
		return nil
	}
	doc := sentDoc{MsgID: s.MsgID, Duplicate: s.Duplicate}
	if s.Err != nil {
		doc.Error = s.Err.Error()
	}
	return a.line(doc)
}

// lineMessage is the message of a line, with what the flags say beside it.
func (f *sendFlags) lineMessage(text []byte) (mailbox.Message, error) {
	if !f.ndjson {
		return f.message(text)
	}
	m, err := mailbox.ParseLine(text)
	if err != nil {
		return m, err
	}
	d, err := f.message(nil)
	if err != nil {
		return m, err
	}
	if m.Key == "" {
		m.Key = d.Key
	}
	if m.Delay == 0 && m.DeliverAt.IsZero() {
		m.Delay, m.DeliverAt = d.Delay, d.DeliverAt
	}
	if m.TTL == 0 {
		m.TTL = d.TTL
	}
	for name, value := range d.Attrs {
		if _, ok := m.Attrs[name]; ok {
			continue
		}
		if m.Attrs == nil {
			m.Attrs = map[string]string{}
		}
		m.Attrs[name] = value
	}
	return m, nil
}

// readLines reads lines ahead, so that it is known whether another is there.
func readLines(ctx context.Context, r io.Reader) (<-chan []byte, <-chan error) {
	lines, errs := make(chan []byte, batchMessages), make(chan error, 1)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(r)
		s.Buffer(nil, maxBodyBytes*3/2)
		for s.Scan() {
			select {
			case lines <- bytes.Clone(s.Bytes()):
			case <-ctx.Done():
				errs <- ctx.Err()
				return
			}
		}
		errs <- s.Err()
	}()
	return lines, errs
}
