// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

const (
	// renewEvery is how often a new certificate is looked for.
	renewEvery = 10 * time.Second
	// warnEvery is how often the log says that a certificate is about to end.
	warnEvery = 12 * time.Hour
	// prefetchTime bounds the wait for the staple of a certificate that demands one.
	prefetchTime = 3 * time.Second
	// warnBefore is when a certificate is about to end; of one for a shorter time
	// the last quarter.
	warnBefore = 14 * 24 * time.Hour
)

type fetcher func(ctx context.Context, address string, request []byte) ([]byte, error)

// Config is what a Keeper needs.
type Config struct {
	// Renew reads the certificate that the config names, as it is now, and whether
	// to staple. nil certificate: TLS is off. It is asked every ten seconds; what it
	// returns is taken up like a certificate at a reload, and an error or a
	// certificate that is refused leaves the one in use where it is.
	Renew   func(context.Context) (cert *tls.Certificate, staple bool, err error)
	Fetch   func(ctx context.Context, address string, request []byte) ([]byte, error) // nil: Fetch
	Metrics *metrics.Registry
	Log     *slog.Logger // nil: discard
}

// served is what handshakes are given.
type served struct {
	bare    *tls.Certificate
	stapled *tls.Certificate // nil: nothing is stapled
	until   time.Time        // of the staple
}

// Keeper keeps the certificate in use. Make it with New.
type Keeper struct {
	conf    Config
	now     atomic.Pointer[served]
	wake    chan struct{}
	fetches *prometheus.CounterVec
	taken   *prometheus.CounterVec

	mu      sync.Mutex
	cert    *tls.Certificate // nil: TLS is off
	wanted  bool             // a staple
	target  *target          // nil: no staple can be had
	why     error            // why not
	staple  *staple
	fails   int       // fetches since the last that worked
	next    time.Time // the next fetch
	refused string    // what Renew's last certificate was refused for
	warned  time.Time // of the end
}

// New returns a Keeper of no certificate.
func New(c Config) (*Keeper, error) {
	if c.Metrics == nil {
		return nil, errors.New("certs: a keeper needs a registry")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Fetch == nil {
		c.Fetch = Fetch
	}
	k := &Keeper{conf: c, wake: make(chan struct{}, 1)}
	k.fetches = c.Metrics.Counters("tls_ocsp_fetches_total", "OCSP responses asked for, by result.", []string{"result"}, results)
	k.taken = c.Metrics.Counters("tls_certificates_total", "Certificates that were taken up, or refused while another stayed in use.", []string{"result"}, []string{"served", "refused"})
	c.Metrics.GaugeFunc("tls_certificate_expiry_seconds", "Time until the certificate in use ends; negative once it has; +Inf without TLS.", k.expiry)
	c.Metrics.GaugeFunc("tls_ocsp_staple_expiry_seconds", "Time until the OCSP response that is stapled ends; 0 where none is.", k.stapleExpiry)
	return k, nil
}

// Candidate is a certificate that was looked at and may be used.
type Candidate struct {
	cert   *tls.Certificate
	wanted bool
	target *target
	why    error
	staple *staple
}

// Prepare checks a certificate, with its Leaf; nil means no TLS. A certificate
// that is not good now is refused while the one in use is, and so is one that
// demands a staple where none is to be fetched: clients would turn away. For one
// that demands a staple Prepare tries to have it already, for three seconds at most.
func (k *Keeper) Prepare(ctx context.Context, cert *tls.Certificate, staple bool) (*Candidate, error) {
	c := &Candidate{cert: cert, wanted: staple}
	if cert == nil {
		return c, nil
	}
	k.mu.Lock()
	same, old := k.cert != nil && sameChain(k.cert, cert), k.cert
	if same {
		c.staple = k.staple
	}
	k.mu.Unlock()
	now := time.Now()
	if err := good(cert.Leaf, now); err != nil && old != nil && good(old.Leaf, now) == nil {
		return nil, err
	}
	if !staple {
		c.staple = nil
	} else {
		c.target, c.why = aim(cert)
	}
	if err := demands(cert, staple, c.why); err != nil {
		return nil, err
	}
	if c.target != nil && c.staple == nil && mustStaple(cert.Leaf) {
		ctx, cancel := context.WithTimeout(ctx, prefetchTime)
		defer cancel()
		var result string
		c.staple, result, _ = c.target.get(ctx, k.conf.Fetch, nil) // Serve tries again and reports
		k.fetches.WithLabelValues(result).Inc()
	}
	return c, nil
}

// demands says whether a certificate demands a staple that it cannot have; why is
// the reason for which none can be had.
func demands(cert *tls.Certificate, staple bool, why error) error {
	switch {
	case !mustStaple(cert.Leaf):
		return nil
	case !staple:
		return errors.New("the certificate demands a stapled OCSP response, and server.tls.ocsp is false")
	case why != nil:
		return fmt.Errorf("the certificate demands a stapled OCSP response, and none can be had: %w", why)
	}
	return nil
}

// Inspect looks at a certificate without using it: fault is what clients would turn
// away for, warning what needs somebody's attention.
func Inspect(cert *tls.Certificate, staple bool) (fault, warning error) {
	var why error
	if staple {
		_, why = aim(cert)
	}
	now := time.Now()
	if fault = good(cert.Leaf, now); fault == nil {
		fault = demands(cert, staple, why)
	}
	if warning = lasting(cert.Leaf, now); warning == nil && why != nil {
		warning = fmt.Errorf("server.tls.ocsp has nothing to staple: %w", why)
	}
	return fault, warning
}

// Use serves c from the next handshake on. Connections go on as they are.
func (k *Keeper) Use(c *Candidate) {
	k.mu.Lock()
	fresh := c.cert != nil && (k.cert == nil || !sameChain(k.cert, c.cert))
	if fresh {
		k.warned = time.Time{}
		k.taken.WithLabelValues("served").Inc()
		k.conf.Log.Info("a certificate is served from now on", "event", "tls_certificate", "serial", c.cert.Leaf.SerialNumber.Text(16), "until", c.cert.Leaf.NotAfter.UTC())
	}
	if fresh || k.wanted != c.wanted {
		k.fails, k.next = 0, time.Now()
		if c.staple != nil {
			k.next = c.staple.renewal(time.Now())
		}
		if c.why != nil {
			k.conf.Log.Info("nothing will be stapled", "event", "tls_ocsp", "reason", c.why)
		}
	}
	k.cert, k.wanted, k.target, k.why = c.cert, c.wanted, c.target, c.why
	if fresh || !c.wanted || k.staple == nil {
		k.staple = c.staple
	}
	k.publish()
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default: // it is awake already
	}
}

// publish gives handshakes what is kept. The lock is held.
func (k *Keeper) publish() {
	if k.cert == nil {
		k.now.Store(nil)
		return
	}
	s := &served{bare: k.cert}
	if k.staple != nil {
		with := *k.cert
		with.OCSPStaple = k.staple.raw
		s.stapled, s.until = &with, k.staple.until
	}
	k.now.Store(s)
}

// Now is the certificate for a handshake of this moment, with its staple while
// that holds; nil without TLS.
func (k *Keeper) Now() *tls.Certificate {
	s := k.now.Load()
	switch {
	case s == nil:
		return nil
	case s.stapled != nil && time.Now().Before(s.until):
		return s.stapled
	default:
		return s.bare
	}
}

// Serve looks for new certificates and keeps the staple fresh until ctx ends.
func (k *Keeper) Serve(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-t.C:
			k.renew(ctx)
		}
		k.refresh(ctx)
		k.warn()
		t.Reset(k.pause())
	}
}

// pause is how long there is nothing to do.
func (k *Keeper) pause() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.target == nil {
		return renewEvery
	}
	return min(max(time.Until(k.next), 0), renewEvery)
}

// renew takes up what the config's references name by now.
func (k *Keeper) renew(ctx context.Context) {
	if k.conf.Renew == nil {
		return
	}
	k.mu.Lock()
	cert := k.cert
	k.mu.Unlock()
	if cert == nil {
		return // TLS is off, or nothing is served yet
	}
	fresh, staple, err := k.conf.Renew(ctx)
	if err == nil && (fresh == nil || sameChain(fresh, cert)) {
		k.note("")
		return
	}
	var c *Candidate
	if err == nil {
		c, err = k.Prepare(ctx, fresh, staple)
	}
	if err != nil {
		k.note(err.Error())
		return
	}
	k.note("")
	k.Use(c)
}

// note remembers why a new certificate was not taken up, and says so once.
func (k *Keeper) note(refused string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refused != refused && refused != "" {
		k.taken.WithLabelValues("refused").Inc()
		k.conf.Log.Warn("a new certificate was refused; the one in use stays", "event", "tls_certificate_refused", "reason", refused)
	}
	k.refused = refused
}

// refresh fetches a staple where it is time to.
func (k *Keeper) refresh(ctx context.Context) {
	k.mu.Lock()
	t, before, due := k.target, k.staple, !time.Now().Before(k.next)
	k.mu.Unlock()
	if t == nil || !due {
		return
	}
	s, result, err := t.get(ctx, k.conf.Fetch, before)
	if ctx.Err() != nil {
		return
	}
	k.fetches.WithLabelValues(result).Inc()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.target != t {
		return // of another certificate by now
	}
	if err != nil {
		k.next = retry(time.Now(), k.fails, k.staple)
		k.fails++
		k.conf.Log.Warn("no new OCSP response; the last one stays until its end", "event", "tls_ocsp", "result", result, "error", err, "next", k.next.UTC())
		return
	}
	if s.revoked && (before == nil || !before.revoked) {
		k.conf.Log.Error("the certificate in use was revoked by its issuer: replace it", "event", "tls_revoked", "serial", t.leaf.SerialNumber.Text(16))
	}
	k.staple, k.fails, k.next = s, 0, s.renewal(time.Now())
	k.publish()
}

// warn says that the certificate is about to end, twice a day.
func (k *Keeper) warn() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if k.cert == nil || now.Sub(k.warned) < warnEvery {
		return
	}
	if err := lasting(k.cert.Leaf, now); err != nil {
		k.warned = now
		k.conf.Log.Warn("the certificate in use needs to be replaced", "event", "tls_expiry", "reason", err)
	}
}

// Ready says what is wrong with the certificate in use, if something is.
func (k *Keeper) Ready(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cert == nil {
		return nil
	}
	now := time.Now()
	stapled := k.staple != nil && now.Before(k.staple.until)
	switch err := lasting(k.cert.Leaf, now); {
	case stapled && k.staple.revoked:
		return errors.New("the certificate was revoked by its issuer")
	case err != nil:
		return err
	case mustStaple(k.cert.Leaf) && !stapled:
		return errors.New("the certificate demands a stapled OCSP response, and there is none")
	case k.staple != nil && !stapled:
		return errors.New("the stapled OCSP response has ended, and no new one came")
	case k.refused != "":
		return fmt.Errorf("a new certificate was refused: %s", k.refused)
	}
	return nil
}

// good reports whether a certificate is in its time.
func good(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate ended at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Add(skew).Before(leaf.NotBefore):
		return fmt.Errorf("the certificate begins only at %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// lasting reports whether a certificate is good for a while yet.
func lasting(leaf *x509.Certificate, now time.Time) error {
	if err := good(leaf, now); err != nil {
		return err
	}
	if left := leaf.NotAfter.Sub(now); left < min(warnBefore, leaf.NotAfter.Sub(leaf.NotBefore)/4) {
		return fmt.Errorf("the certificate ends at %s, in %s", leaf.NotAfter.UTC().Format(time.RFC3339), left.Round(time.Minute))
	}
	return nil
}

func sameChain(a, b *tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

func (k *Keeper) expiry() float64 {
	s := k.now.Load()
	if s == nil {
		return math.Inf(1)
	}
	return time.Until(s.bare.Leaf.NotAfter).Seconds()
}

func (k *Keeper) stapleExpiry() float64 {
	s := k.now.Load()
	if s == nil || s.stapled == nil {
		return 0
	}
	return max(time.Until(s.until).Seconds(), 0)
}
