// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/listen/certs"
	"github.com/rustyonions/macronode/internal/listen/gateway"
	"github.com/rustyonions/macronode/internal/listen/oapd"
)

// Names of the endpoints.
const (
	endpointHTTP  = "server.bind"
	endpointAdmin = "server.admin_bind"
	endpointUDS   = "server.uds"
	endpointLocal = datadir.AdminSocketName
	endpointOAP   = "oap.bind"
)

// handshakeTimeout bounds a TLS handshake.
const handshakeTimeout = 10 * time.Second

func (n *Node) listenRules(c *config.Config) (listen.Rules, error) {
	r := listen.Rules{MaxConns: int(c.Server.MaxConns), MaxConnsPerIP: int(c.Server.MaxConnsPerIP)}
	for _, s := range c.Server.TrustedProxies {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return r, fmt.Errorf("server.trusted_proxies: %w", err)
		}
		r.TrustedProxies = append(r.TrustedProxies, p)
	}
	return r, nil
}

func gatewayLimits(c *config.Config) gateway.Limits {
	s := &c.Server
	return gateway.Limits{ReadHeaderTimeout: s.ReadHeaderTimeout, IdleTimeout: s.IdleTimeout, RequestTimeout: s.RequestTimeout,
		StallTimeout: s.StallTimeout, MaxFrameBytes: c.OAP.MaxFrameBytes, ChunkBytes: c.OAP.ChunkBytes, CORSOrigins: s.CORSOrigins, SeparateAdmin: s.AdminBind != ""}
}

func oapLimits(c *config.Config) oapd.Limits {
	return oapd.Limits{MaxFrameBytes: int(c.OAP.MaxFrameBytes), ChunkBytes: int(c.OAP.ChunkBytes), MaxInflight: int(c.OAP.MaxInflight),
		MaxStreams: int(c.OAP.MaxStreams), IdleTimeout: c.Server.IdleTimeout, StallTimeout: c.Server.StallTimeout,
		RequestTimeout: c.Server.RequestTimeout, SeparateAdmin: c.Server.AdminBind != ""}
}

// makeListeners makes both wires. Nothing is accepted yet.
func (n *Node) makeListeners(_ context.Context, l *config.Loaded) error {
	c := &l.Config
	rules, err := n.listenRules(c)
	if err != nil {
		return err
	}
	if n.caps, err = listen.NewCaps(rules); err != nil {
		return err
	}
	count := listen.NewMetrics(n.metrics)
	if n.httpSet, err = listen.NewSet(listen.SetConfig{Wire: "http", Caps: n.caps, Metrics: count, Log: n.log}); err != nil {
		return err
	}
	n.onStop("HTTP sockets", n.httpSet.Close)
	if n.oapSet, err = listen.NewSet(listen.SetConfig{Wire: "oap", Caps: n.caps, Metrics: count, Log: n.log}); err != nil {
		return err
	}
	n.onStop("OAP sockets", n.oapSet.Close)
	if n.certs, err = certs.New(certs.Config{Renew: n.renewCertificate, Metrics: n.metrics, Log: n.log}); err != nil {
		return err
	}
	if n.gateway, err = gateway.New(gateway.Config{Set: n.httpSet, Caps: n.caps, Server: n.wall, Limits: gatewayLimits(c), Metrics: gateway.NewMetrics(n.metrics), Admin: operatorsOnly(n.wall.Bindings()), Reject: n.wall.Reject, Log: n.log}); err != nil {
		return err
	}
	n.oapd, err = oapd.New(oapd.Config{Set: n.oapSet, Server: n.wall, Adopt: n.adoptSession, Limits: oapLimits(c), Metrics: oapd.NewMetrics(n.metrics),
		Admin: operatorsOnly(n.wall.Bindings()), Reject: n.wall.Reject, Log: n.log})
	return err
}

// door keeps a listener from serving before the node is ready for calls: its
// sockets are bound last, and until then it has nothing to be ready for.
type door struct {
	macronode.Service
	open <-chan struct{}
}

// Serve implements macronode.Service.
func (d door) Serve(ctx context.Context) error {
	select {
	case <-d.open:
		return d.Service.Serve(ctx)
	case <-ctx.Done():
		return nil
	}
}

// Ready implements macronode.Service.
func (d door) Ready(ctx context.Context) error {
	select {
	case <-d.open:
		return d.Service.Ready(ctx)
	default:
		return nil
	}
}

// sockets is a verified change of what is listened on.
type sockets struct {
	http, oap *listen.Change
	cert      *certs.Candidate
}

// prepareSockets binds what the config asks for, without accepting.
func (n *Node) prepareSockets(ctx context.Context, c *config.Config) (*sockets, error) {
	s := &sockets{}
	cert, err := n.certificate(ctx, c)
	if err == nil {
		s.cert, err = n.certs.Prepare(ctx, cert, c.Server.TLS.OCSP)
	}
	if err != nil {
		return nil, datadir.Exitf(macronode.ExitConfig, "server.tls: %w", err)
	}
	var httpTLS, oapTLS *listen.TLS
	if c.Server.TLS.Enabled {
		if httpTLS, err = n.listenTLS(c, nil, "h2", "http/1.1"); err != nil {
			return nil, err
		}
		if oapTLS, err = n.listenTLS(c, n.overlayTLS()); err != nil {
			return nil, err
		}
	}
	if s.http, err = n.httpSet.Prepare(n.httpEndpoints(c, httpTLS)); err != nil {
		return nil, bindError(err)
	}
	oap := listen.Endpoint{Name: endpointOAP, Network: "tcp", Addr: c.OAP.Bind, TLS: oapTLS, HandshakeTimeout: handshakeTimeout, StallTimeout: c.Server.StallTimeout}
	if s.oap, err = n.oapSet.Prepare([]listen.Endpoint{oap}); err != nil {
		s.http.Abort()
		return nil, bindError(err)
	}
	return s, nil
}

func bindError(err error) error { return datadir.Exitf(macronode.ExitConfig, "listen: %w", err) }

func (n *Node) httpEndpoints(c *config.Config, t *listen.TLS) []listen.Endpoint {
	endpoint := func(name, network, addr string) listen.Endpoint {
		return listen.Endpoint{Name: name, Network: network, Addr: addr, TLS: t, HandshakeTimeout: handshakeTimeout,
			StallTimeout: c.Server.StallTimeout, PlainAnswer: gateway.PlainAnswer()}
	}
	uid := uint32(os.Getuid())
	list := []listen.Endpoint{endpoint(endpointHTTP, "tcp", c.Server.Bind)}
	if c.Server.AdminBind != "" {
		admin := endpoint(endpointAdmin, "tcp", c.Server.AdminBind)
		admin.Admin = true
		list = append(list, admin)
	}
	unix := func(name, path string, uids []uint32, admin bool) {
		e := endpoint(name, "unix", path)
		e.TLS, e.PlainAnswer, e.AllowUIDs, e.Admin = nil, nil, uids, admin
		list = append(list, e)
	}
	if c.Server.UDS != "" {
		uids := []uint32{uid}
		for _, id := range c.Server.UDSAllowUIDs {
			uids = append(uids, uint32(id))
		}
		unix(endpointUDS, c.Server.UDS, uids, false)
	}
	unix(endpointLocal, n.dir.At(datadir.AdminSocketName), []uint32{uid}, true)
	return list
}

// certificate reads the certificate that c names, nil where TLS is off.
func (n *Node) certificate(ctx context.Context, c *config.Config) (*tls.Certificate, error) {
	if !c.Server.TLS.Enabled {
		return nil, nil
	}
	return n.keys.Certificate(ctx, c.Server.TLS.KMSKey, c.Server.TLS.CertChain)
}

// renewCertificate is the certificate that the config in force names by now: a
// reference without a version means the newest.
func (n *Node) renewCertificate(ctx context.Context) (*tls.Certificate, bool, error) {
	c := n.config()
	cert, err := n.certificate(ctx, c)
	return cert, c.Server.TLS.OCSP, err
}

func (n *Node) listenTLS(c *config.Config, peers *listen.OverlayTLS, protos ...string) (*listen.TLS, error) {
	t := &c.Server.TLS
	conf := listen.TLSConfig{Certificate: n.certs.Now, ClientAuth: t.ClientAuth, PQ: t.PQ, NextProtos: protos, Overlay: peers}
	if !t.ClientCA.IsZero() {
		pem, _, err := n.keys.Object(t.ClientCA)
		if err != nil {
			return nil, datadir.Exitf(macronode.ExitConfig, "server.tls.client_ca: %w", err)
		}
		conf.ClientCAs = x509.NewCertPool()
		if !conf.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, datadir.Exitf(macronode.ExitConfig, "server.tls.client_ca: %s holds no certificate", t.ClientCA)
		}
	}
	out, err := listen.NewTLS(conf)
	if err != nil {
		return nil, datadir.Exitf(macronode.ExitConfig, "server.tls: %w", err)
	}
	return out, nil
}

func (s *sockets) abort() {
	s.http.Abort()
	s.oap.Abort()
}

// commit listens as prepared from now on.
func (n *Node) commitSockets(s *sockets) error {
	n.certs.Use(s.cert)
	return errors.Join(s.http.Commit(), s.oap.Commit())
}

// accept opens the doors: the last step of a start.
func (n *Node) accept(ctx context.Context, l *config.Loaded) error {
	s, err := n.prepareSockets(ctx, &l.Config)
	if err != nil {
		return err
	}
	if err := errors.Join(n.confirm(ctx, l), n.applyQuotas(ctx)); err != nil {
		s.abort()
		return err
	}
	if err := n.commitSockets(s); err != nil {
		return bindError(err)
	}
	close(n.open)
	for name, addr := range n.httpSet.Addrs() {
		n.log.Info("listening", "event", "listening", "endpoint", name, "addr", addr.String())
	}
	for name, addr := range n.oapSet.Addrs() {
		n.log.Info("listening", "event", "listening", "endpoint", name, "addr", addr.String())
	}
	if err := n.writeOperatorCap(ctx); err != nil {
		return err
	}
	return n.writeEndpoints(l)
}

// writeOperatorCap writes a fresh operator capability where --operator-cap-out
// asks for one.
func (n *Node) writeOperatorCap(ctx context.Context) error {
	path := n.opts.Overrides.OperatorCapOut.Value
	if path == "" {
		return nil
	}
	token, err := n.access.MintFor(ctx, macronode.SystemTenant)
	if err != nil {
		return err
	}
	return n.dir.FS.ReplaceFile(path, []byte(token.Text()+"\n"), disk.FileMode)
}

// endpoints is what --endpoints (and development mode) keeps while listening.
type endpoints struct {
	HTTP        string `json:"http"`
	OAP         string `json:"oap"`
	PID         int    `json:"pid"`
	OperatorCap string `json:"operator_cap"`
	TenantCap   string `json:"tenant_cap"`
}

func (n *Node) endpoints() endpoints {
	c := n.config()
	scheme := "http"
	if c.Server.TLS.Enabled {
		scheme = "https"
	}
	e := endpoints{HTTP: scheme + "://" + n.httpSet.Addrs()[endpointHTTP].String(), OAP: n.oapSet.Addrs()[endpointOAP].String(), PID: os.Getpid()}
	if n.dir.Exists(datadir.OperatorCapName) {
		e.OperatorCap = n.dir.At(datadir.OperatorCapName)
	}
	if n.dir.Exists(datadir.TenantCapName) {
		e.TenantCap = n.dir.At(datadir.TenantCapName)
	}
	return e
}

func (n *Node) writeEndpoints(*config.Loaded) error {
	path := n.opts.Overrides.Endpoints.Value
	if path == "" {
		if !n.opts.dev {
			return nil
		}
		path = n.dir.At(datadir.EndpointsName)
	}
	text, err := json.Marshal(n.endpoints())
	if err != nil {
		return err
	}
	n.onStop("endpoints file", func(context.Context) error {
		if err := n.dir.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	return n.dir.FS.ReplaceFile(path, append(text, '\n'), disk.FileMode)
}
