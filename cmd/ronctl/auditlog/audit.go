// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package auditlog is ronctl's commands about the audit log: looking at records,
// and verifying what a node says of its log without believing it.
package auditlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/tlog"
)

// Connect makes the client that flags, environment and context describe.
type Connect func(*cobra.Command) (context.Context, *client.Client, error)

type app struct {
	*cli.Terminal
	dial Connect
}

// Command is "ronctl audit".
func Command(t *cli.Terminal, connect Connect) *cobra.Command {
	a := &app{t, connect}
	return cli.Group("audit", "Look at the audit log, export it, and verify what was exported", "  ronctl audit query --kind cap.mint --desc\n  ronctl audit export -o log.audit && ronctl audit verify log.audit --key node.vkey",
		a.query(), a.key(), a.checkpoint(), a.prove(), a.export(), a.verify(), a.tail(), a.diff())
}

// maxKeyBytes bounds a file of verifier keys.
const maxKeyBytes = 64 << 10

func (a *app) query() *cobra.Command {
	q := url.Values{}
	var since, until string
	var limit int
	var desc bool
	c := &cobra.Command{
		Use: "query", Short: "List records, an operator all, others their tenant's", Args: cli.NoArgs,
		Example: "  ronctl audit query --desc --limit 20\n  ronctl audit query --kind refusal --since 1h --output json",
		RunE: func(c *cobra.Command, _ []string) error {
			for name, text := range map[string]string{"from_ms": since, "to_ms": until} {
				if text == "" {
					continue
				}
				at, err := moment(text, time.Now())
				if err != nil {
					return err
				}
				q.Set(name, strconv.FormatInt(at.UnixMilli(), 10))
			}
			for _, name := range []string{"stream", "kind", "actor", "reason"} {
				if v, err := c.Flags().GetString(name); err == nil && v != "" {
					q.Set(name, v)
				}
			}
			if desc {
				q.Set("order", "desc")
			}
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			records, err := list(ctx, cl, q, limit)
			if err != nil {
				return err
			}
			return a.Print(map[string]any{"records": records}, func(w io.Writer) {
				for _, raw := range records {
					if r, err := tlog.Parse(raw); err == nil {
						fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Seq, time.UnixMilli(r.TSMilli).UTC().Format(time.RFC3339), r.Kind, r.Actor, r.Subject, r.Reason, r.Stream)
					}
				}
			})
		},
	}
	f := c.Flags()
	f.String("stream", "", "node, or tenant/ID; an operator's choice")
	f.String("kind", "", "what happened, such as cap.mint or refusal")
	f.String("actor", "", "who did it, such as cap:ID or node")
	f.String("reason", "", "code of a refusal")
	f.StringVar(&since, "since", "", "not before: a time (RFC 3339), or how long ago (1h)")
	f.StringVar(&until, "until", "", "before: the same")
	f.IntVar(&limit, "limit", 100, "records at most; 0: all")
	f.BoolVar(&desc, "desc", false, "the newest first")
	return c
}

// moment reads a time, or how long before now it was.
func moment(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, cli.Usagef("%q is neither a time (2006-01-02T15:04:05Z) nor a duration (1h)", text)
	}
	return at, nil
}

// list reads pages of records until limit came; 0: all.
func list(ctx context.Context, cl *client.Client, q url.Values, limit int) (all []json.RawMessage, err error) {
	const page = 1000
	all = []json.RawMessage{}
	for {
		n := page
		if limit > 0 {
			n = min(page, limit-len(all))
		}
		q.Set("limit", strconv.Itoa(n))
		var p struct {
			Records []json.RawMessage `json:"records"`
			Cursor  string            `json:"cursor"`
		}
		if err := cl.JSON(ctx, "GET", "/v1/audit/records?"+q.Encode(), "", nil, &p); err != nil {
			return nil, err
		}
		all = append(all, p.Records...)
		if p.Cursor == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
		q.Set("cursor", p.Cursor)
	}
}

func (a *app) text(use, short, example string, paths ...string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Example: example, Args: cli.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		ctx, cl, err := a.dial(c)
		if err != nil {
			return err
		}
		var all []string
		for _, path := range paths {
			b, err := cl.Text(ctx, path, tlog.MaxCheckpointBytes)
			if err != nil {
				return err
			}
			all = append(all, string(b))
		}
		return a.Print(map[string]any{use: all}, func(w io.Writer) { fmt.Fprint(w, strings.Join(all, "")) })
	}}
}

func (a *app) key() *cobra.Command {
	return a.text("key", "Print the keys that verify checkpoints; keep them where the node cannot change them", "  ronctl audit key > node.vkey", "/v1/audit/log/key", "/v1/audit/log/key-mldsa")
}

func (a *app) checkpoint() *cobra.Command {
	return a.text("checkpoint", "Print the newest signed checkpoint: size and root of the log", "  ronctl audit checkpoint", "/v1/audit/log/checkpoint")
}

func (a *app) prove() *cobra.Command {
	var hash, out string
	c := &cobra.Command{
		Use: "prove [SEQ]", Short: "Get a record with the proof that the log holds it; it verifies offline", Args: cli.MaxArgs(1),
		Example: "  ronctl audit prove 4711 -o receipt.json && ronctl audit verify receipt.json --key node.vkey\n  ronctl audit prove --hash b3:HEX",
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (hash != "") {
				return cli.Usagef("the index of a record or --hash is needed, one of them")
			}
			q := url.Values{"hash": {hash}}
			if len(args) == 1 {
				q = url.Values{"seq": {args[0]}}
			}
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			b, err := cl.Text(ctx, "/v1/audit/receipt?"+q.Encode(), 1<<20)
			if err != nil {
				return err
			}
			return a.write(out, func(w io.Writer) error {
				_, err := w.Write(append(bytes.TrimRight(b, "\n"), '\n'))
				return err
			})
		},
	}
	c.Flags().StringVar(&hash, "hash", "", "hash of the record, b3:HEX")
	c.Flags().StringVarP(&out, "out", "o", "-", "file to write; - is standard output")
	return c
}

func (a *app) export() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "export", Short: "Write the whole log with its checkpoint to a file", Args: cli.NoArgs, Example: "  ronctl audit export -o log.audit",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			resp, err := cl.Do(ctx, client.Request{Method: "GET", Path: "/v1/audit/export"})
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			return a.write(out, func(w io.Writer) error {
				_, err := io.Copy(w, resp.Body)
				return err
			})
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "-", "file to write; - is standard output")
	return c
}

// write writes to a file, which is there whole or not at all, or to standard output.
func (a *app) write(out string, f func(io.Writer) error) (err error) {
	if out == "-" {
		return f(a.Out)
	}
	part := out + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part)
		}
	}()
	if err := errors.Join(f(file), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(part, out)
}

func (a *app) verify() *cobra.Command {
	var keyFiles []string
	var compact string
	var w vouchers
	c := &cobra.Command{
		Use: "verify [FILE]", Short: "Verify an export or a receipt offline: each record, the chain, the tree, the signatures", Args: cli.MaxArgs(1),
		Example: "  ronctl audit verify log.audit --key node.vkey\n  ronctl audit verify receipt.json --key node.vkey\n  ronctl audit verify --receipt \"$AUDIT_RECEIPT\" --key node.vkey",
		RunE: func(_ *cobra.Command, args []string) error {
			if (len(args) == 1) == (compact != "") {
				return cli.Usagef("a file or --receipt is needed, one of them")
			}
			keys, err := readKeys(keyFiles)
			if err == nil {
				err = w.read()
			}
			if err != nil {
				return err
			}
			if compact != "" {
				return a.compact(compact, keys, &w)
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			var first [1]byte
			if _, err := io.ReadFull(f, first[:]); err != nil {
				return bad(fmt.Errorf("%s is empty", args[0]))
			}
			in := io.MultiReader(bytes.NewReader(first[:]), f)
			if first[0] == '{' {
				return a.receipt(in, keys, &w)
			}
			v, err := tlog.VerifyExport(in, keys, nil)
			if err != nil {
				return bad(err)
			}
			return a.verified(v.Signed, v.Head.First, v.Records, &w)
		},
	}
	c.Flags().StringVar(&compact, "receipt", "", "a receipt as the header Audit-Receipt holds it, of a change that was sent with Prefer: audit-receipt; - reads it from standard input")
	w.flags(c)
	c.Flags().StringArrayVar(&keyFiles, "key", nil, "file with the log's keys in note form, as ronctl audit key printed them; may be repeated")
	return c
}

func (a *app) receipt(in io.Reader, keys []tlog.Key, w *vouchers) error {
	var p tlog.Receipt
	if err := json.NewDecoder(io.LimitReader(in, 1<<20)).Decode(&p); err != nil {
		return bad(fmt.Errorf("not a receipt: %w", err))
	}
	r, s, err := p.Verify(keys)
	if err != nil {
		return bad(err)
	}
	return a.verified(s, r.Seq, 1, w)
}

// compact verifies a receipt that came in a header field, and says of what it is.
func (a *app) compact(text string, keys []tlog.Key, w *vouchers) error {
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(a.In, tlog.MaxCompactBytes+2))
		if err != nil {
			return err
		}
		text = string(b)
	}
	p, err := tlog.ParseCompact(strings.TrimSpace(text))
	if err != nil {
		return bad(err)
	}
	r, s, err := p.Verify(keys)
	if err != nil {
		return bad(err)
	}
	if err := a.verified(s, r.Seq, 1, w); err != nil || a.Output == "json" {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "record\t%s\n", p.Record)
	return err
}

// verified says what holds.
func (a *app) verified(s *tlog.Signed, first, records uint64, w *vouchers) error {
	vouched, err := w.check(s)
	if err != nil {
		return bad(err)
	}
	signed := make([]string, len(s.By))
	for i, k := range s.By {
		signed[i] = k.Type.String()
	}
	doc := map[string]any{"valid": true, "origin": s.Origin, "size": s.Size, "first": first, "records": records, "signed_by": signed}
	if len(w.keys) > 0 {
		doc["cosigned_by"] = vouched
	}
	return a.Print(doc, func(out io.Writer) {
		fmt.Fprintf(out, "valid\t%d records from %d, in a log of %d\norigin\t%s\nsigned by\t%s\n", records, first, s.Size, s.Origin, strings.Join(signed, ", "))
		if len(w.keys) > 0 {
			fmt.Fprintf(out, "cosigned by\t%s\n", strings.Join(vouched, ", "))
		}
	})
}

// bad is what does not verify: the exit code says so.
func bad(err error) error { return macronode.Wrap(macronode.Integrity, err.Error(), err) }

func readKeys(files []string) (keys []tlog.Key, err error) {
	if len(files) == 0 {
		return nil, cli.Usagef("--key is needed: what a node says of its own log is verified by a key that was kept elsewhere")
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(f, maxKeyBytes))
		_ = f.Close()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if strings.TrimSpace(line) == "" {
				continue
			}
			k, err := tlog.ParseKey(line)
			if err != nil {
				return nil, cli.Usagef("%s: %v", name, err)
			}
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, cli.Usagef("there is no key in %s", strings.Join(files, ", "))
	}
	return keys, nil
}
