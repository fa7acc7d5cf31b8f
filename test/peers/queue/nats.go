// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/queue"
	"github.com/rustyonions/macronode/test/bench/report"
)

// inFlight is how many publishes NATS' asynchronous client has open.
const inFlight = 512

// jet opens a connection and makes the stream.
func jet(ctx context.Context, s *queue.Server) (*nats.Conn, jetstream.JetStream, error) {
	c, err := nats.Connect("nats://" + s.Addr)
	if err != nil {
		return nil, nil, s.Failed(err)
	}
	js, err := jetstream.New(c, jetstream.WithPublishAsyncMaxPending(inFlight))
	if err == nil {
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "bench", Subjects: []string{"bench"}, Storage: jetstream.FileStorage})
	}
	if err != nil {
		c.Close()
		return nil, nil, s.Failed(err)
	}
	return c, js, nil
}

// held checks that what was acknowledged is there.
func held(ctx context.Context, s *queue.Server, js jetstream.JetStream, sent float64) error {
	stream, err := js.Stream(ctx, "bench")
	if err != nil {
		return s.Failed(err)
	}
	info, err := stream.Info(ctx)
	if err == nil && float64(info.State.Msgs) < sent {
		err = fmt.Errorf("%.0f messages were acknowledged, %d are there", sent, info.State.Msgs)
	}
	return err
}

// publish has workers on one connection publish and wait for the answer.
func publish(ctx context.Context, b *queue.Bench, s *queue.Server, workers int) (report.Result, error) {
	c, js, err := jet(ctx, s)
	if err != nil {
		return report.Result{}, err
	}
	defer c.Close()
	bodies := make([][]byte, workers)
	for w := range bodies {
		bodies[w] = queue.Payload()
	}
	r, err := drive.Run(ctx, workers, b.Span, func(ctx context.Context, w, call int) error {
		queue.Number(bodies[w], uint64(w)<<32|uint64(call))
		_, err := js.Publish(ctx, "bench", bodies[w])
		return err
	})
	if err != nil {
		return r, s.Failed(err)
	}
	return r, held(ctx, s, js, r.Rate*b.Span.Seconds())
}

// publishAsync publishes without waiting for each answer. It looks at the time of
// one publish in a hundred, which costs the client next to nothing.
func publishAsync(ctx context.Context, b *queue.Bench, s *queue.Server) (report.Result, error) {
	c, js, err := jet(ctx, s)
	if err != nil {
		return report.Result{}, err
	}
	defer c.Close()
	type sent struct {
		at time.Time
		f  jetstream.PubAckFuture
	}
	watched := make(chan sent, 2*inFlight)
	var took []time.Duration
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for o := range watched {
			select {
			case <-o.f.Ok():
				took = append(took, time.Since(o.at))
			case err := <-o.f.Err():
				failed = errors.Join(failed, err)
			}
		}
	}()
	body := queue.Payload() // what is published was copied
	begun := time.Now()
	n := uint64(0)
	for ; err == nil && time.Since(begun) < b.Span && ctx.Err() == nil; n++ {
		queue.Number(body, n)
		at := time.Now()
		var f jetstream.PubAckFuture
		if f, err = js.PublishAsync("bench", body); err == nil && n%100 == 0 {
			watched <- sent{at, f}
		}
	}
	close(watched)
	<-done
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
	case <-time.After(time.Minute):
		failed = errors.Join(failed, errors.New("nats: publishes without an answer"))
	}
	span := time.Since(begun)
	if err := errors.Join(err, failed, ctx.Err()); err != nil {
		return report.Result{}, s.Failed(err)
	}
	r := drive.Of(took, span)
	r.Rate = float64(n) / span.Seconds()
	return r, held(ctx, s, js, float64(n)) // one that failed is not there
}
