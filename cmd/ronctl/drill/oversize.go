// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rustyonions/macronode/client"
)

var oversize = Drill{
	Name:    "oversize",
	Shows:   "what is too large is refused before anybody asks who sent it, and before it is sent",
	NotLive: "it asserts on counts that others would disturb",
	play:    func(ctx context.Context, s *scene) error { return (&large{scene: s}).play(ctx) },
}

// oversizeAnswer bounds the wait for an answer to a body that is never sent.
const oversizeAnswer = 5 * time.Second

type large struct{ *scene }

func (d *large) play(ctx context.Context) error {
	for _, do := range []func(context.Context) error{d.begin, d.announced, d.streamed, d.check} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *large) begin(ctx context.Context) error {
	return d.step(ctx, "start a node", "it becomes ready", func(ctx context.Context, st *Step) error {
		st.saw("ready")
		return d.startDev(ctx)
	})
}

// head sends a request's head and nothing more, and returns the answer's status.
func (s *scene) head(ctx context.Context, lines ...string) (int, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.host)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(oversizeAnswer)); err != nil {
		return 0, err
	}
	// What is refused early may be answered, and closed, before it was written.
	io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func (d *large) announced(ctx context.Context) error {
	return d.step(ctx, "announce bodies and headers that are too large, without a capability", "413 each (431 for the header), not 401, at once and without the body", func(ctx context.Context, st *Step) error {
		var slowest time.Duration
		for _, c := range []struct {
			want  int
			lines []string
		}{
			{413, []string{"POST /o HTTP/1.1", "Host: x", "Content-Length: 6442450944"}},
			{413, []string{"POST /v1/tenants HTTP/1.1", "Host: x", "Content-Length: 104857600"}},
			{413, []string{"GET /v1/objects HTTP/1.1", "Host: x", "Content-Length: 1"}},
			{413, []string{"POST /v1/admin/drain HTTP/1.1", "Host: x", "Content-Length: 1048576"}},
			{431, []string{"GET /v1/objects HTTP/1.1", "Host: x", "X-Large: " + strings.Repeat("x", 1<<20)}},
			{401, []string{"GET /v1/objects HTTP/1.1", "Host: x"}}, // so a capability is what it takes
		} {
			begun := time.Now()
			got, err := d.head(ctx, c.lines...)
			slowest = max(slowest, time.Since(begun))
			if err != nil || got != c.want {
				return fmt.Errorf("%s, %.20s: %d %v, want %d", c.lines[0], c.lines[len(c.lines)-1], got, err, c.want)
			}
		}
		st.count("slowest_ms", ms(slowest))
		st.saw("refused as they should, the slowest after %s", slowest.Round(time.Microsecond))
		return nil
	})
}

// endlessBody is a body that does not say how long it is.
type endlessBody struct{ left int }

func (b *endlessBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), b.left)
	clear(p[:n])
	b.left -= n
	return n, nil
}

func (d *large) streamed(ctx context.Context) error {
	return d.step(ctx, "stream a body of unknown length to a route that takes 4 KiB", "413 too_large", func(ctx context.Context, st *Step) error {
		_, err := d.operator.Do(ctx, client.Request{Method: "POST", Path: "/v1/admin/undrain", Body: &endlessBody{64 << 10}, Length: -1})
		if err := refused(err, http.StatusRequestEntityTooLarge, "too_large"); err != nil {
			return err
		}
		st.saw("413 too_large")
		return nil
	})
}

func (d *large) check(ctx context.Context) error {
	return d.step(ctx, "look at the counts, put and get what fits", "every refusal is counted as oversize; the rest works", func(ctx context.Context, st *Step) error {
		counted, err := d.metric(ctx, "rejected_total", `reason="oversize"`)
		if err != nil {
			return err
		}
		st.count("rejected_total", counted)
		if counted < 5 {
			return fmt.Errorf("%v are counted", counted)
		}
		o := newObject(1 << 20)
		if err := errors.Join(d.put(ctx, o), d.right(ctx, o)); err != nil {
			return err
		}
		st.saw("%v counted; an object went in and out", counted)
		return d.holds(ctx, []object{o})
	})
}
