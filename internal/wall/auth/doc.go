// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package auth is the wall's first stage that knows callers: it turns the
// capability of a call into a principal and its tenant, or the lack of one into
// Anonymous. It implements wall.Authenticator.
//
// # What it promises
//
//   - Nothing on the call grants anything but a capability: certificates, Unix
//     credentials and claimed tenants can only take away.
//   - Every call is checked against the tenants, revocations and minting keys of
//     that moment. The cache holds what cannot change (that a chain verifies with
//     a key, and what its caveats say) and is asked under the generations of keys
//     and revocations that it was filled under.
//   - A third-party caveat holds with its one discharge, bound to the token; a
//     discharge that is not needed is refused like one that is missing.
//   - A stranger learns nothing: a token of an unknown tenant, of an unknown key
//     and with a wrong tag get the same answer after the same work. What a tenant
//     or a capability may do is told to the bearer of a good token alone.
//   - Failed attempts are bounded for each address (100 a second, 1000 at once),
//     and so is the memory that counting them takes.
//
// # Order of refusals
//
// AuthFlood; TokenMalformed; TokenForged; TokenDischarge; TokenRevoked; then
// TokenExpired, TokenNotYetValid, TokenAudience, TokenAddress and
// TokenClientCert in the order of the caveats; TenantMismatch; TenantSuspended;
// CaveatDenied.
package auth
