// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package names

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"

	"github.com/rustyonions/macronode/client"
)

const (
	// importLines and importBytes bound one call of an import.
	importLines = 1000
	importBytes = 3 << 20
	maxLine     = 64 << 10
)

// Imported is what became of an import.
type Imported struct {
	Imported int    `json:"imported"`
	Failed   int    `json:"failed"`
	Lines    []Line `json:"results"` // those that were not done
}

// Line is one that was not done.
type Line struct {
	Line   int    `json:"line"` // from 1
	Name   string `json:"name,omitempty"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Import sets the names that r has, a JSON document a line as Export writes them,
// each perhaps with if_version: the version that the name must have, 0 where it must
// not be there. Lines are sent in parts of up to 1000, each of which the node does at
// once but for the lines that cannot be done. An error tells that the rest was not
// sent; what was done before is in the answer.
func Import(ctx context.Context, c *client.Client, r io.Reader) (all Imported, err error) {
	all.Lines = []Line{}
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 0, 4096), maxLine)
	var part bytes.Buffer
	lines, done := 0, 0
	send := func() error {
		if lines == 0 {
			return nil
		}
		var out Imported
		err := ask(ctx, c, client.Request{Method: "POST", Path: "/v1/naming/import", Body: bytes.NewReader(part.Bytes()), Length: int64(part.Len()), Repeat: true,
			Header: http.Header{"Content-Type": {"application/x-ndjson"}, "Idempotency-Key": {rand.Text()}}}, &out)
		if err != nil {
			return err
		}
		all.Imported += out.Imported
		all.Failed += out.Failed
		for _, l := range out.Lines {
			l.Line += done
			all.Lines = append(all.Lines, l)
		}
		done += lines
		lines = 0
		part.Reset()
		return nil
	}
	for scan.Scan() {
		if lines == importLines || part.Len()+len(scan.Bytes()) >= importBytes {
			if err := send(); err != nil {
				return all, err
			}
		}
		part.Write(scan.Bytes())
		part.WriteByte('\n')
		lines++
	}
	if err := scan.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = errors.New("a line of an import has more than 64 KiB")
		}
		return all, err
	}
	return all, send()
}
