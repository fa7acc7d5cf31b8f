// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package dial makes the connections of sessions between nodes: TLS 1.3 with the
// key exchange X25519MLKEM768, both sides known by their node keys. No authority
// vouches for anybody: a handshake proves possession of the key in the
// certificate, and a node's id is that key's hash. What else the certificate
// says, its dates too, means nothing.
package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/rustyonions/macronode/revocation"
)

// Proto is the ALPN protocol that asks a listener for its node key.
const Proto = "ron-overlay/1"

// Time limits of an attempt. They are short: while a link is down attempts end
// soon, so that the first one after it is back begins soon.
const (
	connectTimeout = 750 * time.Millisecond
	attemptTimeout = 1500 * time.Millisecond
)

// ErrImpostor says that another node than the one wanted answered at the address.
var ErrImpostor = errors.New("another node's key is at this address")

// ErrClassical says that the other side does not speak the overlay's TLS.
var ErrClassical = errors.New("no session between nodes is spoken at this address")

// Dialer makes connections with one node key. It may be used by many at once.
type Dialer struct {
	// Certificate is that of this node's own key; nil fails the attempt.
	Certificate func() *tls.Certificate
}

// Dial connects to the node at addr (HOST:PORT), which must prove that it has the
// key of that id. The attempt takes at most a second and a half.
func (d *Dialer) Dial(ctx context.Context, addr, nodeID string) (net.Conn, error) {
	own := d.Certificate()
	if own == nil {
		return nil, errors.New("there is no certificate of this node's key")
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	tcp := net.Dialer{Timeout: connectTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: false}}
	raw, err := tcp.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}, NextProtos: []string{Proto},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil },
		// There is no name and no authority to verify: the key is, below.
		InsecureSkipVerify: true,
		VerifyConnection: func(st tls.ConnectionState) error {
			if st.NegotiatedProtocol != Proto {
				return ErrClassical
			}
			if len(st.PeerCertificates) == 0 || revocation.NodeID(st.PeerCertificates[0].RawSubjectPublicKeyInfo) != nodeID {
				return ErrImpostor
			}
			return nil
		},
	})
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return c, nil
}
