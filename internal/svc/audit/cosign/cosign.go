// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package cosign

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/tlog"
)

const (
	// retryAfter is the wait before a witness that failed is asked again; it doubles
	// up to retryMost.
	retryAfter = time.Second
	retryMost  = time.Minute
)

// ErrRefused: a witness answered no. What it says may mean that it saw another log.
var ErrRefused = errors.New("the witness refuses")

// SizeError is a witness's answer that it is not where it was thought to be.
type SizeError struct {
	Size uint64 // of the newest tree that it signed
}

func (e *SizeError) Error() string { return fmt.Sprintf("the witness is at %d", e.Size) }

// Client speaks with one witness.
type Client interface {
	// AddCheckpoint shows it a signed checkpoint with the proof that it extends the
	// tree of size old, and returns its signature lines, of which nothing is verified.
	// A *SizeError says that old is not its newest size; ErrRefused wraps other
	// refusals; any other error says that it could not be asked.
	AddCheckpoint(ctx context.Context, old uint64, proof tlog.Path, note []byte) ([]byte, error)
}

// Witness is one that is asked.
type Witness struct {
	Name   string     // of its first key: a metric label
	Keys   []tlog.Key // any of them vouches
	Client Client
}

// Settings change while it runs.
type Settings struct {
	Witnesses []Witness
	Quorum    int           // how many of them must sign; 0: all
	Interval  time.Duration // least time between two checkpoints that they see
	Timeout   time.Duration // how long an answer, and how long a quorum, may take
}

// Log is what is vouched for.
type Log interface {
	tlog.Tiles
	Published() *tlog.Signed
	Grown() <-chan struct{}
	// KeepCosigned makes a cosigned checkpoint durable. Cosigned returns it, nil
	// where there is none.
	KeepCosigned(ctx context.Context, note []byte) error
	Cosigned(ctx context.Context) ([]byte, error)
}

// Config is what a Cosigner needs. Alarm may be nil.
type Config struct {
	Log     *slog.Logger
	Metrics *metrics.Registry
	Now     func() time.Time
	// Alarm is told when the state changes: ok, "late" or "refused".
	Alarm func(state, why string)
}

// Cosigner asks witnesses.
type Cosigner struct {
	cfg    Config
	rounds *prometheus.CounterVec

	mu       sync.Mutex
	settings Settings
	changed  chan struct{} // closed when settings change
	states   map[string]*state
	newest   *Cosigned
	moved    chan struct{} // closed when newest changes
	due      time.Time     // since when a checkpoint waits for its quorum; zero: none does
	alarm    string        // told last
}

// Cosigned is a checkpoint that a quorum signed.
type Cosigned struct {
	tlog.Checkpoint
	Note []byte
	By   []string // witnesses
}

// state is what is known of a witness. It is kept by the witness's keys.
type state struct {
	size   uint64 // of what it signed last, as far as known
	again  time.Time
	wait   time.Duration
	err    error
	signed uint64 // newest size that it signed for this process
}

// The outcomes of asking a witness.
const (
	resultSigned  = "signed"
	resultRefused = "refused"
	resultFailed  = "failed"
)

// New returns one without witnesses.
func New(cfg Config) *Cosigner {
	c := &Cosigner{cfg: cfg, changed: make(chan struct{}), moved: make(chan struct{}), states: map[string]*state{}, alarm: "ok"}
	if c.cfg.Alarm == nil {
		c.cfg.Alarm = func(string, string) {}
	}
	m := cfg.Metrics
	c.rounds = m.Counters("audit_witness_answers_total", "Answers of witnesses to checkpoints.", []string{"result"}, []string{resultSigned, resultRefused, resultFailed})
	m.GaugeSet("audit_witness_ok", "Whether a witness signed what it was shown last.", "witness", c.each(func(s *state) float64 {
		if s.err == nil {
			return 1
		}
		return 0
	}))
	m.GaugeSet("audit_witness_tree_size", "Tree size that a witness signed last.", "witness", c.each(func(s *state) float64 { return float64(s.size) }))
	m.GaugeFunc("audit_cosigned_tree_size", "Tree size of the newest checkpoint that a quorum of witnesses signed.", func() float64 {
		if n := c.Newest(); n != nil {
			return float64(n.Size)
		}
		return 0
	})
	m.GaugeFunc("audit_witness_alarm", "1 where witnesses refuse, or too few sign in time.", func() float64 {
		if c.Err() != nil {
			return 1
		}
		return 0
	})
	return c
}

func (c *Cosigner) each(f func(*state) float64) func() map[string]float64 {
	return func() map[string]float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		out := map[string]float64{}
		for _, w := range c.settings.Witnesses {
			out[w.Name] = f(c.state(w))
		}
		return out
	}
}

// state is the witness's; mu is held.
func (c *Cosigner) state(w Witness) *state {
	var id strings.Builder
	for _, k := range w.Keys {
		id.WriteString(k.String())
	}
	s := c.states[id.String()]
	if s == nil {
		s = &state{}
		c.states[id.String()] = s
	}
	return s
}

// Set makes s hold from now on. What is known of witnesses that stay is kept.
func (c *Cosigner) Set(s Settings) {
	if s.Quorum <= 0 || s.Quorum > len(s.Witnesses) {
		s.Quorum = len(s.Witnesses)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings = s
	if len(s.Witnesses) == 0 {
		c.due = time.Time{}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// Newest is the newest checkpoint with a quorum; nil: none yet.
func (c *Cosigner) Newest() *Cosigned {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}

// Covering waits for a checkpoint with a quorum that covers a record. It returns nil
// where there are no witnesses.
func (c *Cosigner) Covering(ctx context.Context, seq uint64) (*Cosigned, error) {
	for {
		c.mu.Lock()
		newest, moved, none := c.newest, c.moved, len(c.settings.Witnesses) == 0
		c.mu.Unlock()
		switch {
		case none:
			return nil, nil
		case newest != nil && newest.Size > seq:
			return newest, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Err says what is wrong: witnesses that refuse, or too few that sign in time. It is
// nil where all is well or nobody is asked.
func (c *Cosigner) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.judge()
	return err
}

// judge is the state and what is wrong; mu is held.
func (c *Cosigner) judge() (state string, err error) {
	s := &c.settings
	if len(s.Witnesses) == 0 {
		return "ok", nil
	}
	var refusing, failing []string
	for _, w := range s.Witnesses {
		switch err := c.state(w).err; {
		case errors.Is(err, ErrRefused):
			refusing = append(refusing, w.Name+": "+err.Error())
		case err != nil:
			failing = append(failing, w.Name+": "+err.Error())
		}
	}
	if len(refusing) > 0 {
		return "refused", errors.New(strings.Join(refusing, "; "))
	}
	if !c.due.IsZero() && c.cfg.Now().Sub(c.due) >= s.Timeout {
		return "late", fmt.Errorf("fewer than %d of %d witnesses signed within %s: %s", s.Quorum, len(s.Witnesses), s.Timeout, strings.Join(append(failing, "no answer")[:max(1, len(failing))], "; "))
	}
	return "ok", nil
}

// tell passes on a change of state.
func (c *Cosigner) tell() {
	c.mu.Lock()
	state, err := c.judge()
	changed := state != c.alarm
	c.alarm = state
	c.mu.Unlock()
	if !changed {
		return
	}
	why := ""
	if err != nil {
		why = err.Error()
	}
	level := slog.LevelWarn
	if state == "ok" {
		level = slog.LevelInfo
	}
	c.cfg.Log.Log(context.Background(), level, "witnesses of the audit log: "+state, "event", "audit_witness", "state", state, "why", why)
	c.cfg.Alarm(state, why)
}

// remember takes over what was cosigned before, where the witnesses of today vouch
// for it.
func (c *Cosigner) remember(ctx context.Context, log Log) error {
	note, err := log.Cosigned(ctx)
	if err != nil || note == nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	by := signers(note, c.settings.Witnesses)
	if s, err := tlog.Open(note, allKeys(c.settings.Witnesses)...); err == nil && len(by) >= max(1, c.settings.Quorum) && c.newest == nil {
		c.set(&Cosigned{s.Checkpoint, note, by})
	}
	return nil
}

// set makes n the newest; mu is held.
func (c *Cosigner) set(n *Cosigned) {
	c.newest = n
	close(c.moved)
	c.moved = make(chan struct{})
}

func allKeys(witnesses []Witness) (keys []tlog.Key) {
	for _, w := range witnesses {
		keys = append(keys, w.Keys...)
	}
	return keys
}

// signers are the witnesses whose signatures of the note hold.
func signers(note []byte, witnesses []Witness) (names []string) {
	s, err := tlog.Open(note, allKeys(witnesses)...)
	if err != nil {
		return nil
	}
	for _, w := range witnesses {
		if slices.ContainsFunc(w.Keys, s.Has) {
			names = append(names, w.Name)
		}
	}
	return names
}
