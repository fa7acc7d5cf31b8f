// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

const group = b3.GroupBytes

var errAway = errors.New("connection reset")

var whole = Want{N: math.MaxInt64, Group: Plain}

// Whatever is asked for, of whatever length, comes as it would from the object.
func TestFindGivesWhatWasAskedFor(t *testing.T) {
	for _, size := range []int{0, 1, 1000, group - 1, group, group + 1, 3 * group, 9*group + 5} {
		w := newWorld(t)
		data := randomBytes(size, 1)
		w.add("b3:a", data)
		o, a := newObject(t, data)
		for _, g := range []int{Plain, b3.SliceChunks, b3.SliceGroups} {
			for _, span := range [][2]int64{{0, math.MaxInt64}, {0, 1}, {int64(size) / 2, 700}, {max(int64(size)-1, 0), 1}} {
				want := Want{Off: span[0], N: span[1], Group: g}
				got, err := w.read(a, want)
				cut := want.of(int64(size))
				expect := data[cut.Off : cut.Off+cut.N]
				if g != Plain {
					expect = o.slice(t, g, cut.Off, cut.N)
				}
				if err != nil || !bytes.Equal(got, expect) {
					t.Fatalf("%d bytes, %+v: %d bytes of %d, %v", size, want, len(got), len(expect), err)
				}
			}
		}
		w.idle()
	}
}

// A part that was not what first said is asked for anew; HEAD costs one call.
func TestOpenOfAnotherPart(t *testing.T) {
	w := newWorld(t)
	data := randomBytes(5*group, 2)
	w.add("b3:a", data)
	_, a := newObject(t, data)
	for _, first := range []Want{{}, {Off: 9 * group, N: 5, Group: Plain}, {N: 10, Group: b3.SliceGroups}, whole} {
		o, err := w.f.Find(t.Context(), tenant(1), a, first)
		if err != nil {
			t.Fatal(err)
		}
		if o.Size() != int64(len(data)) || o.ContentType() != "image/png" {
			t.Errorf("%d bytes of %s", o.Size(), o.ContentType())
		}
		for range 2 {
			s, err := o.Open(t.Context(), Want{Off: group + 3, N: 2 * group, Group: Plain})
			if err != nil {
				t.Fatal(err)
			}
			var buf bytes.Buffer
			if _, err := s.WriteTo(&buf); err != nil || !bytes.Equal(buf.Bytes(), data[group+3:3*group+3]) {
				t.Errorf("first %+v: %v", first, err)
			}
			s.Close()
		}
		o.Close()
	}
	w.idle()
}

// A peer that changes a byte of any group is caught at that group: what comes out is
// right and ends there, and the peer is dropped, told of, and not asked again.
func TestLiarIsCaughtInItsGroup(t *testing.T) {
	const groups = 7
	data := randomBytes(groups*group-100, 3)
	o, a := newObject(t, data)
	proof := len(o.slice(t, b3.SliceGroups, int64(len(data)), 0))
	body := append(o.slice(t, b3.SliceGroups, int64(len(data)), 0), o.slice(t, b3.SliceGroups, 0, int64(len(data)))...)
	for g := range groups {
		// The bytes of group g in the second slice: find them.
		at := bytes.Index(body[proof:], data[g*group:min((g+1)*group, len(data))]) + proof + 77
		w := newWorld(t)
		n := w.add("b3:liar", data)
		n.twist = func(_ context.Context, whole []byte) io.Reader { return bytes.NewReader(flipped(whole, at)) }
		got, err := w.read(a, whole)
		if macronode.KindOf(err) != macronode.Integrity || !bytes.Equal(got, data[:g*group]) {
			t.Errorf("group %d: %d bytes, %v", g, len(got), err)
		}
		if fmt.Sprint(w.lies) != "[b3:liar bytes]" || fmt.Sprint(w.banned) != "[b3:liar]" || w.f.Trusted("b3:liar") {
			t.Errorf("group %d: told %v, banned %v, trusted %v", g, w.lies, w.banned, w.f.Trusted("b3:liar"))
		}
		before := w.calls("b3:liar")
		w.learn("b3:liar") // it announces again
		if _, err := w.read(a, whole); macronode.KindOf(err) != macronode.NotFound || w.calls("b3:liar") != before {
			t.Errorf("group %d: a liar is asked again: %v", g, err)
		}
		w.idle()
	}
}

// Whatever one peer does to its answer at any place, the reader gets the object, and
// only a lie is taken for one.
func TestAnotherPeerGoesOn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(0, 6*group+9).Draw(rt, "size")
		data := randomBytes(size, uint64(size))
		o, a := newObject(t, data)
		w := newWorld(t)
		bad, good := w.add("b3:a", data), w.add("b3:b", data)
		want := Want{Group: rapid.SampledFrom([]int{Plain, b3.SliceChunks, b3.SliceGroups}).Draw(rt, "group"), N: math.MaxInt64}
		if size > 0 && rapid.Bool().Draw(rt, "range") {
			want.Off = rapid.Int64Range(0, int64(size)-1).Draw(rt, "off")
			want.N = rapid.Int64Range(1, int64(size)).Draw(rt, "n")
		}
		how := rapid.SampledFrom([]string{"flip", "cut", "end", "more", "away", "gone"}).Draw(rt, "how")
		at := rapid.Float64Range(0, 1).Draw(rt, "at")
		bad.twist = func(_ context.Context, b []byte) io.Reader {
			i := min(int(at*float64(len(b))), len(b)-1)
			switch how {
			case "flip":
				return bytes.NewReader(flipped(b, i))
			case "cut":
				return broken(b[:i], errAway)
			case "end":
				return bytes.NewReader(b[:i])
			default:
				return io.MultiReader(bytes.NewReader(b), bytes.NewReader(b[:1]))
			}
		}
		switch how {
		case "away":
			bad.refuse = errAway
		case "gone":
			bad.refuse = notFound()
		}
		_ = good
		got, err := w.read(a, want)
		cut := want.of(int64(size))
		expect := data[cut.Off : cut.Off+cut.N]
		if want.Group != Plain {
			expect = o.slice(t, want.Group, cut.Off, cut.N)
		}
		if err != nil || !bytes.Equal(got, expect) {
			rt.Fatalf("%d bytes of %d: %v", len(got), len(expect), err)
		}
		if lied := len(w.lies) > 0; lied != (how == "flip" || how == "end" || how == "more") {
			rt.Fatalf("%s: lies %v", how, w.lies)
		}
		w.idle()
	})
}

// A wrong length gets nothing out, whatever it is.
func TestLengthLies(t *testing.T) {
	data := randomBytes(4*group, 4)
	_, a := newObject(t, data)
	for _, size := range []uint64{0, 1, group, 2 * group, 3*group + 1, 4*group - 1, 4*group + 1, 5 * group, 8 * group, 1 << 40, math.MaxInt64, math.MaxUint64} {
		w := newWorld(t)
		w.add("b3:liar", data).twist = func(_ context.Context, b []byte) io.Reader {
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint64(b, size)
			return bytes.NewReader(b)
		}
		got, err := w.read(a, whole)
		if macronode.KindOf(err) != macronode.Integrity || len(got) > 0 || len(w.lies) != 1 {
			t.Errorf("length %d: %d bytes, %v, lies %v", size, len(got), err, w.lies)
		}
	}
	// The length of the second slice alone, by so little that the tree looks alike.
	w := newWorld(t)
	data = data[:4*group-10]
	o, a := newObject(t, data)
	proof := len(o.slice(t, b3.SliceGroups, int64(len(data)), 0))
	w.add("b3:liar", data).twist = func(_ context.Context, b []byte) io.Reader {
		return bytes.NewReader(flipped(b, proof))
	}
	if got, err := w.read(a, Want{N: 5, Group: Plain}); macronode.KindOf(err) != macronode.Integrity || len(got) > 0 {
		t.Errorf("two lengths: %d bytes, %v", len(got), err)
	}
}

func TestAnotherObject(t *testing.T) {
	for _, size := range []int{5, 3 * group} {
		data := randomBytes(size, 5)
		_, a := newObject(t, data)
		other, _ := newObject(t, randomBytes(size, 6))
		w := newWorld(t)
		w.add("b3:liar", data).swap = &other
		if got, err := w.read(a, whole); macronode.KindOf(err) != macronode.Integrity || len(got) > 0 || len(w.lies) != 1 {
			t.Errorf("%d bytes, %v, lies %v", len(got), err, w.lies)
		}
	}
}

func TestTooLargeAnObject(t *testing.T) {
	data := randomBytes(3*group, 5)
	_, a := newObject(t, data)
	w := newWorld(t, func(c *Config) { c.MaxObject = func() int64 { return 2 * group } })
	w.add("b3:a", data)
	if got, err := w.read(a, whole); err == nil || len(got) > 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// drip gives one byte a second.
type drip struct {
	ctx context.Context
	b   []byte
}

func (d *drip) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
	if len(d.b) == 0 {
		return 0, io.EOF
	}
	p[0], d.b = d.b[0], d.b[1:]
	return 1, nil
}

func TestSlowPeer(t *testing.T) {
	data := randomBytes(5*group, 7)
	_, a := newObject(t, data)
	t.Run("alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.add("b3:slow", data).twist = func(ctx context.Context, b []byte) io.Reader { return &drip{ctx, b} }
			began := time.Now()
			_, err := w.read(a, whole)
			if took := time.Since(began); macronode.KindOf(err) != macronode.Unavailable || took != DefaultTimeout {
				t.Errorf("%v after %v", err, took)
			}
			synctest.Wait()
			w.idle()
		})
	})
	t.Run("hedged", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.add("b3:a", data).twist = func(ctx context.Context, b []byte) io.Reader { return &drip{ctx, b} }
			w.add("b3:b", data)
			began := time.Now()
			got, err := w.read(a, whole)
			if took := time.Since(began); err != nil || !bytes.Equal(got, data) || took != DefaultHedge {
				t.Errorf("%v after %v", err, took)
			}
			if len(w.lies) > 0 {
				t.Errorf("slowness is taken for a lie: %v", w.lies)
			}
			synctest.Wait()
			w.idle()
		})
	})
	t.Run("amid a stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.add("b3:a", data).twist = func(ctx context.Context, b []byte) io.Reader {
				return io.MultiReader(bytes.NewReader(b[:4*group]), &drip{ctx, b[4*group:]})
			}
			w.add("b3:b", data)
			began := time.Now()
			got, err := w.read(a, whole)
			if took := time.Since(began); err != nil || !bytes.Equal(got, data) || took != DefaultStall {
				t.Errorf("%d bytes, %v after %v", len(got), err, took)
			}
			synctest.Wait()
			w.idle()
		})
	})
}

// Many who want the same at once are one call; each gets the object.
func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		data := randomBytes(1000, 8)
		_, a := newObject(t, data)
		gate := make(chan struct{})
		w.add("b3:a", data).twist = func(_ context.Context, b []byte) io.Reader {
			<-gate
			return bytes.NewReader(b)
		}
		var wg sync.WaitGroup
		ctx, leave := context.WithCancel(t.Context())
		for i := range 50 {
			wg.Go(func() {
				c := t.Context()
				if i%2 == 0 {
					c = ctx
				}
				o, err := w.f.Find(c, tenant(1), a, whole)
				if c == ctx {
					if err == nil {
						t.Error("who left got an answer")
					}
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				defer o.Close()
				s, err := o.Open(c, whole)
				if err != nil {
					t.Error(err)
					return
				}
				var buf bytes.Buffer
				if _, err := s.WriteTo(&buf); err != nil || !bytes.Equal(buf.Bytes(), data) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		leave() // half of them, perhaps the one who asked first
		synctest.Wait()
		close(gate)
		wg.Wait()
		if w.calls("b3:a") != 1 {
			t.Errorf("%d calls", w.calls("b3:a"))
		}
		w.idle()
	})
}

// Where nobody waits any more the call ends, and it is nobody's fault.
func TestEverybodyLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		data := randomBytes(1000, 8)
		_, a := newObject(t, data)
		w.add("b3:a", data).twist = func(ctx context.Context, b []byte) io.Reader { return &drip{ctx, b} }
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := w.f.Find(ctx, tenant(1), a, whole); done <- err }()
		synctest.Wait()
		leave()
		if err := <-done; macronode.KindOf(err) != macronode.ClientGone {
			t.Error(err)
		}
		synctest.Wait()
		if w.open != 0 || len(w.f.flights) != 0 || len(w.known.Holders(w.tag(a))) != 1 {
			t.Errorf("%d calls, %d flights, holders %v", w.open, len(w.f.flights), w.known.Holders(w.tag(a)))
		}
	})
}

func TestReaderWhoLeavesEndsTheCall(t *testing.T) {
	w := newWorld(t)
	data := randomBytes(9*group, 8)
	_, a := newObject(t, data)
	w.add("b3:a", data).twist = func(ctx context.Context, b []byte) io.Reader {
		return io.MultiReader(bytes.NewReader(b[:4*group]), waiting{ctx})
	}
	ctx, leave := context.WithCancel(t.Context())
	o, err := w.f.Find(ctx, tenant(1), a, whole)
	if err != nil {
		t.Fatal(err)
	}
	s, err := o.Open(ctx, whole)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	if _, err := s.WriteTo(io.Discard); err == nil {
		t.Error("a reader that left got all")
	}
	s.Close()
	o.Close()
	w.idle()
	if len(w.lies) > 0 || len(w.known.Holders(w.tag(a))) != 1 {
		t.Error("the peer is blamed for it")
	}
}

type waiting struct{ ctx context.Context }

func (r waiting) Read([]byte) (int, error) { <-r.ctx.Done(); return 0, r.ctx.Err() }

// What another tenant has has no effect: no call is made for it, and a peer that is
// asked says the same as of what nobody has.
func TestTenantsDoNotMeet(t *testing.T) {
	w := newWorld(t)
	data := randomBytes(1000, 9)
	_, a := newObject(t, data)
	n := w.add("b3:a", data)
	_, mine := w.f.Find(t.Context(), tenant(2), a, whole)
	_, none := w.f.Find(t.Context(), tenant(2), b3.Sum([]byte("none")), whole)
	if macronode.KindOf(mine) != macronode.NotFound || mine.Error() != none.Error() || w.calls("b3:a") != 0 {
		t.Errorf("%v, %v, %d calls", mine, none, w.calls("b3:a"))
	}
	key, _ := testSecrets(t).Key(tenant(1))
	proof := key.Proof(self, "b3:a", a)
	args := func(p string, addr b3.Addr) []macronode.Arg {
		return []macronode.Arg{{Name: argAddr, Value: addr.String()}, {Name: argOff, Value: "0"}, {Name: argN, Value: "0"}, {Name: argGroup, Value: "4"}, {Name: argProof, Value: p}}
	}
	good := fmt.Sprintf("%x", proof[:])
	say := func(tn byte, who string, list []macronode.Arg) error {
		_, err := n.fetch(t.Context(), &macronode.Admitted{Call: &macronode.Call{Args: list}, Tenant: &macronode.Tenant{ID: tenant(tn)}, ReplyBytes: macronode.NoLimit,
			Principal: &macronode.Principal{Kind: macronode.PeerNode, Node: who}})
		return err
	}
	if err := say(1, self, args(good, a)); err != nil {
		t.Fatal(err)
	}
	absent := say(1, self, args(good, b3.Sum([]byte("none"))))
	for what, err := range map[string]error{
		"another tenant": say(2, self, args(good, a)), "another node's proof": say(1, "b3:thief", args(good, a)),
		"no proof": say(1, self, args(strings.Repeat("0", 64), a)),
	} {
		if err == nil || err.Error() != absent.Error() {
			t.Errorf("%s: %v, want %v", what, err, absent)
		}
	}
	n.SetSecrets(nil)
	if err := say(1, self, args(good, a)); err == nil || err.Error() != absent.Error() {
		t.Errorf("a node without secrets gave an object: %v", err)
	}
	w.f.SetSecrets(nil)
	if _, err := w.f.Find(t.Context(), tenant(1), a, whole); macronode.KindOf(err) != macronode.NotFound || w.calls("b3:a") != 0 {
		t.Errorf("a node without secrets asked: %v", err)
	}
}

func TestHolderRefuses(t *testing.T) {
	w := newWorld(t)
	data := randomBytes(1000, 9)
	_, a := newObject(t, data)
	n := w.add("b3:a", data)
	key, _ := testSecrets(t).Key(tenant(1))
	proof := key.Proof(self, "b3:a", a)
	good := map[string]string{argAddr: a.String(), argOff: "0", argN: "5", argGroup: "4", argProof: fmt.Sprintf("%x", proof[:])}
	ask := func(kind macronode.PrincipalKind, budget int64) error {
		c := &macronode.Call{}
		for k, v := range good {
			c.Args = append(c.Args, macronode.Arg{Name: k, Value: v})
		}
		r, err := n.fetch(t.Context(), &macronode.Admitted{Call: c, Tenant: &macronode.Tenant{ID: tenant(1)}, ReplyBytes: budget, Principal: &macronode.Principal{Kind: kind, Node: self}})
		if err == nil {
			r.Stream.Close()
		}
		return err
	}
	for _, kind := range []macronode.PrincipalKind{macronode.Anonymous, macronode.Capability} {
		if err := ask(kind, macronode.NoLimit); macronode.KindOf(err) != macronode.Denied {
			t.Errorf("%v: %v", kind, err)
		}
		if _, err := n.announced(t.Context(), &macronode.Admitted{Principal: &macronode.Principal{Kind: kind}}); macronode.KindOf(err) != macronode.Denied {
			t.Errorf("%v learns what is announced: %v", kind, err)
		}
	}
	if err := ask(macronode.PeerNode, 10); macronode.KindOf(err) != macronode.TooLarge {
		t.Errorf("above the budget: %v", err)
	}
	for name, values := range map[string][]string{
		argAddr: {"", "b3:00", strings.ToUpper(a.String())}, argOff: {"", "-1", "x", "1e3"}, argN: {"", "-1", "9223372036854775808"},
		argGroup: {"", "1", "04"}, argProof: {"", "00", strings.Repeat("z", 64), strings.Repeat("0", 66)},
	} {
		was := good[name]
		for _, v := range values {
			good[name] = v
			if err := ask(macronode.PeerNode, macronode.NoLimit); macronode.KindOf(err) != macronode.Malformed {
				t.Errorf("%s=%q: %v", name, v, err)
			}
		}
		good[name] = was
	}
	if err := ask(macronode.PeerNode, macronode.NoLimit); err != nil {
		t.Error(err)
	}
}

// A peer that has dropped what it announced is asked once.
func TestGone(t *testing.T) {
	w := newWorld(t)
	data := randomBytes(1000, 9)
	_, a := newObject(t, data)
	n := w.add("b3:a", data)
	delete(n.objects, flightKey{tenant(1), a})
	for range 3 {
		if _, err := w.read(a, whole); macronode.KindOf(err) != macronode.NotFound {
			t.Error(err)
		}
	}
	if w.calls("b3:a") != 1 {
		t.Errorf("%d calls", w.calls("b3:a"))
	}
}

func TestNotAllAtOnce(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxStreams = 2 })
	data := randomBytes(9*group, 9)
	_, a := newObject(t, data)
	w.add("b3:a", data)
	var open []*Object
	for range 2 {
		o, err := w.f.Find(t.Context(), tenant(1), a, whole)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, o)
	}
	if _, err := w.f.Find(t.Context(), tenant(1), a, whole); macronode.KindOf(err) != macronode.Overload {
		t.Errorf("a third: %v", err)
	}
	for _, o := range open {
		o.Close()
	}
	w.idle()
	if _, err := w.read(a, whole); err != nil {
		t.Error(err)
	}
}

// guard is one that counts, and refuses once shut.
type guard struct {
	mu   sync.Mutex
	shut bool
	errs []error
}

func (g *guard) Enter() (func(error), error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return nil, macronode.Errorf(macronode.Unavailable, "shut")
	}
	return func(err error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.errs = append(g.errs, err)
	}, nil
}

func TestGuard(t *testing.T) {
	guards := map[string]*guard{"b3:a": {}, "b3:b": {}}
	w := newWorld(t, func(c *Config) { c.Guard = func(peer string) Guard { return guards[peer] } })
	data := randomBytes(4*group, 9)
	_, a := newObject(t, data)
	w.add("b3:a", data).refuse = errAway
	w.add("b3:b", data)
	if got, err := w.read(a, whole); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
	if e := guards["b3:a"].errs; len(e) != 1 || !errors.Is(e[0], errAway) {
		t.Errorf("the guard of who is away heard %v", e)
	}
	if e := guards["b3:b"].errs; len(e) != 1 || e[0] != nil {
		t.Errorf("the guard of who answered heard %v", e)
	}
	guards["b3:a"].shut = true
	before := w.calls("b3:a")
	if _, err := w.read(a, whole); err != nil || w.calls("b3:a") != before {
		t.Errorf("who is held back was asked: %v", err)
	}
	guards["b3:b"].shut = true
	if _, err := w.read(a, whole); macronode.KindOf(err) != macronode.Unavailable {
		t.Errorf("all held back: %v", err)
	}
	w.idle()
}

// A stream that breaks off at any of many places is gone on with by another peer, to
// the byte.
func TestGoesOnFromAnyPlace(t *testing.T) {
	const places = 37
	for _, size := range []int{3*group + 5, 5 * group} {
		data := randomBytes(size, 10)
		o, a := newObject(t, data)
		for _, g := range []int{Plain, b3.SliceChunks, b3.SliceGroups} {
			for _, want := range []Want{{N: int64(size), Group: g}, {Off: group + 3, N: 2 * group, Group: g}} {
				expect := data[want.Off : want.Off+want.N]
				if g != Plain {
					expect = o.slice(t, g, want.Off, want.N)
				}
				for i := range places {
					w := newWorld(t)
					w.add("b3:a", data).twist = func(_ context.Context, b []byte) io.Reader { return broken(b[:len(b)*i/places], errAway) }
					w.add("b3:b", data)
					if got, err := w.read(a, want); err != nil || !bytes.Equal(got, expect) {
						t.Fatalf("%d bytes, %+v, cut at %d/%d: %d bytes of %d, %v", size, want, i, places, len(got), len(expect), err)
					}
				}
			}
		}
	}
}
