// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package names

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/rustyonions/macronode/client"
)

const (
	// quiet is how long a stream may say nothing; a node says every 15 s at least that
	// it lives.
	quiet = time.Minute
	// maxEvent bounds one event.
	maxEvent = 1 << 20
	// pauseFirst and pauseMost bound the wait before a stream is made anew.
	pauseFirst, pauseMost = 50 * time.Millisecond, 10 * time.Second
)

// Event is what a watch tells.
type Event struct {
	// Kind is "set" or "delete", of the Name; or "reset": so much changed while the
	// watch was away that it is not told one by one. List the names again then.
	Kind   string `json:"event"`
	Cursor string `json:"cursor"` // a watch from here goes on behind this event
	Name   Name   `json:"name,omitzero"`
}

// Watch follows changes of names. It is for one goroutine.
type Watch struct {
	c      *client.Client
	prefix string
	cursor string
	ctx    context.Context // of the watch
	stop   context.CancelFunc
	resp   *http.Response // nil: no stream is open
	scan   *bufio.Scanner
	alive  *time.Timer
	end    context.CancelFunc
	failed int // in a row
	met    bool
}

// Follow begins to watch the names that begin with prefix, behind a cursor ("": from
// now on), until ctx ends or the watch is closed. Nothing is asked before Next.
func Follow(ctx context.Context, c *client.Client, prefix, cursor string) *Watch {
	w := &Watch{c: c, prefix: prefix, cursor: cursor}
	w.ctx, w.stop = context.WithCancel(ctx)
	return w
}

// Cursor is where the watch is; "" before its first stream began.
func (w *Watch) Cursor() string { return w.cursor }

// Close ends the watch, also while a Next waits.
func (w *Watch) Close() { w.stop() }

// Next waits for the next event. Where the stream breaks it is made anew, behind what
// came last. Its error is the context's, or a refusal that waiting does not mend.
func (w *Watch) Next() (Event, error) {
	for {
		e, err := w.next()
		if err == nil {
			w.failed, w.met = 0, true
			if e.Kind != "" {
				return e, nil
			}
			continue
		}
		w.drop()
		if w.ctx.Err() != nil {
			return Event{}, w.ctx.Err()
		}
		refused, ok := errors.AsType[*client.Error](err)
		if ok && (refused.Status/100 == 4 && refused.Status != http.StatusTooManyRequests || !w.met) {
			return Event{}, err
		}
		most := min(pauseFirst<<min(w.failed, 16), pauseMost)
		w.failed++
		t := time.NewTimer(most/10 + rand.N(most))
		select {
		case <-t.C:
		case <-w.ctx.Done():
		}
		t.Stop()
	}
}

func (w *Watch) drop() {
	if w.resp == nil {
		return
	}
	w.alive.Stop()
	w.end()
	w.resp.Body.Close()
	w.resp = nil
}

func (w *Watch) open() error {
	ctx, end := context.WithCancel(w.ctx)
	resp, err := w.c.Do(ctx, client.Request{Method: "GET", Path: page("/v1/naming/watch", 0, "prefix", w.prefix, "cursor", w.cursor), Header: http.Header{"Accept": {"text/event-stream"}}})
	if err != nil {
		end()
		return err
	}
	w.resp, w.end, w.alive = resp, end, time.AfterFunc(quiet, end)
	w.scan = bufio.NewScanner(resp.Body)
	w.scan.Buffer(make([]byte, 0, 4096), maxEvent)
	return nil
}

// next reads one event; one without a kind is a sign of life.
func (w *Watch) next() (e Event, err error) {
	if w.resp == nil {
		if err := w.open(); err != nil {
			return e, err
		}
	}
	kind, data := "", ""
	for w.scan.Scan() {
		w.alive.Reset(quiet)
		line := w.scan.Text()
		if line == "" {
			return w.event(kind, data)
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			w.cursor = value
		case "event":
			kind = value
		case "data":
			data += value
		}
	}
	if err := w.scan.Err(); err != nil {
		return e, err
	}
	return e, io.ErrUnexpectedEOF
}

func (w *Watch) event(kind, data string) (e Event, err error) {
	switch kind {
	case "set", "delete":
		if err := json.Unmarshal([]byte(data), &e.Name); err != nil {
			return e, fmt.Errorf("an event cannot be read: %w", err)
		}
	case "reset":
	default:
		return e, nil // start, or one of a later version
	}
	e.Kind, e.Cursor = kind, w.cursor
	return e, nil
}
