// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
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

const (
	// firstWait and longestWait bound the time to the next try after a stream broke
	// off: it doubles.
	firstWait, longestWait = 100 * time.Millisecond, 5 * time.Second
	// quiet is how long a stream may say nothing; the node says something every 15 s.
	quiet = 45 * time.Second
	// maxEventBytes bounds a line of a stream.
	maxEventBytes = tlog.MaxRecordBytes + 64
)

// follower follows a log, over as many streams as it takes.
type follower struct {
	cl     *client.Client
	stream string
	kind   string
	from   string // index of the first record wanted; "": what comes from now on
	file   string // keeps the index of the next record; "": none does
	count  int    // records to show; 0: until the end
	show   func(*tlog.Record, []byte) error
	note   func(string)

	next uint64 // index of the next record, once one was seen
	seen bool
	// whole: the caller sees the whole log, so that it has no gaps. A tenant sees its own.
	whole bool
}

func (a *app) tail() *cobra.Command {
	f := &follower{}
	c := &cobra.Command{
		Use: "tail", Short: "Follow the log: show records as they become durable, across broken connections", Args: cli.NoArgs,
		Example: "  ronctl audit tail\n  ronctl audit tail --from 0 --kind refusal --output json\n  ronctl audit tail --cursor audit.cursor --output json >> audit.ndjson",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			f.cl = cl
			if _, err := strconv.ParseUint(f.from, 10, 63); f.from != "" && err != nil {
				return cli.Usagef("--from is the index of a record, not %q", f.from)
			}
			f.show = func(r *tlog.Record, entry []byte) error {
				if a.Output == "json" {
					_, err := a.Out.Write(append(entry, '\n'))
					return err
				}
				_, err := fmt.Fprintf(a.Out, "%-8d %s  %-24s %-24s %-20s %s\n", r.Seq, time.UnixMilli(r.TSMilli).UTC().Format("2006-01-02T15:04:05.000Z"), r.Kind, r.Actor, r.Reason, r.Subject)
				return err
			}
			f.note = func(s string) { fmt.Fprintln(a.Err, "ronctl:", s) }
			return f.run(ctx)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.stream, "stream", "", "node, or tenant/ID; an operator's choice")
	fl.StringVar(&f.kind, "kind", "", "show records of this kind alone")
	fl.StringVar(&f.from, "from", "", "index of the first record; missing: what comes from now on")
	fl.StringVar(&f.file, "cursor", "", "file that keeps how far it came: a later run goes on there, without a gap and without repeating")
	fl.IntVarP(&f.count, "records", "n", 0, "end after this many records were shown; 0: never")
	return c
}

// run follows until ctx ends, which is no error, or enough was shown.
func (f *follower) run(ctx context.Context) error {
	if err := f.resume(); err != nil {
		return err
	}
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		before := f.next
		err := f.once(ctx)
		switch {
		case errors.Is(err, errDone), ctx.Err() != nil:
			return nil
		case final(err):
			return err
		case f.next > before:
			wait = firstWait
		}
		f.note(fmt.Sprintf("the stream broke off (%v); going on in %s", err, wait))
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// errDone: enough was shown.
var errDone = errors.New("enough was shown")

// errLocal is what no other connection helps.
type errLocal struct{ error }

func (e errLocal) Unwrap() error { return e.error }

// final says whether another try cannot help.
func final(err error) bool {
	var local errLocal
	if errors.As(err, &local) {
		return true
	}
	var p *client.Error
	return errors.As(err, &p) && p.Status/100 == 4 && p.Status != http.StatusTooManyRequests
}

// resume reads the cursor's file, if there is one.
func (f *follower) resume() error {
	if f.file == "" {
		return nil
	}
	b, err := os.ReadFile(f.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 63)
	if err != nil {
		return cli.Usagef("%s holds no cursor", f.file)
	}
	f.from = strconv.FormatUint(n, 10)
	return nil
}

// keep writes how far it came; what was shown is not shown again.
func (f *follower) keep() error {
	if f.file == "" || !f.seen {
		return nil
	}
	part := f.file + ".part"
	if err := os.WriteFile(part, []byte(strconv.FormatUint(f.next, 10)+"\n"), 0o600); err != nil {
		return errLocal{err}
	}
	if err := os.Rename(part, f.file); err != nil {
		return errLocal{err}
	}
	return nil
}

// once follows one stream to its end.
func (f *follower) once(ctx context.Context) error {
	q := url.Values{}
	if f.stream != "" {
		q.Set("stream", f.stream)
	}
	switch {
	case f.seen:
		q.Set("from", strconv.FormatUint(f.next, 10))
	case f.from != "":
		q.Set("from", f.from)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	resp, err := f.cl.Do(ctx, client.Request{Method: "GET", Path: "/v1/audit/tail?" + q.Encode(), Header: http.Header{"Accept": {"text/event-stream"}}})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	alive := time.AfterFunc(quiet, end)
	defer alive.Stop()
	in := bufio.NewReaderSize(resp.Body, maxEventBytes)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return errLocal{macronode.Errorf(macronode.Integrity, "a line of the stream is longer than a record")}
		}
		if err != nil {
			return errors.Join(err, f.keep())
		}
		alive.Reset(quiet)
		if data, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("data: ")); ok {
			if err := f.take(data); err != nil {
				return errors.Join(err, f.keep())
			}
		}
		if in.Buffered() == 0 {
			if err := f.keep(); err != nil {
				return err
			}
		}
	}
}

// take shows a record, whose hash and place are checked.
func (f *follower) take(entry []byte) error {
	r, err := tlog.Parse(entry)
	if err != nil {
		return errLocal{bad(err)}
	}
	if f.seen && (r.Seq < f.next || f.whole && r.Seq != f.next) {
		return errLocal{bad(fmt.Errorf("record %d came where %d was due", r.Seq, f.next))}
	}
	f.whole = f.whole || f.stream == "" && r.Stream == "node"
	f.next, f.seen = r.Seq+1, true
	if f.kind != "" && r.Kind != f.kind {
		return nil
	}
	if err := f.show(r, bytes.Clone(entry)); err != nil {
		return errLocal{err}
	}
	if f.count--; f.count == 0 {
		return errDone
	}
	return nil
}
