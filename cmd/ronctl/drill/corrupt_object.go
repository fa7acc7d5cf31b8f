// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
)

var corruptObject = Drill{
	Name:    "corrupt-object",
	Shows:   "damaged bytes are never served, and putting the object again heals it",
	NotLive: "it damages files in the node's data directory",
	play:    func(ctx context.Context, s *scene) error { return (&damage{scene: s}).play(ctx) },
}

const (
	smallSize = 2 << 10
	largeSize = 1 << 20
	// lateAt is far behind what is verified before an answer's head leaves.
	lateAt = largeSize / 4 * 3
	// needleBytes before the damaged byte are what it is found by.
	needleBytes = 48
	// objectsDir of a data directory holds the stored bytes.
	objectsDir = "objects"
)

// damage is the drill under way.
type damage struct {
	*scene
	small, large, late object // are damaged
	neighbours         []object
}

func (d *damage) all() []object { return append([]object{d.small, d.large, d.late}, d.neighbours...) }

func (d *damage) play(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	// The first read of each object comes after its damage: what was read may be
	// in memory, and right.
	steps := []func(context.Context) error{
		d.flip("while the node runs"), d.read, d.readLate, d.others, d.heal,
		d.restart, d.read, d.readLate, d.others, d.heal, d.check,
	}
	for _, do := range steps {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *damage) begin(ctx context.Context) error {
	return d.step(ctx, "start a node, put 2 KiB and 1 MiB objects and neighbours of each, read none", "all stored", func(ctx context.Context, st *Step) error {
		if err := d.startDev(ctx); err != nil {
			return err
		}
		d.small, d.large, d.late = newObject(smallSize), newObject(largeSize), newObject(largeSize)
		for range 4 {
			d.neighbours = append(d.neighbours, newObject(smallSize), newObject(largeSize))
		}
		// Neighbours come before, between and behind.
		order := append([]object{d.neighbours[0], d.neighbours[1], d.small, d.large}, d.neighbours[2:4]...)
		order = append(append(order, d.late), d.neighbours[4:]...)
		for _, o := range order {
			if err := d.put(ctx, o); err != nil {
				return err
			}
		}
		st.count("objects", float64(len(order)))
		st.saw("%d objects", len(order))
		return nil
	})
}

// flip returns the step that damages a byte of each object on the disk.
func (d *damage) flip(when string) func(context.Context) error {
	return func(ctx context.Context) error {
		return d.step(ctx, "flip a byte of three stored objects, "+when, "each is found in a file of the data directory", func(_ context.Context, st *Step) error {
			var where []string
			for _, f := range []struct {
				o  object
				at int
			}{{d.small, smallSize / 2}, {d.large, 100}, {d.late, lateAt}} {
				file, err := d.flipByte(f.o, f.at)
				if err != nil {
					return err
				}
				where = append(where, file)
			}
			st.saw("in %q", where)
			return nil
		})
	}
}

// flipByte changes byte at of the object, wherever its bytes lie, and returns
// the last file that it was in.
func (d *damage) flipByte(o object, at int) (where string, err error) {
	needle := o.data[at-needleBytes : at]
	err = filepath.WalkDir(filepath.Join(d.data(), objectsDir), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for from := 0; ; {
			i := bytes.Index(text[from:], needle)
			if i < 0 || from+i+needleBytes >= len(text) {
				return nil
			}
			from += i + needleBytes
			if err := overwrite(path, int64(from), text[from]^0x40); err != nil {
				return err
			}
			where, _ = filepath.Rel(d.data(), path) // it is below
		}
	})
	if err == nil && where == "" {
		err = fmt.Errorf("no file below %s holds the bytes of %s", objectsDir, o.addr)
	}
	return where, err
}

func overwrite(path string, at int64, b byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{b}, at)
	return errors.Join(err, f.Close())
}

func (d *damage) restart(ctx context.Context) error {
	err := d.step(ctx, "stop the node", "it ends with 0", func(ctx context.Context, st *Step) error {
		st.saw("ended")
		return d.stop(ctx)
	})
	if err != nil {
		return err
	}
	if err := d.flip("while the node is stopped")(ctx); err != nil {
		return err
	}
	return d.step(ctx, "start it again", "it becomes ready", func(ctx context.Context, st *Step) error {
		st.saw("ready")
		return d.start(ctx)
	})
}

func (d *damage) read(ctx context.Context) error {
	return d.step(ctx, "read the two that are damaged near their beginning, for the first time since", "502 integrity for each, not one byte, integrity_fail_total grows", func(ctx context.Context, st *Step) error {
		before, err := d.metric(ctx, "integrity_fail_total")
		if err != nil {
			return err
		}
		for _, o := range []object{d.small, d.large} {
			got, err := d.get(ctx, o, "")
			if err == nil && bytes.Equal(got, o.data) {
				return fmt.Errorf("%s came whole and right: it was not damaged, or is in memory", o.addr)
			}
			if err := refused(err, http.StatusBadGateway, "integrity"); err != nil {
				return fmt.Errorf("%s: %d bytes: %w", o.addr, len(got), err)
			}
		}
		after, err := d.metric(ctx, "integrity_fail_total")
		if err != nil {
			return err
		}
		st.count("integrity_fail_total", after-before)
		st.saw("502 twice, integrity_fail_total +%v", after-before)
		if after-before < 2 {
			return errors.New("integrity_fail_total does not count both")
		}
		return nil
	})
}

func (d *damage) readLate(ctx context.Context) error {
	return d.step(ctx, "read the one that is damaged behind three quarters", "the answer breaks off, all that came is right; ranges beside the damage are right, on it 502", func(ctx context.Context, st *Step) error {
		got, err := d.get(ctx, d.late, "")
		st.count("bytes_before_the_break", float64(len(got)))
		switch {
		case err == nil:
			return fmt.Errorf("a clean end after %d of %d bytes", len(got), largeSize)
		case len(got) > lateAt || !bytes.Equal(got, d.late.data[:len(got)]):
			return fmt.Errorf("WRONG BYTES among %d", len(got))
		}
		st.saw("broke off after %d right bytes of %d", len(got), largeSize)
		const before, behind = "1000-400000", "900000-1048575"
		for span, want := range map[string][]byte{before: d.late.data[1000:400001], behind: d.late.data[900000:]} {
			if part, err := d.get(ctx, d.late, span); err != nil || !bytes.Equal(part, want) {
				return fmt.Errorf("bytes %s: %d came, not the right %d: %w", span, len(part), len(want), err)
			}
		}
		_, err = d.get(ctx, d.late, fmt.Sprintf("%d-%d", lateAt, lateAt))
		return refused(err, http.StatusBadGateway, "integrity")
	})
}

func (d *damage) others(ctx context.Context) error {
	return d.step(ctx, "read the neighbours", "every byte right", func(ctx context.Context, st *Step) error {
		st.count("objects", float64(len(d.neighbours)))
		st.saw("%d objects", len(d.neighbours))
		return d.right(ctx, d.neighbours...)
	})
}

func (d *damage) heal(ctx context.Context) error {
	return d.step(ctx, "put the same bytes again", "taken; then every byte right", func(ctx context.Context, st *Step) error {
		for _, o := range []object{d.small, d.large, d.late} {
			if err := d.put(ctx, o); err != nil {
				return err
			}
		}
		st.saw("healed")
		return d.right(ctx, d.small, d.large, d.late)
	})
}

func (d *damage) check(ctx context.Context) error {
	return d.step(ctx, "read everything, list it, ask for the usage", "nothing is lost, usage exact", func(ctx context.Context, st *Step) error {
		st.saw("%d objects are right", len(d.all()))
		return d.holds(ctx, d.all())
	})
}
