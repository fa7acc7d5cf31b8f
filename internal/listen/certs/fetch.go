// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Limits of one fetch.
const (
	fetchTime  = 10 * time.Second
	maxAnswer  = 64 << 10
	maxURL     = 2048
	maxServers = 4 // responders of one certificate that are tried
)

// Fetch posts an OCSP request and returns the response as it came. It opens a
// connection of its own, by no proxy, follows no redirect, and connects to no
// link-local, multicast or unspecified address, whatever a name resolves to:
// those are where machines keep their own secrets. Private addresses and loopback
// are allowed, since that is where an organisation's own responder is.
func Fetch(ctx context.Context, address string, request []byte) ([]byte, error) {
	if err := checkURL(address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	dialer := net.Dialer{Timeout: fetchTime, Control: func(_, address string, _ syscall.RawConn) error { return checkAddr(address) }}
	tr := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10}
	client := http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	r.Header.Set("Accept", "application/ocsp-response")
	r.Header.Set("User-Agent", "macronode")
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the responder answered with status %d", resp.StatusCode)
	}
	if t := resp.Header.Get("Content-Type"); t != "application/ocsp-response" {
		return nil, errors.New("the responder's answer is no application/ocsp-response")
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("the responder's answer is larger than %d bytes", maxAnswer)
	}
	return b, nil
}

// checkURL takes plain http and https addresses.
func checkURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || len(address) > maxURL:
		return errors.New("the responder's address is no URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("the responder's address is neither http nor https")
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return errors.New("the responder's address is not a plain one")
	}
	return nil
}

// metadataV6 is where a large cloud serves machines their credentials on IPv6.
var metadataV6 = netip.MustParseAddr("fd00:ec2::254")

// checkAddr judges the address that a connection is about to be made to.
func checkAddr(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return errors.New("the responder has no address")
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == metadataV6 || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return errors.New("the responder's address is one that is never connected to")
	}
	return nil
}
