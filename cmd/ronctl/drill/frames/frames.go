// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package frames is the drill malformed-oap: what is no OAP/1, sent to a node.
package frames

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/oap"
)

// Node is the throw-away node that the drill plays with.
type Node interface {
	Start(context.Context) error
	OAP() string       // the address
	TenantCap() string // the capability's file
	Metric(ctx context.Context, name string, labels ...string) (float64, error)
	Await(ctx context.Context, within time.Duration, f func() error) error
	// Holds checks that the tenant has this object and no other.
	Holds(ctx context.Context, addr b3.Addr, data []byte) error
	Step(ctx context.Context, did, expect string, f func(context.Context, Step) error) error
}

// Step is what a step of the drill saw.
type Step interface {
	Count(name string, v float64)
	Saw(format string, args ...any)
}

// Play carries the drill out.
func Play(ctx context.Context, n Node) error { return (&frames{node: n}).play(ctx) }

const (
	// frameAnswer bounds the wait for an answer or the end of a connection.
	frameAnswer = 8 * time.Second
	// mutants is how many spoilt sessions are played, mutantsAtOnce of them at a time:
	// fewer forged capabilities than one address may show.
	mutants, mutantsAtOnce = 1500, 8
	// silent connections say nothing, or half of a HELLO.
	silent = 40
	// silentFor is how long a node may wait for HELLO, with some grace.
	silentFor = 7 * time.Second
	objectApp = 1
	// pollEvery is the pause between calls beside what goes wrong.
	pollEvery = 20 * time.Millisecond
)

type frames struct {
	node   Node
	token  *capability.Token
	addr   b3.Addr // of kept
	kept   []byte
	steady *line // beside all that goes wrong
	level  float64
}

func (d *frames) play(ctx context.Context) error {
	defer func() {
		if d.steady != nil {
			d.steady.c.Close()
		}
	}()
	for _, do := range []func(context.Context) error{d.begin, d.faults, d.streams, d.cut, d.quiet, d.spoilt, d.check} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// line is a connection, frame by frame.
type line struct {
	c       net.Conn
	in      *oap.Reader
	corr    uint64
	counted uint64
}

// call dials, without a HELLO.
func (d *frames) call(ctx context.Context) (*line, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.node.OAP())
	if err != nil {
		return nil, err
	}
	l := &line{c: c, in: oap.NewReader(c, 0)}
	return l, c.SetDeadline(time.Now().Add(frameAnswer))
}

// greeted dials and says HELLO.
func (d *frames) greeted(ctx context.Context) (*line, error) {
	l, err := d.call(ctx)
	if err != nil {
		return nil, err
	}
	f, err := oap.NewHello(1, oap.Hello{UA: "ronctl-drill"})
	if err == nil {
		err = l.send(f)
	}
	if err == nil {
		if f, err = l.in.Next(); err == nil && f.Code != 200 {
			err = fmt.Errorf("HELLO was answered with %d", f.Code)
		}
	}
	if err != nil {
		l.c.Close()
		return nil, err
	}
	return l, nil
}

func (l *line) send(list ...oap.Frame) error {
	var b []byte
	for i := range list {
		var err error
		if b, err = oap.Append(b, &list[i]); err != nil {
			return err
		}
	}
	_, err := l.c.Write(b)
	return err
}

// request is a whole call of the next stream.
func (d *frames) request(l *line, app uint16, token []byte, h oap.RequestHead, body []byte) (oap.Frame, error) {
	l.corr += 2
	payload, err := h.Append(nil)
	return oap.Open(&oap.Header{App: app, Corr: l.corr - 1}, oap.END, token, append(payload, body...)), err
}

// answer reads the answer of the last stream: its code, and body or problem.
func (l *line) answer() (code uint16, body []byte, err error) {
	for first := true; ; {
		f, err := l.in.Next()
		if err != nil {
			return 0, nil, err
		}
		if f.Flags&oap.EVENT != 0 {
			continue
		}
		if f.Corr != l.corr-1 {
			return 0, nil, fmt.Errorf("a frame of stream %d, expected %d", f.Corr, l.corr-1)
		}
		payload := f.Payload
		if f.Counted() {
			l.counted++
		}
		if first && !f.IsRefusal() {
			_, n, err := oap.ParseAnswerHead(payload)
			if err != nil {
				return 0, nil, err
			}
			payload, first = payload[n:], false
		}
		body = append(body, payload...)
		if f.Flags&oap.END != 0 {
			return f.Code, body, l.send(oap.Ack(0, l.counted))
		}
	}
}

// served reads the kept object over l.
func (d *frames) served(l *line) error {
	l.c.SetDeadline(time.Now().Add(frameAnswer))
	f, err := d.request(l, objectApp, d.token.CBOR(), d.getKept(), nil)
	if err == nil {
		err = l.send(f)
	}
	if err != nil {
		return err
	}
	code, body, err := l.answer()
	if err == nil && (code != 200 || !bytes.Equal(body, d.kept)) {
		err = fmt.Errorf("%d with %d bytes that are not the object's", code, len(body))
	}
	return err
}

func (d *frames) getKept() oap.RequestHead {
	return oap.RequestHead{Op: "object.get", Args: []macronode.Arg{{Name: "addr", Value: d.addr.String()}}, Length: oap.UnknownLength}
}

// ended reads to the connection's end and returns the code of the error frame that
// came last; 0: none came.
func (l *line) ended() (code uint16, err error) {
	defer l.c.Close()
	for {
		f, err := l.in.Next()
		if bad, ok := errors.AsType[*oap.Error](err); ok {
			return 0, fmt.Errorf("the node sent what is no frame: %w", bad)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, errors.New("the connection is left open")
		}
		if err != nil {
			return code, nil
		}
		if code = 0; f.IsRefusal() {
			code = f.Code
		}
	}
}

func (d *frames) begin(ctx context.Context) error {
	return d.node.Step(ctx, "start a node, store an object over OAP/1 and read it", "both are served, on a connection that stays", func(ctx context.Context, st Step) error {
		if err := d.node.Start(ctx); err != nil {
			return err
		}
		text, err := os.ReadFile(d.node.TenantCap())
		if err != nil {
			return err
		}
		if d.token, err = capability.Parse(strings.TrimSpace(string(text))); err != nil {
			return err
		}
		if d.steady, err = d.greeted(ctx); err != nil {
			return err
		}
		d.kept = make([]byte, 20_000)
		rand.NewChaCha8([32]byte{1}).Read(d.kept) // it does not fail
		d.addr = b3.Sum(d.kept)
		f, err := d.request(d.steady, objectApp, d.token.CBOR(), oap.RequestHead{Op: "object.post", Length: int64(len(d.kept))}, d.kept)
		if err == nil {
			err = d.steady.send(f)
		}
		if err != nil {
			return err
		}
		code, body, err := d.steady.answer()
		if err != nil || code != 201 || !strings.Contains(string(body), d.addr.String()) {
			return fmt.Errorf("stored with %d %v", code, err)
		}
		if d.level, err = d.node.Metric(ctx, "go_goroutines"); err != nil {
			return err
		}
		st.Saw("201, and read back")
		return d.served(d.steady)
	})
}

// fault is bytes that end a connection.
type fault struct {
	name   string
	b      []byte
	code   uint16
	reason string
}

// spoil is a valid call with a change; every change is a fault of the connection.
func (d *frames) spoil() ([]fault, error) {
	payload, err := (&oap.RequestHead{Op: "object.list", Length: oap.UnknownLength}).Append(nil)
	if err != nil {
		return nil, err
	}
	f := oap.Open(&oap.Header{App: objectApp, Corr: 1}, oap.END, d.token.CBOR(), payload)
	call, err := oap.Append(nil, &f)
	if err != nil {
		return nil, err
	}
	edit := func(change func(b []byte)) []byte { b := bytes.Clone(call); change(b); return b }
	length := func(n uint32) []byte {
		return edit(func(b []byte) { copy(b, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) })
	}
	one := func(f oap.Frame) []byte {
		b, bad := oap.Append(nil, &f)
		err = errors.Join(err, bad)
		return b
	}
	h := &oap.Header{App: objectApp, Corr: 1}
	bomb := oap.Open(h, oap.END|oap.COMP, nil, bomb(64<<20))
	list := []fault{
		{"len 0", length(0), 400, oap.ReasonLength},
		{"len 1", length(1), 400, oap.ReasonLength},
		{"len 37", length(37), 400, oap.ReasonLength},
		{"len 1 MiB + 1", length(1<<20 + 1), 413, oap.ReasonOversize},
		{"len 4 GiB - 1", length(1<<32 - 1), 413, oap.ReasonOversize},
		{"version 2", edit(func(b []byte) { b[5] = 2 }), 400, oap.ReasonVersion},
		{"a reserved flag", edit(func(b []byte) { b[6] = 1 }), 400, oap.ReasonFlags},
		{"REQ and RESP", edit(func(b []byte) { b[7] |= byte(oap.RESP) }), 400, oap.ReasonFlags},
		{"a capability without START", edit(func(b []byte) { b[7] &^= byte(oap.START) }), 400, oap.ReasonCap},
		{"a capability longer than the frame", edit(func(b []byte) { b[28] = 0xff }), 400, oap.ReasonLength},
		{"a compression bomb", one(bomb), 413, oap.ReasonComp},
		{"compressed bytes that are none", edit(func(b []byte) { b[7] |= byte(oap.COMP) }), 400, oap.ReasonPayload},
		{"the same call twice", append(bytes.Clone(call), call...), 400, "stream"},
		{"a stream of the node's numbers", edit(func(b []byte) { b[37] = 2 }), 400, "stream"},
		{"data of no stream", one(oap.Request(h, 0, []byte("x"))), 400, "stream"},
		{"an answer to nothing", one(oap.Answer(&oap.Header{Corr: 2}, 200, oap.END, nil)), 400, "stream"},
		{"an ACK ahead", one(oap.Ack(0, 1000)), 400, "window"},
	}
	return list, err
}

func (d *frames) faults(ctx context.Context) error {
	return d.node.Step(ctx, "send each kind of frame that is none, on a connection of its own", "one error frame with its code, counted by reason, the connection ends; the one beside is served",
		func(ctx context.Context, st Step) error {
			list, err := d.spoil()
			if err != nil {
				return err
			}
			want := make(map[string]int)
			for _, c := range list {
				l, err := d.greeted(ctx)
				if err != nil {
					return err
				}
				if _, err := l.c.Write(c.b); err != nil {
					return errors.Join(err, l.c.Close())
				}
				code, err := l.ended()
				if err != nil || code != c.code {
					return fmt.Errorf("%s: %d %v, expected %d", c.name, code, err, c.code)
				}
				if err := d.served(d.steady); err != nil {
					return fmt.Errorf("beside %s: %w", c.name, err)
				}
				want[c.reason]++
			}
			for reason, n := range want {
				counted, err := d.node.Metric(ctx, "oap_rejects_total", `reason="`+reason+`"`)
				if err != nil || int(counted) != n {
					return fmt.Errorf("%v are counted as %s, there were %d: %v", counted, reason, n, err)
				}
			}
			st.Count("faults", float64(len(list)))
			st.Saw("%d faults, each with its code and its count", len(list))
			return nil
		})
}

func (d *frames) streams(ctx context.Context) error {
	return d.node.Step(ctx, "ask for what there is not and what is not allowed, on one connection", "each refused on its stream; the connection goes on", func(ctx context.Context, st Step) error {
		l, err := d.greeted(ctx)
		if err != nil {
			return err
		}
		defer l.c.Close()
		get, cbor := d.getKept(), d.token.CBOR()
		forged := bytes.Clone(cbor)
		forged[len(forged)-1] ^= 1
		for _, c := range []struct {
			name   string
			app    uint16
			token  []byte
			tenant macronode.TenantID
			head   oap.RequestHead
			code   uint16
			kind   string
		}{
			{"an unknown app", 999, cbor, macronode.TenantID{}, get, 501, "unimplemented"},
			{"an unknown operation", objectApp, cbor, macronode.TenantID{}, oap.RequestHead{Op: "object.melt"}, 404, "not_found"},
			{"no capability", objectApp, nil, macronode.TenantID{}, get, 401, "unauthenticated"},
			{"a forged capability", objectApp, forged, macronode.TenantID{}, get, 401, "forged"},
			{"another tenant's name", objectApp, cbor, macronode.SystemTenant, get, 403, "tenant_mismatch"},
			{"a capability among the headers", objectApp, cbor, macronode.TenantID{}, oap.RequestHead{Op: "object.list", Headers: macronode.Header{"Authorization": {"Bearer x"}}}, 400, "malformed"},
		} {
			f, err := d.request(l, c.app, c.token, c.head, nil)
			if err != nil {
				return err
			}
			f.Tenant = c.tenant
			if err := l.send(f); err != nil {
				return err
			}
			code, doc, err := l.answer()
			var p macronode.Problem
			if err == nil {
				err = json.Unmarshal(doc, &p)
			}
			if err != nil || code != c.code || p.Code != c.kind {
				return fmt.Errorf("%s: %d %s %v, expected %d %s", c.name, code, p.Code, err, c.code, c.kind)
			}
		}
		st.Saw("501, 404, 401, 401, 403 and 400, and the connection is served")
		return d.served(l)
	})
}

// say dials, sends b, ends what it sends and waits for the connection's end.
func (d *frames) say(ctx context.Context, b []byte) (uint16, error) {
	l, err := d.call(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := l.c.Write(b); err == nil { // else the node has closed already
		l.c.(*net.TCPConn).CloseWrite()
	}
	return l.ended()
}

func (d *frames) cut(ctx context.Context) error {
	return d.node.Step(ctx, "break connections off at every byte of a session", "each ends; the one beside is served", func(ctx context.Context, st Step) error {
		b, err := d.valid()
		if err != nil {
			return err
		}
		for n := range b {
			if _, err := d.say(ctx, b[:n]); err != nil {
				return fmt.Errorf("at byte %d: %w", n, err)
			}
		}
		st.Count("bytes", float64(len(b)))
		st.Saw("%d connections, none is left open", len(b))
		return d.served(d.steady)
	})
}

// valid is a session that makes one call.
func (d *frames) valid() ([]byte, error) {
	hello, err := oap.NewHello(1, oap.Hello{UA: "ronctl-drill"})
	if err != nil {
		return nil, err
	}
	b, err := oap.Append(nil, &hello)
	if err != nil {
		return nil, err
	}
	f, err := d.request(&line{}, objectApp, d.token.CBOR(), d.getKept(), nil)
	if err != nil {
		return nil, err
	}
	f.Corr = 1
	return oap.Append(b, &f)
}

func (d *frames) quiet(ctx context.Context) error {
	return d.node.Step(ctx, fmt.Sprintf("open %d connections that say nothing, or half a HELLO", silent), fmt.Sprintf("each ends within %s; the one beside is served meanwhile", silentFor),
		func(ctx context.Context, st Step) error {
			b, err := d.valid()
			if err != nil {
				return err
			}
			begun := time.Now()
			ended := make(chan error, silent)
			for i := range silent {
				l, err := d.call(ctx)
				if err != nil {
					return err
				}
				defer l.c.Close()
				if _, err := l.c.Write(b[:i%2*20]); err != nil {
					return err
				}
				go func() { _, err := l.ended(); ended <- err }()
			}
			calls, slowest := 0, time.Duration(0)
			for left := silent; left > 0; {
				select {
				case err := <-ended:
					if left--; err != nil {
						return err
					}
				case <-time.After(pollEvery):
					var err error
					one := time.Now()
					err = d.served(d.steady)
					slowest = max(slowest, time.Since(one))
					if calls++; err != nil {
						return err
					}
				}
			}
			took := time.Since(begun)
			st.Count("all_ms", ms(took))
			st.Count("slowest_call_ms", ms(slowest))
			st.Saw("all ended after %s; %d calls beside them, the slowest took %s", took.Round(time.Millisecond), calls, slowest.Round(time.Microsecond))
			if took > silentFor {
				return errors.New("that is too long")
			}
			return nil
		})
}

// mutate changes b in one to four places, as the seed says.
func mutate(b []byte, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b = bytes.Clone(b)
	for range 1 + r.IntN(4) {
		at := r.IntN(len(b))
		end := min(len(b), at+1+r.IntN(30))
		switch r.IntN(4) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = byte(r.Uint32())
		case 2:
			b = append(b[:at], b[end:]...)
		case 3:
			b = append(b[:end:end], b[at:]...)
		}
		if len(b) == 0 {
			break
		}
	}
	return b
}

func (d *frames) spoilt(ctx context.Context) error {
	return d.node.Step(ctx, fmt.Sprintf("play %d sessions with some bytes changed", mutants), "each ends, answered in frames or not; the one beside is served", func(ctx context.Context, st Step) error {
		b, err := d.valid()
		if err != nil {
			return err
		}
		begun := time.Now()
		var next atomic.Uint64
		var wg sync.WaitGroup
		bad := make([]error, mutantsAtOnce)
		for i := range bad {
			wg.Go(func() {
				for seed := next.Add(1); seed <= mutants && bad[i] == nil && ctx.Err() == nil; seed = next.Add(1) {
					if _, err := d.say(ctx, mutate(b, seed)); err != nil {
						bad[i] = fmt.Errorf("seed %d: %w", seed, err)
					}
				}
			})
		}
		wg.Wait()
		if err := errors.Join(bad...); err != nil {
			return err
		}
		st.Count("all_ms", ms(time.Since(begun)))
		st.Saw("%d sessions in %s", mutants, time.Since(begun).Round(time.Millisecond))
		return d.served(d.steady)
	})
}

func (d *frames) check(ctx context.Context) error {
	return d.node.Step(ctx, "wait, list what there is, read it over both wires", "goroutines are back at their level; the object, and nothing else", func(ctx context.Context, st Step) error {
		const grace = 10 // the runtime's own, and a connection that carries this very question
		var now float64
		err := d.node.Await(ctx, frameAnswer, func() (err error) {
			if now, err = d.node.Metric(ctx, "go_goroutines"); err == nil && now > d.level+grace {
				err = fmt.Errorf("%v goroutines, there were %v", now, d.level)
			}
			return err
		})
		if err != nil {
			return err
		}
		st.Count("goroutines_before", d.level)
		st.Count("goroutines", now)
		st.Saw("%v goroutines, before %v; the object is right", now, d.level)
		return errors.Join(d.served(d.steady), d.node.Holds(ctx, d.addr, d.kept))
	})
}

// bomb is zstd of n zeros: blocks of one byte that is repeated (RFC 8878).
func bomb(n int) []byte {
	const block = 128 << 10
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3}
	for ; n > 0; n -= block {
		h := block<<3 | 1<<1
		if n <= block {
			h |= 1
		}
		b = append(b, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	return b
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
