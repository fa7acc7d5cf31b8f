// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
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

func openCrash(fs *disk.FS) (store.Objects, error) {
	return Open(Config{FS: fs, Dir: "/data/objects"})
}

func leftOver(fs *disk.FS) ([]string, error) { return fs.List("/data/objects/" + tempDir) }

func TestCrash(t *testing.T) { storetest.ObjectsCrash(t, openCrash, leftOver) }

func TestFaults(t *testing.T) { storetest.ObjectsFaults(t, openCrash, leftOver) }

func TestKill(t *testing.T) {
	storetest.ObjectsKill(t, func(dir string) (store.Objects, error) {
		return Open(Config{FS: disk.Real(), Dir: dir + "/objects"})
	})
}
