// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/rustyonions/macronode"
)

// maxSubject bounds what is kept of a client certificate's subject.
const maxSubject = 512

// addrOf is the address of a socket's end; invalid on a Unix socket.
func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// certify fills in what the client's certificate says.
func certify(p *macronode.Peer, cert *x509.Certificate) {
	p.CertHash = sha256.Sum256(cert.Raw)
	p.Subject = cert.Subject.String()
	if len(p.Subject) > maxSubject {
		p.Subject = strings.ToValidUTF8(p.Subject[:maxSubject], "")
	}
	p.NodeID = nodeIDOf(cert)
}

// RedactAddr is how a client's address may stand in a log: its /24 or /64.
func RedactAddr(a netip.Addr) string {
	bits := 24
	if a = a.Unmap(); a.Is6() {
		bits = 64
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil || !p.IsValid() {
		return "unknown"
	}
	return p.String()
}

// maxHops bounds how many forwarded addresses are looked at.
const maxHops = 32

// ErrForwarded says that forwarding headers contradict each other.
var ErrForwarded = errors.New("X-Forwarded-For and Forwarded name different clients")

// Client finds the client behind a trusted proxy: the rightmost address in
// X-Forwarded-For (xff) or Forwarded (fwd) that is not itself a trusted proxy.
// An address that a proxy hid ends the search at that proxy. It must be called
// for sockets of trusted proxies alone; from others the headers are lies.
// Where both headers are there they must agree: a proxy writes one and passes
// the other through as the client made it, and nobody can tell which is which.
func (c *Caps) Client(socket netip.Addr, xff, fwd []string) (netip.Addr, error) {
	switch {
	case len(fwd) == 0:
		return c.walk(socket, xff, plainHop), nil
	case len(xff) == 0:
		return c.walk(socket, fwd, forwardedHop), nil
	}
	a, b := c.walk(socket, xff, plainHop), c.walk(socket, fwd, forwardedHop)
	if a != b {
		return netip.Addr{}, ErrForwarded
	}
	return a, nil
}

// walk goes through the comma lists from the right.
func (c *Caps) walk(last netip.Addr, lists []string, parse func(string) (netip.Addr, bool)) netip.Addr {
	hops := 0
	for i := len(lists) - 1; i >= 0; i-- {
		for rest, more := lists[i], true; more; {
			var item string
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, item = rest[:at], rest[at+1:]
			} else {
				item, more = rest, false
			}
			if item = strings.Trim(item, " \t"); item == "" {
				continue
			}
			if hops++; hops > maxHops {
				return last
			}
			a, ok := parse(item)
			if !ok {
				return last
			}
			if last = a; !c.Trusted(a) {
				return a
			}
		}
	}
	return last
}

// plainHop reads one element of X-Forwarded-For: an address, perhaps with a port.
func plainHop(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// forwardedHop reads the for= of one element of Forwarded (RFC 7239).
func forwardedHop(s string) (netip.Addr, bool) {
	for pair := range strings.SplitSeq(s, ";") {
		k, v, ok := strings.Cut(pair, "=")
		if ok && strings.EqualFold(strings.Trim(k, " \t"), "for") {
			return plainHop(strings.Trim(strings.Trim(v, " \t"), `"`))
		}
	}
	return netip.Addr{}, false
}
