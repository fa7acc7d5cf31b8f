// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

// Quiescing reports whether somebody waits for the uploads under way.
func (s *Service) Quiescing() bool {
	return s.window.Waited()
}
