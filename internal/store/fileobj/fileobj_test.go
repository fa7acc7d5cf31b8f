// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"bytes"
	"errors"
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj/pack"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

func TestObjects(t *testing.T) {
	for name, f := range map[string]func(t *testing.T) Config{
		"real":   func(t *testing.T) Config { return Config{FS: disk.Real(), Dir: t.TempDir() + "/objects"} },
		"memory": func(*testing.T) Config { return Config{FS: disk.Mem(), Dir: "/objects", OpenFiles: 2} },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Objects(t, func(t *testing.T) store.Objects {
				s, err := Open(f(t))
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

func TestReopen(t *testing.T) {
	fs := disk.Mem()
	storetest.ObjectsReopen(t, func(t *testing.T) store.Objects { return mustOpen(t, Config{FS: fs, Dir: "/objects"}) })
}

func openCrash(fs *disk.FS) (store.Objects, error) {
	return Open(Config{FS: fs, Dir: "/data/objects"})
}

// openPacks makes packs of a few objects.
func openPacks(fs *disk.FS) (store.Objects, error) {
	s, err := Open(Config{FS: fs, Dir: "/data/objects"})
	if err != nil {
		return nil, err // no Objects in the interface
	}
	s.packer.target = 100_000
	return s, nil
}

func leftOver(fs *disk.FS) ([]string, error) { return fs.List("/data/objects/" + tempDir) }

// leftPacks are also packs without a record.
func leftPacks(fs *disk.FS) ([]string, error) {
	left, err := leftOver(fs)
	if err != nil {
		return nil, err
	}
	names, err := fs.List("/data/objects/" + packsDir)
	for _, name := range names {
		b, rerr := fs.ReadFile("/data/objects/"+packsDir+"/"+name, 1<<30)
		id, _ := pack.ParseFile(name)
		n := 0
		err = errors.Join(err, rerr, pack.Scan(bytes.NewReader(b), id, int64(len(b)), func(pack.Found) { n++ }))
		if n == 0 {
			left = append(left, name)
		}
	}
	return left, err
}

func TestCrash(t *testing.T) { storetest.ObjectsCrash(t, openCrash, leftOver) }

// TestCrashPacks is TestCrash where packs come and go.
func TestCrashPacks(t *testing.T) { storetest.ObjectsCrash(t, openPacks, leftOver) }

func TestFaults(t *testing.T) { storetest.ObjectsFaults(t, openPacks, leftPacks) }

func TestKill(t *testing.T) {
	storetest.ObjectsKill(t, func(dir string) (store.Objects, error) {
		return Open(Config{FS: disk.Real(), Dir: dir + "/objects"})
	})
}
