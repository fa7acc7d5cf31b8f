// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package queue runs the mailbox and the servers that it is compared with, each in
// a process of its own and on an empty directory of its own, and loads those that
// need no client library. test/peers races them.
package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
)

// Bytes is the size of each message.
const Bytes = 1 << 10

// Bench is what all loads share.
type Bench struct {
	Bin   string // folder of macronode
	NATS  string // nats-server
	Redis string // redis-server
	Bench string // redis-benchmark
	Wrk   string
	Dir   string // scratch, on a real disk
	Span  time.Duration
	Procs children.Group
}

// Server is one of those that are compared.
type Server struct {
	*children.Proc
	Name, Version string
	Command       string // as shown in the report
	Addr          string // HOST:PORT
	Dir           string
}

// End ends a server, and removes what it wrote. What was removed is trimmed now,
// not in the next run.
func (s *Server) End() error {
	s.Kill()
	err := os.RemoveAll(s.Dir)
	syscall.Sync()
	return err
}

// scratch makes a directory for a server.
func (b *Bench) scratch(name string) (string, error) { return os.MkdirTemp(b.Dir, name+"-") }

// Payload is a message of printable bytes, which none of the servers can compress
// or has to escape.
func Payload() []byte {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	p := make([]byte, Bytes)
	_, _ = io.ReadFull(rand.NewChaCha8([32]byte{6}), p) // it does not fail
	for i := range p {
		p[i] = letters[p[i]%64]
	}
	return p
}

// Number writes n over the first 16 bytes of a payload, so that it is another.
func Number(p []byte, n uint64) { copy(p, fmt.Sprintf("%016x", n)) }

// poll asks until ok, the process's end, or a minute has passed.
func poll(ctx context.Context, p *children.Proc, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return p.Failed(errors.Join(errors.New("ended"), err))
		case <-ctx.Done():
			return p.Failed(errors.Join(ctx.Err(), err))
		case <-time.After(2 * time.Millisecond):
		}
	}
}
