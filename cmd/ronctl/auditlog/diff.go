// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/tlog"
)

// Verdicts of a comparison.
const (
	verdictEqual   = "equal"
	verdictExtends = "extends" // the second goes on where the first ends
	verdictShorter = "shorter" // the second ends before the first
	verdictFork    = "fork"    // both are signed, and they differ
)

// difference is what a comparison found.
type difference struct {
	Verdict string `json:"verdict"`
	// Same is how many records were compared and are the same; First the index of the
	// first that is not, of a fork.
	Same  uint64  `json:"same"`
	First *uint64 `json:"first_difference,omitempty"`
	A     *part   `json:"a"`
	B     *part   `json:"b"`
}

// part is one of the two.
type part struct {
	Name   string `json:"name"`
	Origin string `json:"origin"`
	First  uint64 `json:"first"` // index of its first record
	Size   uint64 `json:"size"`
	// Record is what it has at the first difference.
	Record *tlog.Record `json:"record,omitempty"`
}

func (a *app) diff() *cobra.Command {
	var keyFiles []string
	c := &cobra.Command{
		Use: "diff A B", Short: "Compare two exports, an export or a checkpoint with an export or a node, and name the first difference", Args: cli.ExactArgs(2),
		Long: "Compare two states of one log. A and B are files, exports or checkpoints, or a node's URL (http://…, https://…), which is asked with --cap.\n" +
			"Both are verified. One of them may be the beginning of the other; where they differ, the node signed two logs, and the first record that differs is named.",
		Example: "  ronctl audit diff monday.audit friday.audit --key node.vkey\n  ronctl audit diff kept.note http://127.0.0.1:8080 --key node.vkey",
		RunE: func(c *cobra.Command, args []string) error {
			keys, err := readKeys(keyFiles)
			if err != nil {
				return err
			}
			d, err := a.compare(c, args[0], args[1], keys)
			if err != nil {
				return err
			}
			if err := a.Print(d, func(w io.Writer) { d.print(w) }); err != nil {
				return err
			}
			switch {
			case d.Verdict == verdictFork && d.First != nil:
				return bad(fmt.Errorf("the node signed two logs: they differ from record %d on", *d.First))
			case d.Verdict == verdictFork:
				return bad(errors.New("the node signed two logs"))
			case d.Verdict == verdictShorter && isURL(args[1]):
				return bad(fmt.Errorf("the node's log went back: %d records were signed, it has %d", d.A.Size, d.B.Size))
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&keyFiles, "key", nil, "file with the log's keys in note form, as ronctl audit key printed them; may be repeated")
	return c
}

func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

// side is an export while it is read and verified.
type side struct {
	part
	in      io.ReadCloser
	note    *tlog.Signed // of a kept checkpoint: there are no records
	records chan seen
	err     error // once records is closed
}

// seen is a record with its place in the tree.
type seen struct {
	record *tlog.Record
	leaf   tlog.Hash
}

// open looks at what name is and begins to read it.
func (a *app) open(c *cobra.Command, name string, keys []tlog.Key) (*side, error) {
	s := &side{part: part{Name: name}, records: make(chan seen, 256)}
	if isURL(name) {
		if err := c.Flags().Set("node", name); err != nil {
			return nil, err
		}
		ctx, cl, err := a.dial(c)
		if err != nil {
			return nil, err
		}
		return s, s.ask(ctx, cl)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(f, 1<<16)
	s.in = file{in, f}
	if begin, _ := in.Peek(len("macronode/")); string(begin) != "macronode/" {
		return s, nil
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(in, tlog.MaxCheckpointBytes+1))
	if err != nil {
		return nil, err
	}
	if s.note, err = tlog.OpenLog(text, keys); err != nil {
		return nil, bad(fmt.Errorf("%s: %w", name, err))
	}
	s.Origin, s.Size, s.in = s.note.Origin, s.note.Size, nil
	return s, nil
}

type file struct {
	io.Reader
	io.Closer
}

// ask has the node begin its export.
func (s *side) ask(ctx context.Context, cl *client.Client) error {
	resp, err := cl.Do(ctx, client.Request{Method: "GET", Path: "/v1/audit/export"})
	if err != nil {
		return err
	}
	s.in = resp.Body
	return nil
}

// verify reads the side to its end and hands out its records.
func (s *side) verify(keys []tlog.Key) {
	defer close(s.records)
	defer func() { _ = s.in.Close() }()
	v, err := tlog.VerifyExport(s.in, keys, func(r *tlog.Record) error {
		entry, err := r.Entry()
		if err != nil {
			return err
		}
		s.records <- seen{r, tlog.LeafHash(entry)} // all of them are taken
		return nil
	})
	if err != nil {
		s.err = bad(fmt.Errorf("%s: %w", s.Name, err))
		return
	}
	s.Origin, s.First, s.Size = v.Head.Origin, v.Head.First, v.Head.Size
}

// compare reads both at the same time, in step, and each to its end: what differs
// counts only where both are signed.
func (a *app) compare(c *cobra.Command, nameA, nameB string, keys []tlog.Key) (*difference, error) {
	if isURL(nameA) && isURL(nameB) {
		return nil, cli.Usagef("one of the two is a file: a node is compared with what was kept elsewhere")
	}
	x, err := a.open(c, nameA, keys)
	if err != nil {
		return nil, err
	}
	y, err := a.open(c, nameB, keys)
	if err != nil {
		if x.in != nil {
			_ = x.in.Close()
		}
		return nil, err
	}
	switch {
	case x.note != nil && y.note != nil:
		return nil, cli.Usagef("two checkpoints alone say nothing of each other: one of the two is an export or a node")
	case x.note != nil:
		return against(x, y, y, keys)
	case y.note != nil:
		return against(x, y, x, keys)
	}
	var group sync.WaitGroup
	group.Go(func() { x.verify(keys) })
	group.Go(func() { y.verify(keys) })
	d := &difference{A: &x.part, B: &y.part}
	d.walk(x, y)
	group.Wait()
	if err := errors.Join(x.err, y.err); err != nil {
		return nil, err
	}
	if x.Origin != y.Origin {
		return nil, cli.Usagef("these are the logs of two nodes: %s and %s", x.Origin, y.Origin)
	}
	d.judge()
	return d, nil
}

// walk takes the records of both in step, to the end of both.
func (d *difference) walk(x, y *side) {
	p, okX := <-x.records
	q, okY := <-y.records
	for okX || okY {
		switch {
		case okX && (!okY || p.record.Seq < q.record.Seq):
			p, okX = <-x.records
			continue
		case okY && (!okX || q.record.Seq < p.record.Seq):
			q, okY = <-y.records
			continue
		case p.leaf == q.leaf:
			if d.First == nil {
				d.Same++
			}
		case d.First == nil:
			seq := p.record.Seq
			d.First, d.A.Record, d.B.Record = &seq, p.record, q.record
		}
		p, okX = <-x.records
		q, okY = <-y.records
	}
}

func (d *difference) judge() {
	switch {
	case d.First != nil:
		d.Verdict = verdictFork
	case d.A.Size == d.B.Size:
		d.Verdict = verdictEqual
	case d.A.Size < d.B.Size:
		d.Verdict = verdictExtends
	default:
		d.Verdict = verdictShorter
	}
}

// against compares a kept checkpoint with the export full, which is a or b.
func against(a, b, full *side, keys []tlog.Key) (*difference, error) {
	note := a.note
	if note == nil {
		note = b.note
	}
	d := &difference{A: &a.part, B: &b.part}
	var group sync.WaitGroup
	group.Go(func() { full.verify(keys) })
	front, early := &tlog.Frontier{}, true
	root, met := front.Root(), note.Size == 0
	for s := range full.records {
		if s.record.Seq != front.Size() {
			early = false // it begins later
			continue
		}
		front.Add(s.leaf, nil)
		if front.Size() == note.Size {
			root, met = front.Root(), true
		}
	}
	group.Wait()
	switch {
	case full.err != nil:
		return nil, full.err
	case full.Origin != note.Origin:
		return nil, cli.Usagef("these are the logs of two nodes: %s and %s", a.Origin, b.Origin)
	case !early:
		return nil, cli.Usagef("%s begins with record %d: a checkpoint is compared with a whole log", full.Name, full.First)
	}
	d.judge()
	if d.Same = min(note.Size, full.Size); met && root != note.Root {
		d.Verdict, d.Same = verdictFork, 0
	}
	return d, nil
}

func (d *difference) print(w io.Writer) {
	fmt.Fprintf(w, "verdict\t%s\nsame\t%d records\n", d.Verdict, d.Same)
	for _, p := range []*part{d.A, d.B} {
		fmt.Fprintf(w, "%s\trecords %d to %d\n", p.Name, p.First, p.Size)
		if r := p.Record; r != nil {
			fmt.Fprintf(w, "\trecord %d: %s %s by %s on %s, %s\n", r.Seq, time.UnixMilli(r.TSMilli).UTC().Format(time.RFC3339Nano), r.Kind, r.Actor, r.Subject, r.Hash)
		}
	}
}
