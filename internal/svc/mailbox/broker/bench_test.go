// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store/seglog"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/snapfile"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// openReal starts a broker on the machine's disk.
func openReal(b *testing.B, dir string) (*Broker, Found, func()) {
	b.Helper()
	log, _, err := seglog.Open(seglog.Config{FS: disk.Real(), Dir: dir + "/log"})
	if err != nil {
		b.Fatal(err)
	}
	snaps, err := snapfile.Open(disk.Real(), dir+"/snap")
	if err != nil {
		b.Fatal(err)
	}
	broker, found, err := Open(Config{Log: log, Snapshots: snaps, Defaults: func() queue.Config {
		c := defaults()
		c.MaxDepth, c.MaxInFlight = 100_000_000, 100_000_000
		return c
	}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- broker.Serve(ctx) }()
	return broker, found, func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := log.Close(); err != nil {
			b.Error(err)
		}
	}
}

// cpu is the processor time that the process has used.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perMessage reports what a message took of the processors.
func perMessage(b *testing.B, before time.Duration, messages int) {
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1000/float64(messages), "cpu-µs/msg")
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkSend is 64 senders of one message of 1 KiB each a call, durable on the
// disk that TMPDIR is on.
func BenchmarkSend(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run("batch="+strconv.Itoa(batch), func(b *testing.B) {
			broker, _, stop := openReal(b, b.TempDir())
			defer stop()
			b.SetParallelism(64 / runtime.GOMAXPROCS(0))
			b.ReportAllocs()
			before := cpu()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				messages := make([]Message, batch)
				for i := range messages {
					messages[i].Payload = make([]byte, 1024)
				}
				for pb.Next() {
					if _, err := broker.Send(context.Background(), orders, messages); err != nil {
						b.Error(err)
						return
					}
				}
			})
			perMessage(b, before, b.N*batch)
		})
	}
}

// BenchmarkReceiveAck receives and acknowledges 100 messages of 1 KiB a call, by 8
// receivers at once.
func BenchmarkReceiveAck(b *testing.B) {
	broker, _, stop := openReal(b, b.TempDir())
	defer stop()
	fill(b, broker, b.N*100)
	b.SetParallelism(8 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	before := cpu()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			got, err := broker.Receive(context.Background(), orders, Want{Max: 100})
			if err != nil || len(got) != 100 {
				b.Errorf("%d messages, %v", len(got), err)
				return
			}
			if _, err := broker.Ack(context.Background(), orders, receipts(got)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	perMessage(b, before, b.N*100)
}

func fill(b *testing.B, broker *Broker, n int) {
	b.Helper()
	batch := make([]Message, 1000)
	for i := range batch {
		batch[i].Payload = make([]byte, 1024)
	}
	for ; n > 0; n -= len(batch) {
		if _, err := broker.Send(context.Background(), orders, batch[:min(n, len(batch))]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTenMillion is how long a start takes, and how much memory the process has
// then, with as many messages queued as MACRONODE_BENCH_QUEUED says. Payloads are
// of 16 bytes: they stay on the disk, and that of this machine is not the question.
func BenchmarkTenMillion(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("MACRONODE_BENCH_QUEUED"))
	if err != nil {
		b.Skip("MACRONODE_BENCH_QUEUED=10000000 runs it")
	}
	dir := b.TempDir()
	broker, _, stop := openReal(b, dir)
	batch := make([]Message, 1000)
	for i := range batch {
		batch[i].Payload = make([]byte, 16)
	}
	var left atomic.Int64
	left.Store(int64(n / len(batch)))
	for left.Add(-1) >= 0 {
		if _, err := broker.Send(context.Background(), orders, batch); err != nil {
			b.Fatal(err)
		}
	}
	stop()
	broker = nil
	debug.FreeOSMemory()
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		b.StartTimer()
		start := time.Now()
		broker, found, stop := openReal(b, dir)
		b.ReportMetric(time.Since(start).Seconds(), "start-s")
		if found.Messages != int64(n) {
			b.Fatalf("found %+v", found)
		}
		b.ReportMetric(rss(b), "rss-MiB")
		b.StopTimer()
		_, _ = broker.Receive(context.Background(), orders, Want{})
		stop()
		b.StartTimer()
	}
}

// rss is the memory that the process has, in MiB.
func rss(b *testing.B) float64 {
	debug.FreeOSMemory()
	data, err := disk.Real().ReadFile("/proc/self/statm", 1000)
	if err != nil {
		b.Fatal(err)
	}
	var pages int64
	for i, field := 0, 0; i < len(data) && field < 2; i++ {
		switch c := data[i]; {
		case c == ' ':
			field++
		case field == 1:
			pages = pages*10 + int64(c-'0')
		}
	}
	return float64(pages) * float64(os.Getpagesize()) / (1 << 20)
}
