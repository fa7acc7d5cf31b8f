// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/ronctl/drill/compress"
	"github.com/rustyonions/macronode/cmd/ronctl/drill/process"
)

var decompressionBomb = Drill{
	Name:    "decompression-bomb",
	Shows:   "a compressed upload that expands too far is refused, early and in little memory",
	NotLive: "it needs the node's memory for itself to measure it",
	play:    func(ctx context.Context, s *scene) error { return (&bombs{scene: s}).play(ctx) },
}

const (
	// bombBytes is what a bomb would expand to.
	bombBytes = 1 << 30
	// atOnce of each kind are sent together.
	atOnce = 8
	// bombMemory is how much the node's memory may grow under all of them.
	bombMemory = 128 << 20
	// pieceBytes are compressed once and repeated: gzip takes one member after the
	// other.
	pieceBytes = 1 << 20
	// wideRandom bytes of a piece cannot be compressed, which keeps the whole under
	// the ratio; widePieces of them expand beyond 32 MiB.
	wideRandom, widePieces = 160 << 10, 64
)

// zipped is a compressed body.
type zipped struct {
	name, coding string
	body         []byte
}

type bombs struct {
	*scene
	sent     []zipped
	held     []object // the good uploads, decoded
	refusals int
}

func (d *bombs) play(ctx context.Context) error {
	for _, do := range []func(context.Context) error{d.begin, d.one, d.many, d.useful, d.check} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *bombs) begin(ctx context.Context) error {
	return d.step(ctx, "start a node, make the bombs", "it becomes ready", func(ctx context.Context, st *Step) error {
		if err := d.startDev(ctx); err != nil {
			return err
		}
		flat, err := compress.Gzip(make([]byte, pieceBytes))
		if err != nil {
			return err
		}
		wide, err := compress.Gzip(append(newObject(wideRandom).data, make([]byte, pieceBytes-wideRandom)...))
		if err != nil {
			return err
		}
		d.sent = []zipped{
			{"gzip, 1 GiB of zeros", "gzip", bytes.Repeat(flat, bombBytes/pieceBytes)},
			{"zstd, 1 GiB of zeros", "zstd", compress.Zstd(nil, bombBytes)},
			{"gzip, under the ratio but 64 MiB in all", "gzip", bytes.Repeat(wide, widePieces)},
		}
		for _, z := range d.sent {
			st.count(z.coding+"_bytes", float64(len(z.body)))
		}
		st.saw("ready; bombs of %d, %d and %d bytes", len(d.sent[0].body), len(d.sent[1].body), len(d.sent[2].body))
		return nil
	})
}

// post sends a compressed body and returns the address that the node gave its
// decoded bytes.
func (d *bombs) post(ctx context.Context, z zipped) (addr b3.Addr, size int64, err error) {
	resp, err := d.tenant.Do(ctx, client.Request{Method: http.MethodPost, Path: "/o", Header: http.Header{"Content-Encoding": {z.coding}},
		Body: bytes.NewReader(z.body), Length: int64(len(z.body))})
	if err != nil {
		return addr, 0, err
	}
	defer resp.Body.Close()
	var put client.Put
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&put)
	return put.Addr, put.Size, err
}

func (d *bombs) one(ctx context.Context) error {
	return d.step(ctx, "upload each bomb", "413 decompress, nothing is stored", func(ctx context.Context, st *Step) error {
		var slowest time.Duration
		for _, z := range d.sent {
			var err error
			slowest = max(slowest, took(func() { _, _, err = d.post(ctx, z) }))
			if err := refused(err, http.StatusRequestEntityTooLarge, "decompress"); err != nil {
				return fmt.Errorf("%s: %w", z.name, err)
			}
			d.refusals++
		}
		st.count("slowest_ms", ms(slowest))
		st.saw("413 decompress for each, the slowest after %s", slowest.Round(time.Microsecond))
		return d.holds(ctx, nil)
	})
}

func (d *bombs) many(ctx context.Context) error {
	did := fmt.Sprintf("upload %d of each at once", atOnce)
	expect := fmt.Sprintf("413 decompress for each; the node's memory grows by less than %d MiB; rejected_total{reason=\"decompress\"} counts every one", bombMemory>>20)
	return d.step(ctx, did, expect, func(ctx context.Context, st *Step) error {
		before, known := process.PeakBytes(d.process.Cmd.Process.Pid)
		var wg sync.WaitGroup
		faults := make([]error, atOnce*len(d.sent))
		for i := range faults {
			z := d.sent[i%len(d.sent)]
			wg.Go(func() {
				// Many at once are work for many milliseconds: some may be told to
				// come again.
				err := patiently(ctx, func() error { _, _, err := d.post(ctx, z); return err })
				if err = refused(err, http.StatusRequestEntityTooLarge, "decompress"); err != nil {
					faults[i] = fmt.Errorf("%s: %w", z.name, err)
				}
			})
		}
		begun := time.Now()
		wg.Wait()
		st.count("all_ms", ms(time.Since(begun)))
		if err := errors.Join(faults...); err != nil {
			return err
		}
		d.refusals += len(faults)
		counted, err := d.metric(ctx, "rejected_total", `reason="decompress"`)
		if err != nil {
			return err
		}
		st.count("rejected_total", counted)
		st.saw("%d refused in %s, memory not measured on this system", len(faults), time.Since(begun).Round(time.Millisecond))
		if known {
			after, _ := process.PeakBytes(d.process.Cmd.Process.Pid)
			st.count("memory_peak_before_bytes", float64(before))
			st.count("memory_peak_bytes", float64(after))
			st.saw("%d refused in %s, the peak of memory went from %d to %d MiB", len(faults), time.Since(begun).Round(time.Millisecond), before>>20, after>>20)
			if after-before > bombMemory {
				return errors.New("that is too much")
			}
		}
		if int(counted) != d.refusals {
			return fmt.Errorf("%v refusals are counted, there were %d", counted, d.refusals)
		}
		return nil
	})
}

func (d *bombs) useful(ctx context.Context) error {
	return d.step(ctx, "upload compressed bytes that expand to twice their size", "stored under the address of the decoded bytes", func(ctx context.Context, st *Step) error {
		const half = 100 << 10
		for _, coding := range []string{"gzip", "zstd"} {
			raw := newObject(half).data
			data := append(bytes.Clone(raw), make([]byte, half)...)
			z := zipped{coding: coding, body: compress.Zstd(raw, half)}
			if coding == "gzip" {
				var err error
				if z.body, err = compress.Gzip(data); err != nil {
					return err
				}
			}
			addr, size, err := d.post(ctx, z)
			if err != nil {
				return fmt.Errorf("%s: %w", coding, err)
			}
			o := object{b3.Sum(data), data}
			if addr != o.addr || size != int64(len(data)) {
				return fmt.Errorf("%s: stored as %s of %d bytes, they are %s of %d", coding, addr, size, o.addr, len(data))
			}
			d.held = append(d.held, o)
		}
		st.saw("gzip and zstd, 201 each")
		return nil
	})
}

func (d *bombs) check(ctx context.Context) error {
	return d.step(ctx, "read everything, list it, ask for the usage", "the good uploads and nothing else", func(ctx context.Context, st *Step) error {
		st.saw("%d objects are right", len(d.held))
		return d.holds(ctx, d.held)
	})
}
