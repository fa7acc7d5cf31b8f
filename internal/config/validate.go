// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"net"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode/internal/config/document"
	"github.com/rustyonions/macronode/internal/config/outside"
	"github.com/rustyonions/macronode/internal/config/quantity"
)

// validator holds the rules that look at more than one key.
type validator struct {
	*document.Problems
	c      *Config
	built  Features
	places map[string]int
}

// fail reports a problem at a key's line; where the key is not in the file, at
// the line of the table it would stand in.
func (v *validator) fail(key, format string, args ...any) {
	v.Bad(lineOf(v.places, key), key, format, args...)
}

func lineOf(places map[string]int, key string) int {
	for k := key; k != ""; {
		if line := places[k]; line > 0 {
			return line
		}
		i := strings.LastIndexByte(k, '.')
		if i < 0 {
			break
		}
		k = k[:i]
	}
	return 0
}

// check applies every rule; each key has passed its own.
func (v *validator) check() {
	v.settle()
	v.listeners()
	v.tls()
	v.limits()
	v.policy()
	outside.CheckWitnesses(v.c.Audit.Witnesses, v.c.Audit.WitnessQuorum, v.fail)
	outside.CheckSinks(v.c.Audit.Sinks, v.fail)
	v.features()
}

// settle lowers defaults that another key's value makes too great, so that who
// lowers one limit need not name the other. What stands in the file is judged as
// it stands.
func (v *validator) settle() {
	s, o := &v.c.Server, &v.c.OAP
	if v.places["server.max_conns_per_ip"] == 0 {
		s.MaxConnsPerIP = min(s.MaxConnsPerIP, s.MaxConns)
	}
	if v.places["oap.chunk_bytes"] == 0 {
		o.ChunkBytes = min(o.ChunkBytes, o.MaxFrameBytes)
	}
}

func (v *validator) listeners() {
	s := &v.c.Server
	addrs := []struct{ key, addr string }{
		{"server.bind", s.Bind}, {"server.admin_bind", s.AdminBind}, {"oap.bind", v.c.OAP.Bind},
	}
	for i, a := range addrs {
		for _, b := range addrs[i+1:] {
			if a.addr != "" && clash(a.addr, b.addr) {
				v.fail(b.key, "%q is the address of %s too; each listener needs its own", b.addr, a.key)
			}
		}
	}
	if s.UDS == "" && len(s.UDSAllowUIDs) > 0 {
		v.fail("server.uds_allow_uids", "has no effect without server.uds")
	}
	if len(s.UDS) > maxSocketPath {
		v.fail("server.uds", "has %d bytes; a Unix socket's path has at most %d", len(s.UDS), maxSocketPath)
	}
	if s.LameDuck >= s.DrainTimeout {
		v.fail("server.lame_duck", "must be shorter than server.drain_timeout (%s)", quantity.FormatDuration(s.DrainTimeout))
	}
	if n := len(v.c.OAP.Peers); n > MaxPeers {
		v.fail("oap.peers", "names %d peers; at most %d are accepted", n, MaxPeers)
	}
	if len(v.c.OAP.Peers) > 0 && !s.TLS.Enabled {
		v.fail("oap.peers", "peers are known by TLS: needs server.tls.enabled = true")
	}
	for i, p := range v.c.OAP.Peers {
		if _, port, err := net.SplitHostPort(p.Addr); err == nil && port == "0" {
			v.fail("oap.peers["+strconv.Itoa(i)+"].addr", "port 0 is nobody's: want the peer's oap.bind port")
		}
		for j, q := range v.c.OAP.Peers[:i] {
			if p.NodeID != "" && p.NodeID == q.NodeID {
				v.fail("oap.peers["+strconv.Itoa(i)+"].node_id", "duplicate: peer %d has it too", j)
			}
		}
	}
}

// MaxPeers bounds oap.peers: each is a session, and each gossip goes to all.
const MaxPeers = 64

// maxSocketPath is sockaddr_un's room for a path, less its terminator.
const maxSocketPath = 107

// clash reports whether two listeners cannot both be opened.
func clash(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || hostA == "0.0.0.0" || hostB == "0.0.0.0" || hostA == "::" || hostB == "::"
}

func (v *validator) tls() {
	t := &v.c.Server.TLS
	if !t.Enabled {
		// These would be ignored without a word, and the operator would believe
		// that they hold.
		if t.ClientAuth != "none" {
			v.fail("server.tls.client_auth", "has no effect where server.tls.enabled is false")
		}
		if t.PQ == "require" {
			v.fail("server.tls.pq", "has no effect where server.tls.enabled is false")
		}
		if t.OCSP {
			v.fail("server.tls.ocsp", "has no effect where server.tls.enabled is false")
		}
		return
	}
	if t.KMSKey.IsZero() {
		v.fail("server.tls.kms_key", "must be set where server.tls.enabled is true; want %s", forms()["kmskey"].want)
	}
	if t.CertChain.IsZero() {
		v.fail("server.tls.cert_chain", "must be set where server.tls.enabled is true; want %s", forms()["kmsobj"].want)
	}
	if t.ClientAuth != "none" && t.ClientCA.IsZero() {
		v.fail("server.tls.client_ca", "must be set where server.tls.client_auth is %q; want %s", t.ClientAuth, forms()["kmsobj"].want)
	}
	if t.ClientAuth == "none" && !t.ClientCA.IsZero() {
		v.fail("server.tls.client_ca", "has no effect where server.tls.client_auth is %q; want client_auth %q or %q", "none", "optional", "require")
	}
}

func (v *validator) limits() {
	s, o := &v.c.Server, &v.c.OAP
	if s.MaxConnsPerIP > s.MaxConns {
		v.fail("server.max_conns_per_ip", "%d is more than server.max_conns (%d)", s.MaxConnsPerIP, s.MaxConns)
	}
	if o.ChunkBytes > o.MaxFrameBytes {
		v.fail("oap.chunk_bytes", "%d is more than oap.max_frame_bytes (%d)", o.ChunkBytes, o.MaxFrameBytes)
	}
}

func (v *validator) policy() {
	if !v.c.Policy.DenyByDefault {
		v.fail("policy.deny_by_default", "only true is accepted: what no policy permits is denied")
	}
	switch p := &v.c.Policy; {
	case p.ShadowKMS.IsZero() != p.ShadowHash.IsZero():
		v.fail("policy.shadow_kms", "policy.shadow_kms and policy.shadow_hash are given together or not at all")
	case !p.ShadowHash.IsZero() && p.ShadowHash == p.BundleHash:
		v.fail("policy.shadow_hash", "is the policy in force itself: there is nothing to compare")
	}
	if z := &v.c.ZK; z.Enabled {
		if z.Kind == "NoOp" {
			v.fail("zk.kind", "%q verifies nothing; want \"groth16\" or \"plonk\" where zk.enabled is true", z.Kind)
		}
		if z.VerifyingKey.IsZero() && z.VerifyingKeyB64 == "" {
			v.fail("zk.verifying_key", "must be set where zk.enabled is true, or verifying_key_b64")
		}
		if z.ParamHashHex == "" {
			v.fail("zk.param_hash_hex", "must be set where zk.enabled is true; want %s", forms()["hash"].want)
		}
	}
	if z := &v.c.ZK; !z.VerifyingKey.IsZero() && z.VerifyingKeyB64 != "" {
		v.fail("zk.verifying_key_b64", "stands beside zk.verifying_key; want one of them")
	}
	if t := &v.c.Tor; t.Enabled && t.ServiceKey.IsZero() {
		v.fail("tor.service_key", "must be set where tor.enabled is true; want %s", forms()["kmskey"].want)
	}
	if e := &v.c.Econ; e.EnableWallet && !e.EnableLedger {
		v.fail("econ.enable_wallet", "needs econ.enable_ledger")
	}
	if e := &v.c.Econ; e.EnableRewarder && !e.EnableWallet {
		v.fail("econ.enable_rewarder", "needs econ.enable_wallet")
	}
}
