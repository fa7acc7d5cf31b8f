// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package macronode

// Exit codes of both binaries. Scripts rely on them.
const (
	ExitOK       = 0
	ExitFailed   = 1
	ExitUsage    = 2
	ExitConfig   = 3  // bad config, or a feature that is not in the binary
	ExitTrust    = 4  // hash, signature, signer or version of a bundle
	ExitNotReady = 5  // not ready, timed out, or an objective missed
	ExitDenied   = 6  // refused by auth, policy or quota
	ExitCut      = 7  // the drain deadline cut work
	ExitRepaired = 8  // fsck repaired
	ExitLost     = 9  // fsck: data lost
	ExitInUse    = 10 // another process holds the data directory
)
