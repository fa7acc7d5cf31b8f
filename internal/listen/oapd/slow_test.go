// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode/oap"
)

// TestSlowPeers: who says nothing, sends a byte a second or never reads is waited
// for as long as the limits say, and holds up nobody else.
func TestSlowPeers(t *testing.T) {
	drip := func(k *client, b []byte) error {
		for i := range b {
			<-time.After(900 * time.Millisecond)
			if _, err := k.c.Write(b[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	hello, err := oap.NewHello(1, oap.Hello{UA: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("HELLO a byte a second", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, _, _ := newService(t, echo, nil)
			k := pipe(t, s, loopback)
			began := time.Now()
			dripped := make(chan error, 1)
			go func() { dripped <- drip(k, frameBytes(t, hello)) }()
			k.refused(k.next(), 0, 400, "malformed")
			k.end()
			if err := <-dripped; err == nil {
				t.Error("all of it was taken")
			}
			if d := time.Since(began); d > HelloTimeout+time.Second {
				t.Errorf("after %v", d)
			}
		})
	})
	t.Run("a call a byte a second", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, _, _ := newService(t, echo, nil)
			k, other := pipe(t, s, loopback), pipe(t, s, loopback)
			k.hello()
			other.hello()
			b := frameBytes(t, start(1, oap.END, append(head(t, oap.RequestHead{Length: 2}), "hi"...)))
			dripped := make(chan error, 1)
			go func() { dripped <- drip(k, b) }()
			for i := range uint64(20) {
				begun := time.Now()
				other.served(2*i+1, "quick")
				if time.Since(begun) > time.Second {
					t.Errorf("a call beside it took %v", time.Since(begun))
				}
				<-time.After(time.Second)
			}
			if f := k.answer(); f.Code != 200 {
				t.Errorf("%+v", f.Header)
			}
			if err := <-dripped; err != nil {
				t.Error(err)
			}
			k.end()
			other.end()
		})
	})
	t.Run("never writes", func(t *testing.T) {
		w := newWild(t, nil)
		began := time.Now()
		var silent []*client
		for range 20 {
			k := w.dial("tcp")
			k.t = t
			silent = append(silent, k)
		}
		half := silent[0] // says half of a HELLO, and no more
		half.raw(frameBytes(t, hello)[:20])
		for range 50 {
			w.undisturbed()
		}
		for _, k := range silent {
			if f := k.ended(); f == nil || f.Code != 400 {
				t.Fatalf("%+v, want one error frame 400", f)
			}
		}
		if d := time.Since(began); d < HelloTimeout {
			t.Errorf("ended after %v already", d)
		}
		w.settles(1)
		w.undisturbed()
	})
	t.Run("never reads", func(t *testing.T) {
		w := newWild(t, func(c *Config) { c.Limits.StallTimeout = 300 * time.Millisecond })
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range 4 {
			k := w.dial("tcp")
			k.hello()
			for i := range uint64(32) {
				k.send(start(2*i+1, oap.END, head(t, oap.RequestHead{Op: "thing.flood"})))
			}
		}
		for range 50 {
			w.undisturbed()
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		// 4 connections of 32 answers of 64 MiB; what is allowed is their windows.
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 48<<20 {
			t.Errorf("%d MiB are held", grown>>20)
		}
		for end := time.Now().Add(20 * time.Second); w.s.rejected(t, "stalled") == 0; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatal("no stream was given up")
			}
		}
		w.undisturbed()
	})
}
