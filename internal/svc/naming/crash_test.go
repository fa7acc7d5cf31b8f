// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
)

// openKV opens metadata on fs.
func openKV(t testing.TB, fs *disk.FS) *pebblekv.KV {
	t.Helper()
	kv, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "/kv", BallastBytes: -1, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// seeds is how many times a crash test runs.
func seeds(t testing.TB, few int) int {
	if s := os.Getenv("MACRONODE_CRASH_SEEDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return few
}

// The operations of a client.
const (
	opGet = iota
	opSet
	opCreate // If-None-Match: *
	opSwap   // If-Match
	opDelete
)

type input struct {
	op    int
	value int
	match uint64
}

type output struct {
	unknown  bool // no answer came: it may have happened, or not, or later
	conflict bool
	missing  bool
	version  uint64
	value    int
}

// state is a name as the model has it.
type state struct {
	there bool
	value int
	last  uint64 // version
}

// model is what a name does, one operation after the other.
var model = porcupine.NondeterministicModel{
	Init: func() []any { return []any{state{}} },
	Step: func(s, in, out any) []any {
		st, i, o := s.(state), in.(input), out.(output)
		next, want := st, output{}
		switch {
		case i.op == opGet && st.there:
			want = output{version: st.last, value: st.value}
		case i.op == opGet:
			want = output{missing: true}
		case i.op == opCreate && st.there, i.op == opSwap && (!st.there || st.last != i.match):
			want = output{conflict: true}
		case i.op == opDelete && !st.there:
			want = output{missing: true}
		case i.op == opDelete:
			next = state{last: st.last + 1}
		default:
			next = state{there: true, value: i.value, last: st.last + 1}
			want = output{version: next.last}
		}
		if o.unknown {
			return []any{st, next}
		}
		if o != want {
			return nil
		}
		return []any{next}
	},
	Equal: func(a, b any) bool { return a.(state) == b.(state) },
}

// witness runs clients against a node that loses power, and writes down what they saw.
type witness struct {
	t     *testing.T
	start time.Time

	gate  sync.RWMutex // held to write down an answer; a crash holds it alone
	epoch int          // guarded by gate
	d     *driver      // guarded by gate
	fs    *disk.FS     // guarded by gate

	mu      sync.Mutex
	history []porcupine.Operation
	value   int
}

func (w *witness) clock() int64 { return time.Since(w.start).Nanoseconds() }

func (w *witness) do(client int, in input) output {
	w.gate.RLock()
	epoch, d := w.epoch, w.d
	w.gate.RUnlock()
	called := w.clock()
	out := perform(d, in)
	w.gate.RLock()
	defer w.gate.RUnlock()
	if w.epoch != epoch {
		out = output{unknown: true}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ret := w.clock()
	w.history = append(w.history, porcupine.Operation{ClientId: client, Input: in, Call: called, Output: out, Return: ret})
	return out
}

// perform makes one call; what is no answer about the name is unknown.
func perform(d *driver, in input) output {
	c := call{op: "name.set", name: "head", body: setBody(strconv.Itoa(in.value))}
	switch in.op {
	case opGet:
		c = call{op: "name.get", name: "head"}
	case opCreate:
		c.header = ifNoneMatch1("*")
	case opSwap:
		c.header = ifMatch1(tag(in.match))
	case opDelete:
		c = call{op: "name.delete", name: "head"}
	}
	route, a := d.admitted(c)
	r, err := route.Handler(context.Background(), a)
	switch macronode.KindOf(err) {
	case macronode.NumKinds:
	case macronode.PreconditionFailed:
		return output{conflict: true}
	case macronode.NotFound:
		return output{missing: true}
	default:
		return output{unknown: true}
	}
	if in.op == opDelete {
		return output{}
	}
	var doc Document
	if json.Unmarshal(r.Body, &doc) != nil {
		return output{unknown: true}
	}
	out := output{version: doc.Version}
	if in.op == opGet {
		out.value = -1
		for v := 1; v <= 1000; v++ {
			if doc.Addr == b3.Sum([]byte(strconv.Itoa(v))).String() {
				out.value = v
				break
			}
		}
	}
	return out
}

// crash cuts the power between any two moments of the clients, and starts again.
func (w *witness) crash(rng *rand.Rand) {
	w.gate.Lock()
	defer w.gate.Unlock()
	w.epoch++
	old := w.d.kv
	w.fs = w.fs.Crash(rng.IntN(101), rng.Uint64())
	kv := openKV(w.t, w.fs)
	w.d = driveOver(w.t, kv)
	w.t.Cleanup(func() { _ = kv.Close() })
	_ = old.Close() // it writes on a disk that is gone
	check(w.t, kv)
}

// TestLinearizable: compare-and-set of one name, by many clients, over power losses:
// there is one order in which all answers make sense.
func TestLinearizable(t *testing.T) {
	for seed := range seeds(t, 12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := &witness{t: t, start: time.Now(), fs: disk.Crashable()}
			w.d = driveOver(t, openKV(t, w.fs))
			rng := rand.New(rand.NewPCG(uint64(seed), 7))
			for range 4 { // a power loss between rounds and one in each
				var wg sync.WaitGroup
				for c := range 4 {
					seen := rand.New(rand.NewPCG(rng.Uint64(), uint64(c)))
					wg.Go(func() { w.client(c, seen) })
				}
				wg.Go(func() {
					w.do(9, input{op: opGet})
					w.crash(rand.New(rand.NewPCG(uint64(seed), 11)))
				})
				wg.Wait()
				w.do(8, input{op: opGet})
			}
			_ = w.d.kv.Close()
			if r := porcupine.CheckOperationsTimeout(model.ToModel(), w.history, 30*time.Second); r != porcupine.Ok {
				t.Errorf("seed %d: %d operations: %v", seed, len(w.history), r)
			}
		})
	}
}

func (w *witness) client(c int, rng *rand.Rand) {
	var known uint64
	for range 6 {
		w.mu.Lock()
		w.value++
		in := input{op: rng.IntN(5), value: w.value, match: known}
		w.mu.Unlock()
		if in.op == opSwap && known == 0 {
			in.op = opGet
		}
		if in.op == opGet || in.op == opDelete {
			in.value = 0
		}
		if out := w.do(c, in); out.version != 0 {
			known = out.version
		}
	}
}

// check holds what is stored to what it promises of itself: totals, histories and
// changes say the same as the names.
func check(t testing.TB, kv store.KV) {
	t.Helper()
	tenant := tenantOf(7).ID
	err := kv.View(context.Background(), func(r store.Reader) error {
		u, err := getTotals(r, tenant)
		if err != nil {
			return err
		}
		count := func(kind byte, f func(k, v []byte) error) (n uint64, err error) {
			lo := key(tenant, kind)
			serr := r.Scan(lo, after(lo), func(k, v []byte) bool {
				n++
				err = f(k[nameBytes:], v)
				return err == nil
			})
			if err == nil {
				err = serr
			}
			return n, err
		}
		nothing := func(_, _ []byte) error { return nil }
		names, err := count(keyName, func(k, v []byte) error {
			rec, err := decodeRecord(v)
			if err != nil {
				return err
			}
			kept, err := read(r, versionKey(tenant, string(k), rec.version))
			if err == nil && string(kept) != string(v) {
				return fmt.Errorf("the history of %q does not have its version %d", k, rec.version)
			}
			return err
		})
		if err != nil {
			return err
		}
		versions, err := count(keyHistory, nothing)
		if err != nil {
			return err
		}
		deleted, err := count(keyDeleted, nothing)
		if err != nil {
			return err
		}
		order, err := count(keyOrder, nothing)
		if err != nil {
			return err
		}
		changes, err := count(keyChange, nothing)
		if err != nil {
			return err
		}
		if names != u.names || versions != u.versions || deleted != u.deleted || order != u.deleted || changes != min(u.seq, keepChanges) {
			return fmt.Errorf("totals %+v of %d names, %d versions, %d deleted (%d), %d changes", u, names, versions, deleted, order, changes)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestCrashRounds: what was answered is there after power losses, of many names and
// through every kind of change.
func TestCrashRounds(t *testing.T) {
	for seed := range seeds(t, 8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			fs := disk.Crashable()
			told := map[string]state{}
			rng := rand.New(rand.NewPCG(uint64(seed), 3))
			for range 4 {
				kv := openKV(t, fs)
				d := driveOver(t, kv)
				for n, st := range told {
					r, err := d.try(call{op: "name.get", name: n})
					if !st.there {
						if macronode.KindOf(err) != macronode.NotFound {
							t.Fatalf("%s was deleted: %v", n, err)
						}
						continue
					}
					if err != nil || r.Header.Get("Etag") != tag(st.last) {
						t.Fatalf("%s had version %d: %v", n, st.last, err)
					}
				}
				check(t, kv)
				for range 40 {
					n := fmt.Sprintf("n%d", rng.IntN(8))
					st := told[n]
					switch rng.IntN(4) {
					case 0:
						if _, err := d.try(call{op: "name.delete", name: n}); err == nil {
							told[n] = state{last: st.last + 1}
						}
					case 1:
						body := fmt.Sprintf(`{"name":%q,"addr":%q}`+"\n"+`{"name":%q,"addr":%q}`, n, addrOf("x"), n, addrOf("y"))
						d.do(call{op: "name.import", body: body}, nil)
						told[n] = state{there: true, last: st.last + 2}
					default:
						d.do(call{op: "name.set", name: n, body: setBody("z")}, nil)
						told[n] = state{there: true, last: st.last + 1}
					}
				}
				next := fs.Crash(rng.IntN(101), rng.Uint64())
				_ = kv.Close()
				fs = next
			}
		})
	}
}
