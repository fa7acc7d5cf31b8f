// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package h2guard watches the frames of an HTTP/2 connection between the socket
// and the HTTP/2 implementation, and ends connections whose frames cost more than
// they carry: streams opened and reset before they are answered, header blocks in
// endless pieces, floods of PING, SETTINGS, PRIORITY, WINDOW_UPDATE and empty or
// unknown frames, and frames that never become whole. It reads frame heads alone
// and judges no request; what it lets through is the implementation's to judge.
//
// The client is told with GOAWAY ENHANCE_YOUR_CALM, where it still reads.
package h2guard
