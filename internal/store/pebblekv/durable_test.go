// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// TestReadersWaitForDurability holds the log's fsync back: what a transaction
// wrote is visible then, and no reader returns with it.
func TestReadersWaitForDurability(t *testing.T) {
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	defer release()
	var holding atomic.Bool // once the database is open
	fs := disk.Mem().WithFaults(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if holding.Load() && strings.HasSuffix(op.Path, ".log") {
				<-held
			}
		}
		return nil
	})
	kv := mustOpen(t, Config{FS: fs, Dir: "/meta"})
	holding.Store(true)
	done := make(chan error, 1)
	go func() { done <- kv.Update(context.Background(), setOne("k", 10)) }()

	for name, read := range map[string]func(store.Reader) (bool, error){
		"get": func(r store.Reader) (bool, error) {
			_, err := r.Get([]byte("k"))
			return err == nil, nil
		},
		"scan": func(r store.Reader) (seen bool, err error) {
			err = r.Scan([]byte("a"), []byte("z"), func(_, _ []byte) bool { seen = true; return true })
			return seen, err
		},
		"scan down": func(r store.Reader) (seen bool, err error) {
			err = r.ScanDesc([]byte("a"), []byte("z"), func(_, _ []byte) bool { seen = true; return true })
			return seen, err
		},
	} {
		for deadline := time.Now().Add(20 * time.Second); ; {
			seen := false
			// A reader that waits is told that its caller has gone; one that does
			// not wait never notices.
			ctx, cancel := context.WithCancel(t.Context())
			err := kv.View(ctx, func(r store.Reader) (err error) {
				seen, err = read(r)
				cancel()
				return err
			})
			cancel()
			if seen && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: returned with what is not durable: %v", name, err)
			}
			if seen {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: the transaction never became visible", name)
			}
		}
	}
	select {
	case err := <-done:
		t.Fatalf("acknowledged before the fsync: %v", err)
	default:
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestFormatIsWritten: the file that says the format is there, durably, once a
// directory was opened.
func TestFormatIsWritten(t *testing.T) {
	fs := disk.Crashable()
	mustOpen(t, Config{FS: fs, Dir: "/meta"})
	if text, err := fs.Crash(0, 1).ReadFile("/meta/"+formatName, 64); err != nil || string(text) != formatPrefix+"1\n" {
		t.Errorf("%q, %v", text, err)
	}
}
