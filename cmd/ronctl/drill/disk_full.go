// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/ronctl/drill/process"
)

var diskFull = Drill{
	Name:    "disk-full",
	Shows:   "a full disk refuses writes and nothing else, and takes them again once there is room",
	NotLive: "it fills the disk that the node lies on",
	play:    func(ctx context.Context, s *scene) error { return (&fullDisk{scene: s}).play(ctx) },
}

const (
	// roomBytes is what the node may fill before its disk is full for it.
	roomBytes = 48 << 20
	// roomLeast is what a place must have free for the drill to go there: the room,
	// the node's own files, and something for others.
	roomLeast = 192 << 20
	// roomMost: the config takes no reserve beyond 1 TiB.
	roomMost  = 1 << 40
	fillBytes = 1 << 20
	fineBytes = 64 << 10
	// fillMost ends a filling that does not end by itself.
	fillMost = 2 * roomBytes / fillBytes
	// probes is how many refusals and reads are timed.
	probes = 20
	// refusalWithin bounds the slowest of them.
	refusalWithin = time.Second
	// recoverWithin is how soon writes must succeed after there is room again.
	recoverWithin = 10 * time.Second
	memoryDir     = "/dev/shm"
)

// fullDisk is the drill under way.
type fullDisk struct {
	*scene
	held     []object
	refusals int
}

// place chooses where the disk is to be full. A file system in memory is best:
// on a disk, what other programs write and remove moves the border.
func place() (string, error) {
	at := []string{memoryDir, os.TempDir()}
	for _, dir := range at {
		free, err := process.FreeBytes(dir)
		if err == nil && free >= roomLeast && free < roomMost {
			return dir, nil
		}
	}
	return "", fmt.Errorf("neither %s has between %d MiB and 1 TiB free; name a place with --dir", strings.Join(at, " nor "), roomLeast>>20)
}

func (d *fullDisk) play(ctx context.Context) error {
	for _, do := range []func(context.Context) error{d.begin, d.fill, d.refuse, d.read, d.probe, d.free, d.recover, d.check} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *fullDisk) begin(ctx context.Context) error {
	return d.step(ctx, "start a node whose reserve is all of the disk but 48 MiB", "it becomes ready", func(ctx context.Context, st *Step) error {
		parent := d.options.Dir
		var err error
		if parent == "" {
			if parent, err = place(); err != nil {
				return err
			}
		}
		free, err := process.FreeBytes(parent)
		if err != nil {
			return err
		}
		if free < roomLeast || free-roomBytes > roomMost {
			return fmt.Errorf("%s has %d MiB free, from %d MiB to 1 TiB are needed", parent, free>>20, roomLeast>>20)
		}
		if err := d.makeDir(parent); err != nil {
			return err
		}
		// A new database writes its own files first, which the room is not for.
		if free, err = process.FreeBytes(parent); err != nil {
			return err
		}
		reserve := free - roomBytes - ownBytes
		st.count("free_bytes", float64(free))
		st.count("reserve_bytes", float64(reserve))
		err = d.startSigned(ctx, func(text string) string { return text + fmt.Sprintf("\n[data]\nreserve_bytes = \"%dB\"\n", reserve) })
		if err == nil {
			st.saw("ready in %s", filepath.Clean(parent))
		}
		return err
	})
}

// ownBytes is about what a new node's own files take, its ballast above all.
const ownBytes = 24 << 20

func (d *fullDisk) fill(ctx context.Context) error {
	return d.step(ctx, "put objects of 1 MiB, then of 64 KiB, until the node refuses", "507 disk_full, not to be tried again", func(ctx context.Context, st *Step) error {
		for _, size := range []int{fillBytes, fineBytes} {
			for n := 0; ; n++ {
				o := newObject(size)
				err := d.put(ctx, o)
				if err == nil && n < fillMost {
					d.held = append(d.held, o)
					continue
				}
				st.count("objects", float64(len(d.held)))
				if err := isFull(err); err != nil {
					st.saw("%d objects went in", len(d.held))
					return err
				}
				d.refusals++
				break
			}
		}
		st.saw("%d objects went in, then 507 disk_full", len(d.held))
		if len(d.held) < 4 {
			return fmt.Errorf("too few to go on: something else fills %s", d.dir)
		}
		return nil
	})
}

// isFull wants a refusal that says that the disk is full.
func isFull(err error) error {
	if err := refused(err, http.StatusInsufficientStorage, "disk_full"); err != nil {
		return err
	}
	var p *client.Error
	if errors.As(err, &p) && (p.Retryable || p.RetryAfter != 0) {
		return fmt.Errorf("the refusal says that trying again may help: %w", err)
	}
	return nil
}

func (d *fullDisk) refuse(ctx context.Context) error {
	return d.step(ctx, "put 20 more of 1 MiB", fmt.Sprintf("each 507 within %s; rejected_total{reason=\"disk\"} counts every one", refusalWithin), func(ctx context.Context, st *Step) error {
		var slowest time.Duration
		for range probes {
			o := newObject(fillBytes)
			var err error
			slowest = max(slowest, took(func() { err = d.put(ctx, o) }))
			if err := isFull(err); err != nil {
				return err
			}
			d.refusals++
		}
		counted, err := d.metric(ctx, "rejected_total", `reason="disk"`)
		if err != nil {
			return err
		}
		st.count("slowest_ms", ms(slowest))
		st.count("rejected_total", counted)
		st.saw("the slowest took %s; %v counted of %d", slowest.Round(time.Microsecond), counted, d.refusals)
		if slowest > refusalWithin {
			return fmt.Errorf("a refusal took longer than %s", refusalWithin)
		}
		if int(counted) != d.refusals {
			return fmt.Errorf("%d were refused", d.refusals)
		}
		return nil
	})
}

func (d *fullDisk) read(ctx context.Context) error {
	return d.step(ctx, "read everything back, list it, ask for the usage", "every byte right, list and usage exact", func(ctx context.Context, st *Step) error {
		begun := time.Now()
		if err := d.holds(ctx, d.held); err != nil {
			return err
		}
		st.count("objects", float64(len(d.held)))
		st.saw("%d objects are right, in %s", len(d.held), time.Since(begun).Round(time.Millisecond))
		return nil
	})
}

func (d *fullDisk) probe(ctx context.Context) error {
	return d.step(ctx, "ask /healthz, /readyz and /version", "200 from /healthz and /version; /readyz is ready, or names what is not", func(ctx context.Context, st *Step) error {
		for _, path := range []string{"/healthz", "/version"} {
			if _, err := d.tenant.Text(ctx, path, 1<<20); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		r, err := d.tenant.Ready(ctx)
		if err != nil {
			return err
		}
		st.saw("alive, ready: %v", r.Ready)
		if !r.Ready && len(r.Missing) == 0 {
			return fmt.Errorf("/readyz says no, and not why")
		}
		if !r.Ready {
			st.saw("alive, not ready: %s", strings.Join(r.Missing, ", "))
		}
		return nil
	})
}

func (d *fullDisk) free(ctx context.Context) error {
	return d.step(ctx, "delete every second object while the disk is full", "every delete succeeds, and the object is gone", func(ctx context.Context, st *Step) error {
		var keep []object
		var slowest time.Duration
		gone := 0
		for i, o := range d.held {
			if i%2 == 1 {
				keep = append(keep, o)
				continue
			}
			var err error
			slowest = max(slowest, took(func() { err = d.tenant.Delete(ctx, o.addr) }))
			if err != nil {
				return err
			}
			gone++
			if _, err := d.get(ctx, o, ""); refused(err, http.StatusNotFound, "not_found") != nil {
				return fmt.Errorf("%s can be read after its delete: %w", o.addr, refused(err, http.StatusNotFound, "not_found"))
			}
		}
		d.held = keep
		st.count("deleted", float64(gone))
		st.count("slowest_ms", ms(slowest))
		st.saw("%d are gone, the slowest took %s", gone, slowest.Round(time.Microsecond))
		return nil
	})
}

func (d *fullDisk) recover(ctx context.Context) error {
	return d.step(ctx, "put again, without touching the node", fmt.Sprintf("taken within %s", recoverWithin), func(ctx context.Context, st *Step) error {
		o := newObject(fillBytes)
		begun, tries := time.Now(), 0
		err := d.await(ctx, recoverWithin, func() error {
			tries++
			return d.put(ctx, o)
		})
		if err != nil {
			return err
		}
		d.held = append(d.held, o)
		st.count("recovery_ms", ms(time.Since(begun)))
		st.saw("taken after %s, at try %d", time.Since(begun).Round(time.Millisecond), tries)
		return nil
	})
}

func (d *fullDisk) check(ctx context.Context) error {
	return d.step(ctx, "read everything, list it, ask for the usage once more", "nothing is lost, nothing deleted is back, usage exact", func(ctx context.Context, st *Step) error {
		if err := d.holds(ctx, d.held); err != nil {
			return err
		}
		st.count("objects", float64(len(d.held)))
		st.saw("%d objects are right", len(d.held))
		return nil
	})
}
