// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package outward

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/internal/svc/audit/cosign"
	"github.com/rustyonions/macronode/tlog"
)

const (
	// maxAnswerBytes bounds what is read of an answer.
	maxAnswerBytes = 64 << 10
	// sizeType is the media type of a witness's answer that says where it is.
	sizeType = "text/x.tlog.size"
	// maxProofLines is the most hashes that a witness takes.
	maxProofLines = 63
	handshake     = 5 * time.Second
	idle          = 90 * time.Second
)

// Client calls what is outside. Close it when nothing uses it any more.
type Client struct{ hc *http.Client }

// New returns a client with connections of its own.
func New() *Client {
	return &Client{&http.Client{
		Transport: &http.Transport{Proxy: nil, ForceAttemptHTTP2: true, TLSHandshakeTimeout: handshake, IdleConnTimeout: idle, MaxIdleConnsPerHost: 2},
		// What is sent is for the address that the operator named, and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close drops the connections that are idle.
func (c *Client) Close() { c.hc.CloseIdleConnections() }

// post sends body and returns the answer's status, type and beginning.
func (c *Client) post(ctx context.Context, target, contentType string, header http.Header, body []byte) (status int, h http.Header, text []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, errors.New("its address cannot be called")
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "macronode")
	resp, err := c.hc.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1)); err != nil {
		return 0, nil, nil, fmt.Errorf("its answer broke off: %w", err)
	}
	if len(text) > maxAnswerBytes {
		return 0, nil, nil, fmt.Errorf("its answer has more than %d bytes", maxAnswerBytes)
	}
	return resp.StatusCode, resp.Header, text, nil
}

// Witness returns the witness whose submission prefix is a URL.
func (c *Client) Witness(prefix string) cosign.Client {
	return witness{c, strings.TrimRight(prefix, "/") + "/add-checkpoint"}
}

type witness struct {
	c      *Client
	target string
}

// AddCheckpoint implements cosign.Client.
func (w witness) AddCheckpoint(ctx context.Context, old uint64, proof tlog.Path, note []byte) ([]byte, error) {
	if len(proof) > maxProofLines {
		return nil, fmt.Errorf("a proof of %d hashes is more than a witness takes", len(proof))
	}
	body := strconv.AppendUint([]byte("old "), old, 10)
	for i := range proof {
		body = base64.StdEncoding.AppendEncode(append(body, '\n'), proof[i][:])
	}
	body = append(append(body, "\n\n"...), note...)
	status, h, text, err := w.c.post(ctx, w.target, "text/plain; charset=utf-8", nil, body)
	if err != nil {
		return nil, err
	}
	switch {
	case status == http.StatusOK:
		return text, nil
	case status == http.StatusConflict && mediaType(h) == sizeType:
		n, err := strconv.ParseUint(strings.TrimSuffix(string(text), "\n"), 10, 64)
		if err != nil || n > tlog.MaxTreeSize {
			return nil, errors.New("it says 409 with a size that is none")
		}
		return nil, &cosign.SizeError{Size: n}
	case status == http.StatusConflict:
		return nil, &cosign.SizeError{Size: old} // of this size it signed another tree
	case status == http.StatusUnprocessableEntity:
		return nil, fmt.Errorf("%w: the log does not extend what it signed before (422)", cosign.ErrRefused)
	case status == http.StatusForbidden:
		return nil, fmt.Errorf("%w: it trusts none of the log's keys (403)", cosign.ErrRefused)
	case status == http.StatusNotFound:
		return nil, fmt.Errorf("%w: it does not know this log (404)", cosign.ErrRefused)
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500:
		return nil, fmt.Errorf("it answers %d", status)
	}
	return nil, fmt.Errorf("%w: it answers %d", cosign.ErrRefused, status)
}

func mediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.TrimSpace(t)
}
