// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"net/url"
)

// Why asks why calls with this correlation id were refused, and what would have
// let them pass. The answer is the node's document as it came; 404 says how far
// the node's memory reaches.
func (c *Client) Why(ctx context.Context, corrID string) (json.RawMessage, error) {
	return c.Document(ctx, "/v1/admin/why/"+url.PathEscape(corrID))
}
