// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/tlog"
)

// large makes a log of many records, proves some of them by their index, exports it,
// and has ronctl verify the export.
func (r *race) large(ctx context.Context) (err error) {
	bin, err := r.binary()
	if err != nil {
		return err
	}
	keys, err := signers()
	if err != nil {
		return err
	}
	dir := r.folder()
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t, shut, err := openTree(ctx, dir, keys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shut()) }()
	report.Say("a log of %d records is made", r.set.Records)
	file := filepath.Join(r.dir, "log.audit")
	if err := r.fill(ctx, t, file, func(text string) ([]byte, error) {
		note := []byte(text + "\n")
		for _, k := range keys {
			unix := uint64(time.Now().Unix()) //nolint:gosec // not negative
			msg, err := k.Message(text, unix)
			if err != nil {
				return nil, err
			}
			raw, err := k.Sign(msg)
			if err != nil {
				return nil, err
			}
			note = append(note, tlog.Line(k.Key, k.Seal(raw, unix))...)
		}
		return note, nil
	}, public(keys)); err != nil {
		return err
	}
	if err := r.prove(t); err != nil {
		return err
	}
	return r.verify(ctx, bin, file, public(keys))
}

// fill adds the records, to the log and to an export of it.
func (r *race) fill(ctx context.Context, t *tree.Tree, file string, sign func(string) ([]byte, error), keys []tlog.Key) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	x, err := tlog.NewExporter(f, tlog.Head{Origin: tree.Origin(writer), Writer: writer, Size: uint64(r.set.Records), Heads: map[string]b3.Addr{}}) //nolint:gosec // not negative
	if err != nil {
		return err
	}
	for i := range r.set.Records {
		rec := tlog.Record{TSMilli: 1767225600000 + int64(i), Stream: fmt.Sprint("tenant/", i%1000), Kind: "object.put", Actor: "cap:000102030405060708090a0b0c0d0e0f",
			Subject: "object/b3", Attrs: tlog.Attrs{"bytes": int64(i), "phase": "end", "status": int64(201)}}
		entry, err := t.Add(&rec, false)
		if err == nil {
			err = x.Add(entry)
		}
		if err == nil && i%4096 == 4095 {
			if err = t.Sync(ctx); err == nil {
				err = t.Flush(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(t.Sync(ctx), t.Flush(ctx)); err != nil {
		return err
	}
	if err := t.Publish(ctx, keys, func(_ context.Context, text string) ([]byte, error) { return sign(text) }); err != nil {
		return err
	}
	return x.Close(t.Published().Note)
}

// prove times proofs by index, each checked.
func (r *race) prove(t *tree.Tree) error {
	p := t.Published()
	rnd := rand.New(rand.NewPCG(1, 2))
	var took []time.Duration
	for i := range 22_000 {
		seq := rnd.Uint64N(p.Size)
		begun := time.Now()
		in, err := tlog.ProveInclusion(seq, p.Size, t.Tiles())
		d := time.Since(begun)
		if err != nil {
			return err
		}
		if i < 2000 { // of a reader that just began
			continue
		}
		took = append(took, d)
		if i%100 == 0 {
			entry, err := t.Entry(context.Background(), seq)
			if err == nil {
				err = in.Check(p.Checkpoint, entry)
			}
			if err != nil {
				return err
			}
		}
	}
	slices.Sort(took)
	p50, p99 := drive.Percentile(took, 50), drive.Percentile(took, 99)
	r.sec.Row("a proof by index", "macronode", fmt.Sprintf("%.1f µs", float64(p50.Nanoseconds())/1000), fmt.Sprintf("log of %d", p.Size), fmt.Sprintf("%.4f", p50.Seconds()*1000), fmt.Sprintf("%.4f", p99.Seconds()*1000), "", "≤ 100 µs",
		r.sec.Judge(fmt.Sprintf("proof by index in a log of %d", p.Size), "≤ 100 µs", p50.String(), p50 <= 100*time.Microsecond))
	return nil
}

// verify has ronctl verify the export, as an auditor would.
func (r *race) verify(ctx context.Context, bin, file string, keys []tlog.Key) error {
	key := filepath.Join(r.dir, "vkey")
	text := ""
	for _, k := range keys {
		text += k.String() + "\n"
	}
	if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
		return err
	}
	var rates []float64
	var most int64
	for range min(r.plan.Rounds, 3) {
		cmd := exec.CommandContext(ctx, bin, "audit", "verify", file, "--key", key)
		begun := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		rates = append(rates, float64(r.set.Records)/time.Since(begun).Seconds())
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			most = max(most, u.Maxrss)
		}
	}
	st := report.StatOf(rates, func(x float64) float64 { return x })
	r.sec.Row(fmt.Sprintf("`ronctl audit verify` of %d records, records/s", r.set.Records), "macronode", report.Number(st.Median), report.Number(st.Low)+"-"+report.Number(st.High), "", "", "", "≥ 300,000",
		r.sec.Judge("verify", "≥ 300,000 records/s", report.Number(st.Median), st.Median >= 300_000))
	r.sec.Row("its memory at most, MiB", "macronode", fmt.Sprint(most>>10), "", "", "", "", "bounded: ≤ 256", r.sec.Judge("memory of verify", "≤ 256 MiB", fmt.Sprintf("%d MiB", most>>10), most>>10 <= 256))
	return nil
}
