// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package outward

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/rustyonions/macronode/internal/svc/audit/forward"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
)

// Secret is what the far side wants to see, read each time: a bearer token. nil: none.
type Secret func(ctx context.Context) ([]byte, error)

// NDJSON returns the sink that posts records to a URL, one a line. Any 2xx takes them;
// Idempotency-Key is the same for the same records.
func (c *Client) NDJSON(target string, token Secret) forward.Sink { return ndjson{c, target, token} }

type ndjson struct {
	c      *Client
	target string
	token  Secret
}

// Deliver implements forward.Sink.
func (s ndjson) Deliver(ctx context.Context, rows []tree.Row) (int, error) {
	h, err := header(ctx, s.token)
	if err != nil {
		return 0, err
	}
	first, last := rows[0].Record, rows[len(rows)-1].Record
	h.Set("Idempotency-Key", fmt.Sprintf("%s-%d-%d", tree.Origin(first.Writer), first.Seq, last.Seq))
	status, _, _, err := s.c.post(ctx, s.target, "application/x-ndjson", h, lines(rows))
	return 0, taken(status, err)
}

// lines are the entries, one a line.
func lines(rows []tree.Row) []byte {
	var body []byte
	for i := range rows {
		body = append(append(body, rows[i].Entry...), '\n')
	}
	return body
}

// header carries the token, which goes nowhere else.
func header(ctx context.Context, token Secret) (http.Header, error) {
	h := http.Header{}
	if token == nil {
		return h, nil
	}
	t, err := token(ctx)
	if err != nil {
		return nil, fmt.Errorf("its token cannot be read: %w", err)
	}
	defer clear(t)
	for _, b := range t {
		if b <= ' ' || b > '~' {
			return nil, errors.New("its token is not visible ASCII")
		}
	}
	h.Set("Authorization", "Bearer "+string(t))
	return h, nil
}

// taken is nil for an answer that takes what was sent.
func taken(status int, err error) error {
	if err == nil && (status < 200 || status > 299) {
		return fmt.Errorf("it answers %d", status)
	}
	return err
}
