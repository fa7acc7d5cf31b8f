// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package steady asks a node for the same things at the same pace for a long
// time, and looks at every answer, while somebody changes what can be changed.
package steady

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/b3"
)

// What is asked for: of twenty requests twelve reads, six writes, a signature
// and the check of an earlier one; each fiftieth request is made on a
// connection of its own, with a handshake.
const (
	ReadBytes  = 16 << 10
	WriteBytes = 8 << 10
	objects    = 64
	signatures = 32
	fresh      = 50
	tooSlow    = time.Second
	giveUp     = 30 * time.Second
	keptErrors = 8
)

// Load is what is asked, and of whom.
type Load struct {
	URL      string // https
	Roots    *x509.CertPool
	Operator string  // a capability that may sign with Key
	Key      string  // of purpose app
	Requests int     // in all
	Rate     float64 // a second
	Workers  int
	Seed     uint8 // two loads of one node need two, or they write the same bytes

	tokens atomic.Pointer[[]string]
	done   atomic.Int64
	stored [objects]*object

	mu     sync.Mutex
	signed []*signature // guarded by mu: the first ones, and some of those since
}

type object struct {
	data []byte
	path string
}

type signature struct {
	Message   []byte `json:"message"`
	Signature []byte `json:"signature"`
}

// Count is what came of it. Times are from when a request was due.
type Count struct {
	Requests, Failed, Slow int
	Again                  int // refusals that said when to come again, heeded
	Fresh                  int // requests with a handshake
	Ended                  int // kept connections that the node ended
	Took                   []time.Duration
	Errors                 []string // the first ones
}

// Use adds a capability of the tenant: from now on requests take turns with all
// that were added.
func (l *Load) Use(token string) {
	var all []string
	if old := l.tokens.Load(); old != nil {
		all = append(all, *old...)
	}
	all = append(all, token)
	l.tokens.Store(&all)
}

// Done is how many requests have been answered.
func (l *Load) Done() int { return int(l.done.Load()) }

// worker has one connection, and makes others for requests that want their own.
type worker struct {
	*Load
	kept, own *http.Client
	ended     atomic.Int64
	rnd       *rand.Rand
	count     Count
	body      []byte
}

func (l *Load) worker(n int) *worker {
	w := &worker{Load: l, rnd: rand.New(rand.NewPCG(uint64(n), 5)), body: make([]byte, WriteBytes)}
	rand.NewChaCha8([32]byte{byte(n), 9}).Read(w.body)
	make := func(keep bool) *http.Client {
		d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: giveUp}, Config: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: l.Roots}}
		return &http.Client{Timeout: giveUp, Transport: &http.Transport{
			DisableKeepAlives: !keep, MaxConnsPerHost: 1, DisableCompression: true,
			DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := d.DialContext(ctx, network, addr)
				if err != nil || !keep {
					return c, err
				}
				return &watched{Conn: c, ended: &w.ended}, nil
			},
		}}
	}
	w.kept, w.own = make(true), make(false)
	return w
}

// watched counts itself where the other side ends it.
type watched struct {
	net.Conn
	closed atomic.Bool
	ended  *atomic.Int64
}

func (c *watched) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !c.closed.Swap(true) {
		c.ended.Add(1)
	}
	return n, err
}

func (c *watched) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// Run makes the requests, each when it is due, and returns when all have been
// answered or given up.
func (l *Load) Run(ctx context.Context) (Count, error) {
	all := make([]*worker, l.Workers)
	for n := range all {
		all[n] = l.worker(n)
		defer all[n].kept.CloseIdleConnections()
	}
	if err := l.fill(ctx, all[0]); err != nil {
		return Count{}, err
	}
	begun := time.Now()
	var next atomic.Int64
	var group sync.WaitGroup
	for n, w := range all {
		group.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= l.Requests {
					return
				}
				due := begun.Add(time.Duration(float64(i) / l.Rate * 1e9))
				if wait := time.Until(due); wait > 0 {
					select {
					case <-ctx.Done():
						return
					case <-time.After(wait):
					}
				}
				w.one(ctx, uint64(l.Seed)<<56|uint64(n)<<40|uint64(i), i, due)
				l.done.Add(1)
			}
		})
	}
	group.Wait()
	var sum Count
	for _, w := range all {
		sum.add(&w.count, int(w.ended.Load()))
	}
	return sum, ctx.Err()
}

func (c *Count) add(o *Count, ended int) {
	c.Requests += o.Requests
	c.Failed += o.Failed
	c.Slow += o.Slow
	c.Again += o.Again
	c.Fresh += o.Fresh
	c.Ended += ended
	c.Took = append(c.Took, o.Took...)
	c.Errors = append(c.Errors, o.Errors...)
	c.Errors = c.Errors[:min(len(c.Errors), keptErrors)]
}

// fill stores what is read, and signs once.
func (l *Load) fill(ctx context.Context, w *worker) error {
	for i := range l.stored {
		data := make([]byte, ReadBytes)
		rand.NewChaCha8([32]byte{byte(i), 1}).Read(data)
		l.stored[i] = &object{data, "/o/" + b3.Sum(data).String()}
		if err := w.put(ctx, w.kept, data, 201, 200); err != nil {
			return err
		}
	}
	return w.sign(ctx, w.kept, 0)
}

// one makes request i and judges it.
func (w *worker) one(ctx context.Context, id uint64, i int, due time.Time) {
	c := w.kept
	if i%fresh == fresh-1 {
		c = w.own
		w.count.Fresh++
	}
	var err error
	// 13 is no divisor of 20: kinds and connections of their own do not fall together.
	switch k := i * 13 % 20; {
	case k < 12:
		err = w.get(ctx, c, w.stored[w.rnd.IntN(objects)])
	case k < 18:
		binary.BigEndian.PutUint64(w.body, id)
		err = w.put(ctx, c, w.body, 201)
	case k == 18:
		err = w.sign(ctx, c, id)
	default:
		err = w.verify(ctx, c)
	}
	took := time.Since(due)
	w.count.Requests++
	w.count.Took = append(w.count.Took, took)
	if took > tooSlow {
		w.count.Slow++
		if err == nil {
			w.note(fmt.Errorf("request %d took %s", i, took.Round(time.Millisecond)))
		}
	}
	if err != nil {
		w.count.Failed++
		w.note(fmt.Errorf("request %d: %w", i, err))
	}
}

func (w *worker) note(err error) {
	if len(w.count.Errors) < keptErrors {
		w.count.Errors = append(w.count.Errors, fmt.Sprintf("%.300s", err.Error()))
	}
}

// token is any of those that are in use.
func (w *worker) token() string {
	all := *w.tokens.Load()
	return all[w.rnd.IntN(len(all))]
}

func (w *worker) get(ctx context.Context, c *http.Client, o *object) error {
	got, err := w.send(ctx, c, http.MethodGet, o.path, w.token(), nil, 200)
	if err == nil && !bytes.Equal(got, o.data) {
		err = fmt.Errorf("GET %s: %d other bytes", o.path, len(got))
	}
	return err
}

func (w *worker) put(ctx context.Context, c *http.Client, data []byte, want ...int) error {
	got, err := w.send(ctx, c, http.MethodPost, "/o", w.token(), data, want...)
	if err != nil {
		return err
	}
	var put struct{ Addr string }
	if err := json.Unmarshal(got, &put); err != nil || put.Addr != b3.Sum(data).String() {
		return fmt.Errorf("a put is answered with %.100q", got)
	}
	return nil
}

// sign keeps the signature for whoever verifies next.
func (w *worker) sign(ctx context.Context, c *http.Client, id uint64) error {
	s := &signature{Message: binary.BigEndian.AppendUint64(nil, id)}
	in, err := json.Marshal(struct {
		Message []byte `json:"message"`
	}{s.Message})
	if err != nil {
		return err
	}
	got, err := w.send(ctx, c, http.MethodPost, "/v1/kms/keys/"+w.Key+"/sign", w.Operator, in, 200)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(got, s); err != nil || len(s.Signature) == 0 {
		return fmt.Errorf("signing is answered with %.100q", got)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.signed); n < signatures {
		w.signed = append(w.signed, s)
	} else {
		w.signed[n/2+w.rnd.IntN(n/2)] = s
	}
	return nil
}

func (w *worker) verify(ctx context.Context, c *http.Client) error {
	w.mu.Lock()
	s := w.signed[w.rnd.IntN(len(w.signed))]
	w.mu.Unlock()
	in, err := json.Marshal(s)
	if err != nil {
		return err
	}
	got, err := w.send(ctx, c, http.MethodPost, "/v1/kms/keys/"+w.Key+"/verify", w.Operator, in, 200)
	if err != nil {
		return err
	}
	var v struct{ Valid bool }
	if err := json.Unmarshal(got, &v); err != nil || !v.Valid {
		return fmt.Errorf("an earlier signature: %.100q", got)
	}
	return nil
}

// send makes one request, again where an overloaded node says when, as a client of
// the node does, until that would make it slow. Any other status than those wanted is an error.
func (w *worker) send(ctx context.Context, c *http.Client, method, path, token string, body []byte, want ...int) ([]byte, error) {
	begun := time.Now()
	for {
		status, got, err := w.exchange(ctx, c, method, path, token, body)
		if err != nil {
			return nil, err
		}
		if slices.Contains(want, status) {
			return got, nil
		}
		wait := comeAgain(status, got)
		if wait == 0 || time.Since(begun)+2*wait > tooSlow {
			return nil, fmt.Errorf("%s %s: %d: %.200s", method, path, status, got)
		}
		w.count.Again++
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait + time.Duration(w.rnd.Int64N(int64(wait)))):
		}
	}
}

// comeAgain is when an overloaded node wants to see the request again; 0 where
// the answer is another.
func comeAgain(status int, body []byte) time.Duration {
	var refusal struct {
		Code    string `json:"code"`
		AfterMS int64  `json:"retry_after_ms"`
	}
	if status != http.StatusServiceUnavailable || json.Unmarshal(body, &refusal) != nil || refusal.Code != "overload" {
		return 0
	}
	return time.Duration(refusal.AfterMS) * time.Millisecond
}

func (w *worker) exchange(ctx context.Context, c *http.Client, method, path, token string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, w.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if path != "/o" && len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.Close && c == w.kept {
		w.ended.Add(1) // by its word
	}
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return res.StatusCode, got, nil
}
