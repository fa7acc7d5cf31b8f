// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// recordBytes is what an entry of the peer's has.
const recordBytes = 300

// peer is Tessera over files.
type peer struct {
	add  func(ctx context.Context, entry []byte) error
	stop func() error
}

// startPeer opens a log of Tessera's with this batching.
func startPeer(ctx context.Context, dir string, size uint, age time.Duration) (*peer, error) {
	secret, _, err := note.GenerateKey(rand.Reader, "peer.example/log")
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		end()
		return nil, err
	}
	opts := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithBatching(size, age).WithCheckpointInterval(time.Second)
	a, shut, _, err := tessera.NewAppender(ctx, driver, opts)
	if err != nil {
		end()
		return nil, err
	}
	return &peer{
		add: func(ctx context.Context, entry []byte) error {
			_, err := a.Add(ctx, tessera.NewEntry(entry))()
			return err
		},
		stop: func() error {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			defer end()
			return shut(stop)
		},
	}, nil
}

// entry is the i-th of a worker.
func entry(worker, i int) []byte {
	b := make([]byte, recordBytes)
	binary.BigEndian.PutUint64(b, uint64(worker)<<32|uint64(i)) //nolint:gosec // not negative
	return b
}
