// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package facets

import "github.com/rustyonions/macronode/internal/svc/omnigate/media"

// newMedia makes the facet of media.
func newMedia(d Deps) (*media.Facet, error) {
	m, err := media.New(media.Config{Objects: d.Media, Metrics: media.NewMetrics(d.Metrics)})
	if err != nil {
		return nil, err
	}
	m.Watch(d.Metrics)
	return m, nil
}
