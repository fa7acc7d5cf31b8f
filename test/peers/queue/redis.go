// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/queue"
	"github.com/rustyonions/macronode/test/bench/report"
)

func dialRedis(s *queue.Server, conns int) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr, PoolSize: conns, MinIdleConns: conns, DisableIdentity: true})
}

// xadd has workers add one message a call with go-redis.
func xadd(ctx context.Context, b *queue.Bench, s *queue.Server, workers int) (report.Result, error) {
	c := dialRedis(s, workers)
	defer func() { _ = c.Close() }()
	bodies := make([][]byte, workers)
	for w := range bodies {
		bodies[w] = queue.Payload()
	}
	r, err := drive.Run(ctx, workers, b.Span, func(ctx context.Context, w, call int) error {
		queue.Number(bodies[w], uint64(w)<<32|uint64(call))
		return c.XAdd(ctx, &redis.XAddArgs{Stream: "bench", Values: []any{"d", bodies[w]}}).Err()
	})
	if err != nil {
		return r, s.Failed(err)
	}
	return r, nil
}

// fill puts count messages into a stream that has a group.
func fill(ctx context.Context, s *queue.Server, count int) error {
	c := dialRedis(s, 1)
	defer func() { _ = c.Close() }()
	plain := queue.Payload()
	for at := 0; at < count; at += 1000 {
		p := c.Pipeline()
		for i := range 1000 {
			body := bytes.Clone(plain)
			queue.Number(body, uint64(at+i))
			p.XAdd(ctx, &redis.XAddArgs{Stream: "bench", Values: []any{"d", body}})
		}
		if _, err := p.Exec(ctx); err != nil {
			return s.Failed(err)
		}
	}
	if err := c.XGroupCreate(ctx, "bench", "g", "0").Err(); err != nil {
		return s.Failed(err)
	}
	return nil
}

// drain has one consumer of the group read a hundred at a time and acknowledge
// them in one command.
func drain(ctx context.Context, s *queue.Server, count int) (report.Result, error) {
	c := dialRedis(s, 1)
	defer func() { _ = c.Close() }()
	var took []time.Duration
	begun := time.Now()
	for got := 0; got < count; {
		at := time.Now()
		list, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{"bench", ">"}, Count: 100}).Result()
		if err != nil {
			return report.Result{}, s.Failed(err)
		}
		var ids []string
		for _, m := range list[0].Messages {
			if text, ok := m.Values["d"].(string); !ok || len(text) != queue.Bytes {
				return report.Result{}, fmt.Errorf("redis: message %s has another payload", m.ID)
			}
			ids = append(ids, m.ID)
		}
		n, err := c.XAck(ctx, "bench", "g", ids...).Result()
		if err != nil || n != int64(len(ids)) {
			return report.Result{}, fmt.Errorf("redis: XACK: %d of %d, %w", n, len(ids), err)
		}
		got += len(ids)
		took = append(took, time.Since(at))
	}
	span := time.Since(begun)
	r := drive.Of(took, span)
	r.Rate = float64(count) / span.Seconds()
	return r, nil
}
