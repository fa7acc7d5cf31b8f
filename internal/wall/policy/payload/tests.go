// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package payload

import "github.com/rustyonions/macronode"

// TestDoc is the form of tests.toml.
type TestDoc struct {
	// Tenants gives labels, for the tests alone, the ids they stand for.
	Tenants map[string]macronode.TenantID `json:"tenants,omitempty" toml:"tenants"`
	Tests   []Case                        `json:"test,omitempty" toml:"test"`
}

// Case is one request with the decision that it must get.
type Case struct {
	Name string `json:"name" toml:"name"`
	// Expect is "allow", "deny", or "error": denied because a rule failed. A
	// rule that fails is not what "deny" expects.
	Expect string `json:"expect" toml:"expect"`
	// Reasons, where given, are exactly the ids of the deciding policies.
	Reasons *[]string `json:"reasons,omitempty" toml:"reasons"`
	// Obligations, where given, are exactly those of the decision ("key=value").
	Obligations *[]string `json:"obligations,omitempty" toml:"obligations"`
	Request
}
