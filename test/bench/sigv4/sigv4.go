// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package sigv4 signs requests to S3 servers with AWS Signature Version 4.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Unsigned says that the signature does not cover the body, so that the
// client need not hash it.
const Unsigned = "UNSIGNED-PAYLOAD"

// Keys sign requests to an S3 server.
type Keys struct{ ID, Secret, Region string }

// Sign puts AWS Signature Version 4 into the Authorization header. It covers
// the host, every header that is set so far, and the query, whose names and
// values must be plain.
func (k Keys) Sign(req *http.Request, payload string, at time.Time) {
	stamp := at.UTC().Format("20060102T150405Z")
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", payload)

	headers := map[string]string{"host": req.URL.Host}
	for name, values := range req.Header {
		headers[strings.ToLower(name)] = strings.TrimSpace(strings.Join(values, ","))
	}
	names := slices.Sorted(maps.Keys(headers))
	signed := strings.Join(names, ";")
	var canonical strings.Builder
	canonical.WriteString(req.Method + "\n" + req.URL.EscapedPath() + "\n" + req.URL.Query().Encode() + "\n")
	for _, name := range names {
		canonical.WriteString(name + ":" + headers[name] + "\n")
	}
	canonical.WriteString("\n" + signed + "\n" + payload)

	scope := stamp[:8] + "/" + k.Region + "/s3/aws4_request"
	sum := sha256.Sum256([]byte(canonical.String()))
	text := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + k.Secret)
	for _, part := range []string{stamp[:8], k.Region, "s3", "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+k.ID+"/"+scope+",SignedHeaders="+signed+",Signature="+hex.EncodeToString(key))
}
