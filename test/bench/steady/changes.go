// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package steady

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/test/bench/operate"
	"github.com/rustyonions/macronode/test/bench/report"
)

// How often what is changed.
const (
	Reloads       = 20
	KeyRotations  = 5
	CertRotations = 3
)

// shown is how long a new certificate may take to be shown.
const shown = 10 * time.Second

// Changes are made to a node under load.
type Changes struct {
	Node      *operate.Node
	Authority *operate.Authority
	Tenant    operate.Tenant // the load's
	Key       string         // of purpose app
	Load      *Load

	reloads, keys int
}

// Change is one, and how long it took.
type Change struct {
	Name string
	Took time.Duration
}

// Make spreads all changes over the load's requests. It fails if one does, or
// falls behind the last request.
func (c *Changes) Make(ctx context.Context) ([]Change, error) {
	type step struct {
		name string
		do   func(context.Context) error
	}
	var steps []step
	for i := range Reloads {
		steps = append(steps, step{"reload", c.reload})
		if i%(Reloads/KeyRotations) == 1 {
			steps = append(steps, step{"key rotation", c.rotateKey})
		}
		if i%6 == 4 {
			steps = append(steps, step{"certificate rotation", c.rotateCertificate})
		}
	}
	var made []Change
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i, s := range steps {
		for at := (i + 1) * c.Load.Requests / (len(steps) + 2); c.Load.Done() < at; {
			select {
			case <-ctx.Done():
				return made, ctx.Err()
			case <-tick.C:
			}
		}
		begun := time.Now()
		if err := s.do(ctx); err != nil {
			return made, fmt.Errorf("%s (change %d): %w", s.name, i+1, err)
		}
		made = append(made, Change{s.name, time.Since(begun)})
		report.Say("%d requests, change %d of %d: %s, %.2f s", c.Load.Done(), i+1, len(steps), s.name, time.Since(begun).Seconds())
		if c.Load.Done() >= c.Load.Requests {
			return made, fmt.Errorf("the load was over before change %d was made; make it longer", i+1)
		}
	}
	return made, nil
}

// reload changes limits, time-outs and the log level, and each fourth time the
// policy bundle as well.
func (c *Changes) reload(ctx context.Context) error {
	c.reloads++
	level := []string{`"warn"`, `"info"`}[c.reloads%2]
	if c.reloads%4 == 0 {
		if err := c.Node.Policy(ctx, c.Tenant); err != nil {
			return err
		}
	}
	n := strconv.Itoa
	err := c.Node.Edit(ctx, func(text string) string {
		text = operate.Set("server", map[string]string{"max_inflight": n(600 + c.reloads), "max_conns": n(9000 + c.reloads), "stall_timeout": `"` + n(10+c.reloads) + `s"`})(text)
		text = operate.Set("policy", map[string]string{"cache_ttl_ms": n(200 + c.reloads)})(text)
		return operate.Set("telemetry", map[string]string{"log_level": level})(text)
	})
	if err != nil {
		return err
	}
	return c.Node.Reload(ctx)
}

// rotateKey rotates the minting key of the load's tenant twice, and the key that
// the load signs with otherwise. What was minted and signed before stays in use.
func (c *Changes) rotateKey(ctx context.Context) error {
	c.keys++
	cl, err := c.Node.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	name := c.Key
	if c.keys%2 == 0 {
		name = "mint-" + strings.ToLower(c.Tenant.ID)
	}
	if err := cl.JSON(ctx, "POST", "/v1/kms/keys/"+name+"/rotate", "", nil, nil); err != nil || name == c.Key {
		return err
	}
	token, err := c.Node.Mint(ctx, c.Tenant.ID)
	if err == nil {
		c.Load.Use(token)
	}
	return err
}

// rotateCertificate gives the listener a new key and a certificate for it, and
// waits until new connections are shown that.
func (c *Changes) rotateCertificate(ctx context.Context) error {
	cl, err := c.Node.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	var asked struct {
		CSR string `json:"csr"`
	}
	err = cl.JSON(ctx, "POST", "/v1/kms/keys/"+operate.TLSKey+"/rotate", "", nil, nil)
	if err == nil {
		err = cl.JSON(ctx, "POST", "/v1/kms/keys/"+operate.TLSKey+"/csr", "", map[string]any{"dns": []string{"localhost"}}, &asked)
	}
	if err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(asked.CSR))
	if block == nil {
		return errors.New("the request for a certificate is no PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return err
	}
	chain, serial, err := c.Authority.Issue(csr.PublicKey)
	if err == nil {
		err = cl.PutRaw(ctx, "/v1/kms/objects/"+operate.TLSChain, chain, new(json.RawMessage))
	}
	if err == nil {
		err = c.Node.Reload(ctx)
	}
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(shown); ; {
		got, err := c.shownSerial(ctx)
		if err == nil && got == serial {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("new connections are shown certificate %d, not %d, %s after the reload: %w", got, serial, shown, err)
		}
	}
}

// shownSerial is that of the certificate on a new connection.
func (c *Changes) shownSerial(ctx context.Context) (int64, error) {
	d := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: c.Node.Roots}}
	conn, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(c.Node.URL, "https://"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}
