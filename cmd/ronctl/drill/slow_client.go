// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

var slowClient = Drill{
	Name:    "slow-client",
	Shows:   "clients that send or read too slowly are cut at their time-out, and the others are served",
	NotLive: "it sets the node's time-outs to seconds",
	play:    func(ctx context.Context, s *scene) error { return (&slow{scene: s}).play(ctx) },
}

const (
	slowHeader = time.Second
	slowStall  = 2 * time.Second
	// slowGrace is how much later than its time-out a connection may be cut.
	slowGrace = 4 * time.Second
	slowEach  = 8 // connections of each kind
	slowBytes = 48 << 20
	slowMost  = time.Second // of the others' calls
)

type slow struct {
	*scene
	token string
	big   object
	small object
}

func (d *slow) play(ctx context.Context) error {
	for _, do := range []func(context.Context) error{d.begin, d.cut, d.check} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *slow) begin(ctx context.Context) error {
	return d.step(ctx, fmt.Sprintf("start a node with read_header_timeout %s and stall_timeout %s", slowHeader, slowStall), "it becomes ready", func(ctx context.Context, st *Step) error {
		if err := d.makeDir(""); err != nil {
			return err
		}
		err := d.startSigned(ctx, func(text string) string {
			return strings.Replace(text, "[server]\n", fmt.Sprintf("[server]\nread_header_timeout = %q\nstall_timeout = %q\n", slowHeader, slowStall), 1)
		})
		if err != nil {
			return err
		}
		d.big, d.small = newObject(slowBytes), newObject(1<<10)
		token, err := os.ReadFile(d.tenantCap)
		d.token = strings.TrimSpace(string(token))
		st.saw("ready")
		return errors.Join(err, d.put(ctx, d.big), d.put(ctx, d.small))
	})
}

// slowly opens a connection, sends this and then does nothing but wait for its end;
// reads says that it takes bytes before that. It returns how long that took.
func (d *slow) slowly(ctx context.Context, send string, wait time.Duration) (time.Duration, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.host)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	// A small window, so that the node notices a reader that does not read.
	if err := conn.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		return 0, err
	}
	begun := time.Now()
	if _, err := io.WriteString(conn, send); err != nil {
		return 0, err
	}
	if wait > 0 { // a reader that does not read, until it must have been cut
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if err := conn.SetDeadline(time.Now().Add(slowGrace + slowStall)); err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, conn)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return 0, errors.New("it is not cut")
	}
	if wait > 0 && n >= slowBytes {
		return 0, errors.New("it got everything after it had stood still")
	}
	return time.Since(begun), nil
}

func (d *slow) cut(ctx context.Context) error {
	expect := fmt.Sprintf("each is cut at its time-out; the others are served all the while, each within %s", slowMost)
	return d.step(ctx, fmt.Sprintf("%d connections each that stop in the header, in the body, and while reading", slowEach), expect, func(ctx context.Context, st *Step) error {
		auth := "Authorization: Bearer " + d.token + "\r\n"
		kinds := []struct {
			name, send string
			wait       time.Duration
			least      time.Duration
		}{
			{"header", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", 0, slowHeader},
			{"body", "POST /o HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 1000000\r\n\r\nsome", 0, slowStall},
			{"reader", "GET /o/" + d.big.addr.String() + " HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n", slowStall + slowGrace, slowStall},
		}
		took := make([]time.Duration, len(kinds)*slowEach)
		faults := make([]error, len(took))
		var wg sync.WaitGroup
		for i := range took {
			k := kinds[i%len(kinds)]
			wg.Go(func() {
				took[i], faults[i] = d.slowly(ctx, k.send, k.wait)
				switch {
				case faults[i] != nil:
					faults[i] = fmt.Errorf("%s: %w", k.name, faults[i])
				case k.wait == 0 && (took[i] < k.least-100*time.Millisecond || took[i] > k.least+slowGrace):
					faults[i] = fmt.Errorf("%s: cut after %s", k.name, took[i])
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		slowest, calls, other := d.others(ctx, done)
		<-done
		if err := errors.Join(append(faults, other)...); err != nil {
			return err
		}
		for i, k := range kinds {
			if k.wait == 0 {
				st.count("cut_"+k.name+"_ms", ms(took[i]))
			}
		}
		st.count("others_slowest_ms", ms(slowest))
		st.saw("%d connections were cut; the others made %d calls, the slowest took %s", len(took), calls, slowest.Round(time.Microsecond))
		if slowest > slowMost {
			return errors.New("the others felt it")
		}
		return nil
	})
}

// others calls as an ordinary client does until done.
func (d *slow) others(ctx context.Context, done <-chan struct{}) (slowest time.Duration, calls int, err error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		slowest = max(slowest, took(func() { err = d.right(ctx, d.small) }))
		if calls++; err != nil {
			return slowest, calls, err
		}
		select {
		case <-done:
			return slowest, calls, nil
		case <-tick.C:
		}
	}
}

func (d *slow) check(ctx context.Context) error {
	return d.step(ctx, "read everything, list it", "what was stored is right, and nothing of the broken uploads is there", func(ctx context.Context, st *Step) error {
		st.saw("2 objects are right")
		return d.holds(ctx, []object{d.big, d.small})
	})
}
