// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/policy/mark"
)

var ctx = context.Background()

// memDir is a data directory in memory with a keystore in it.
func memDir(t rapid.TB) Dir {
	t.Helper()
	d := Dir{FS: disk.Crashable(), Path: "/d"}
	if err := d.FS.MkdirAllSync(d.Path); err != nil {
		t.Fatal(err)
	}
	if err := keystore.WriteKeyFile(d.FS, d.At(RootKeyName)); err != nil {
		t.Fatal(err)
	}
	if err := keystore.Create(d.FS, d.At(KeystoreDir), keystore.Root{Kind: keystore.KeyFile, Path: d.At(RootKeyName)}); err != nil {
		t.Fatal(err)
	}
	return d
}

func openKeystore(t rapid.TB, d Dir) *kms.Store {
	t.Helper()
	s, err := d.OpenKeystore(config.DefaultKMSRoot, kms.Options{Log: slog.New(slog.DiscardHandler)}, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pinned is a policy and a config bundle that pins it, both valid.
type pinned struct {
	set *policy.Set
	l   *config.Loaded
}

// family is every valid bundle of some versions: of each two contents, and each
// follows the first content of the version before, or of the one before that.
func family(t testing.TB, versions int64) []pinned {
	t.Helper()
	var out []pinned
	first := map[int64]string{}
	for v := int64(1); v <= versions; v++ {
		for content := range 2 {
			for back := int64(1); back <= 2; back++ {
				text := fmt.Sprintf("permit (principal, action, resource) when { context.bytes == %d };\n", v*10+int64(content)*2+back)
				payload, _, err := policy.Build(policy.Sources{"a.cedar": []byte(text)}, policy.Meta{Version: v, Issued: time.Unix(0, 0), Previous: first[v-back]})
				if err != nil {
					t.Fatal(err)
				}
				set, err := policy.Load(payload)
				if err != nil {
					t.Fatal(err)
				}
				if first[v] == "" {
					first[v] = set.Hash()
				}
				pin, err := bundle.ParseDigest(set.Hash())
				if err != nil {
					t.Fatal(err)
				}
				l := &config.Loaded{Version: uint64(len(out) + 1), Hash: pin}
				l.Config.Policy.BundleHash = pin
				out = append(out, pinned{set, l})
			}
		}
	}
	return out
}

// witness is a mark kept elsewhere.
type witness struct{ m mark.Mark }

func (w *witness) Name() string             { return "the witness" }
func (w *witness) Mark() (mark.Mark, error) { return w.m, nil }

// apply is what a node does with a policy at a reload and at a start.
func (p pinned) apply(keys *kms.Store, allow string, more ...mark.Source) error {
	dir := NewPolicyMark(keys)
	step, err := JudgePolicy(p.set, p.l, config.Applied{}, allow, append(more, dir)...)
	if err != nil {
		return err
	}
	return dir.Set(ctx, step.Next)
}

// TestPolicyNeverGoesBack offers a node every valid bundle in any order, over
// reloads, restarts, power losses and restores of older directories: the version
// in force never goes down and never forks.
func TestPolicyNeverGoesBack(t *testing.T) {
	all := family(t, 6)
	rapid.Check(t, func(t *rapid.T) {
		d := memDir(t)
		keys := openKeystore(t, d)
		defer func() { _ = keys.Close() }()
		seen := &witness{} // a checkpoint that another party keeps
		first, err := mark.Mark{}.Advance(mark.Bundle{Version: 1, Hash: all[0].set.Hash()}, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := NewPolicyMark(keys).Set(ctx, first); err != nil {
			t.Fatal(err)
		}
		seen.m = first
		force := all[0]
		snapshot := d.FS.Crash(0, 1)
		reopen := func(f *disk.FS) {
			_ = keys.Close()
			d.FS = f
			keys = openKeystore(t, d)
			// The restart: what the config pins is judged again.
			if err := force.apply(keys, "", seen); err != nil {
				t.Fatalf("the policy in force, version %d, is refused at a restart: %v", force.set.Version(), err)
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				reopen(d.FS.Crash(rapid.IntRange(0, 100).Draw(t, "unsynced"), rapid.Uint64().Draw(t, "seed")))
			case 1:
				snapshot = d.FS.Crash(0, 1)
			case 2:
				reopen(snapshot.Crash(100, 1))
			default:
				p := rapid.SampledFrom(all).Draw(t, "bundle")
				was, v := force.set, p.set.Version()
				err := p.apply(keys, "", seen)
				switch {
				case err == nil && v < was.Version():
					t.Fatalf("from version %d down to %d", was.Version(), v)
				case err == nil && v == was.Version() && p.set.Hash() != was.Hash():
					t.Fatalf("version %d forked", v)
				case err != nil && ExitCode(err) != macronode.ExitTrust:
					t.Fatalf("exit code %d: %v", ExitCode(err), err)
				case err != nil && p.set.Hash() == was.Hash():
					t.Fatalf("what is in force is refused: %v", err)
				case err == nil:
					force = p
					if seen.m, err = NewPolicyMark(keys).Mark(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

// TestPolicyMarkCrash loses power at every write of a step to a new policy: the
// mark is the old one or the new, and the new policy can be applied again.
func TestPolicyMarkCrash(t *testing.T) {
	all := family(t, 2)
	one, two := all[0], all[4]
	seen := map[int64]int{}
	for step := 0; ; step++ {
		d := memDir(t)
		keys := openKeystore(t, d)
		first, err := mark.Mark{}.Advance(mark.Bundle{Version: 1, Hash: one.set.Hash()}, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := NewPolicyMark(keys).Set(ctx, first); err != nil {
			t.Fatal(err)
		}
		_ = keys.Close()
		n, failed := -1<<30, false
		base := d.FS
		faulty := Dir{Path: d.Path, FS: base.WithFaults(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			if n++; n > step {
				failed = true
				return errors.New("power is gone")
			}
			return nil
		})}
		keys = openKeystore(t, faulty)
		n = 0
		acked := two.apply(keys, "") == nil
		if acked {
			acked = faulty.SetApplied(two.l.Applied()) == nil
		}
		for _, unsynced := range []int{0, 50, 100} {
			after := Dir{Path: d.Path, FS: base.Crash(unsynced, uint64(step))}
			again := openKeystore(t, after)
			m, err := NewPolicyMark(again).Mark()
			if err != nil || (m.Version != 1 && m.Version != 2) {
				t.Fatalf("step %d, %d%%: %+v %v", step, unsynced, m, err)
			}
			applied, err := after.Applied()
			if err != nil {
				t.Fatal(err)
			}
			if !applied.IsZero() && m.Version != 2 {
				t.Fatalf("step %d, %d%%: the config counts as applied, its policy is not marked", step, unsynced)
			}
			if acked && m.Version != 2 {
				t.Fatalf("step %d, %d%%: version 2 was in force and is forgotten", step, unsynced)
			}
			if m.Version == 2 && one.apply(again, "") == nil {
				t.Fatalf("step %d, %d%%: back to version 1", step, unsynced)
			}
			if err := two.apply(again, ""); err != nil {
				t.Fatalf("step %d, %d%%: version 2 cannot be applied again: %v", step, unsynced, err)
			}
			seen[m.Version]++
			_ = again.Close()
		}
		_ = keys.Close()
		if !failed {
			break
		}
	}
	if seen[1] == 0 || seen[2] == 0 {
		t.Errorf("the steps do not bite: %v", seen)
	}
}

// TestPolicyMarkByHand: the mark's record cannot be taken away or put back.
func TestPolicyMarkByHand(t *testing.T) {
	all := family(t, 3)
	d := memDir(t)
	keys := openKeystore(t, d)
	first, err := mark.Mark{}.Advance(mark.Bundle{Version: 1, Hash: all[0].set.Hash()}, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := NewPolicyMark(keys).Set(ctx, first); err != nil {
		t.Fatal(err)
	}
	if err := all[4].apply(keys, ""); err != nil {
		t.Fatal(err)
	}
	_ = keys.Close()
	names, err := d.FS.List(d.At(KeystoreDir))
	if err != nil {
		t.Fatal(err)
	}
	removed := 0
	for _, name := range names {
		if len(name) > 20 && name[:len("obj+policy-mark@v2")] == "obj+policy-mark@v2" {
			removed++
			if err := d.FS.RemoveSync(d.FS.PathJoin(d.At(KeystoreDir), name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if removed != 1 {
		t.Fatalf("%d records of the mark in %v", removed, names)
	}
	keys = openKeystore(t, d)
	defer keys.Close()
	for i, p := range all {
		if err := p.apply(keys, ""); ExitCode(err) != macronode.ExitTrust {
			t.Errorf("bundle %d without the mark: %v", i, err)
		}
		// A mark that is gone is not one that never was.
		if _, err := JudgePolicy(p.set, p.l, p.l.Applied(), "", NewPolicyMark(keys)); ExitCode(err) != macronode.ExitTrust {
			t.Errorf("bundle %d, applied last, without the mark: %v", i, err)
		}
	}
	allow := all[4].l.Applied().String()
	if err := all[0].apply(keys, allow); err == nil {
		t.Error("another bundle than the one allowed")
	}
	if err := all[4].apply(keys, allow); err != nil {
		t.Errorf("the one that is allowed: %v", err)
	}
	if err := all[4].apply(keys, ""); err != nil {
		t.Errorf("and from then on: %v", err)
	}
}

// TestPolicyWithoutMark: an empty directory takes nothing without leave; one from
// before there were marks goes on with what it applied last.
func TestPolicyWithoutMark(t *testing.T) {
	all := family(t, 2)
	p, other := all[4], all[0]
	d := memDir(t)
	keys := openKeystore(t, d)
	defer keys.Close()
	if _, err := JudgePolicy(p.set, p.l, config.Applied{}, "", NewPolicyMark(keys)); ExitCode(err) != macronode.ExitTrust || !errors.Is(err, mark.ErrUnmarked) {
		t.Errorf("an empty directory: %v", err)
	}
	if step, err := JudgePolicy(p.set, p.l, config.Applied{}, p.l.Applied().String(), NewPolicyMark(keys)); err != nil || !step.RolledBack || step.Next.Version != 2 {
		t.Errorf("with leave: %+v %v", step, err)
	}
	if _, err := JudgePolicy(p.set, p.l, other.l.Applied(), "", NewPolicyMark(keys)); err == nil {
		t.Error("another config than the one applied last")
	}
	if step, err := JudgePolicy(p.set, p.l, p.l.Applied(), "", NewPolicyMark(keys)); err != nil || step.RolledBack || step.Next.Version != 2 {
		t.Errorf("what was applied last: %+v %v", step, err)
	}
}
