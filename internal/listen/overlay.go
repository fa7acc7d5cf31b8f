// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"

	"lukechampine.com/blake3"
)

// OverlayProto is the ALPN protocol of sessions between nodes. Who offers it is
// shown the certificate of the node's own key, whatever clients are shown, and
// must show that of its own.
const OverlayProto = "ron-overlay/1"

// OverlayTLS is how a listener takes sessions of other nodes. Both fields are
// needed.
type OverlayTLS struct {
	// Certificate is the certificate of the node's own key.
	Certificate func() *tls.Certificate
	// Known reports whether the node with this id may have a session now. It is
	// asked once a handshake.
	Known func(nodeID string) bool
}

var errNotPeer = errors.New("listen: the node is no peer")

// config is the TLS of sessions between nodes. Names, dates and issuers in the
// certificates mean nothing: a handshake proves possession of the key, and the
// key's hash is the node's id. Sessions are not resumed, so that each is held
// against the peers of its time.
func (o *OverlayTLS) config() (*tls.Config, error) {
	if o.Certificate == nil || o.Known == nil {
		return nil, errors.New("listen: sessions between nodes need a certificate and to know the peers")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}, NextProtos: []string{OverlayProto},
		ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if cert := o.Certificate(); cert != nil {
				return cert, nil
			}
			return nil, errNoCertificate
		},
		VerifyConnection: func(st tls.ConnectionState) error {
			if len(st.PeerCertificates) == 0 || !o.Known(nodeIDOf(st.PeerCertificates[0])) {
				return errNotPeer
			}
			return nil
		},
	}, nil
}

// nodeIDOf is the id of the node whose key a certificate is for.
func nodeIDOf(cert *x509.Certificate) string {
	spki := blake3.Sum256(cert.RawSubjectPublicKeyInfo)
	return "b3:" + hex.EncodeToString(spki[:])
}
