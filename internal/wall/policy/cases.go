// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rustyonions/macronode"
)

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

// Report is how a bundle's own tests went.
type Report struct {
	Results []Result `json:"results"`
	Passed  int      `json:"passed"`
	Failed  int      `json:"failed"`
	// Untested are the ids of policies that no test had as a reason.
	Untested []string `json:"untested"`
}

// Result is one test's.
type Result struct {
	Name    string   `json:"name"`
	Pass    bool     `json:"pass"`
	Want    string   `json:"want"`
	Got     string   `json:"got,omitempty"`
	Reasons []string `json:"reasons,omitempty"`
	Detail  string   `json:"detail,omitempty"` // why it failed
}

// ErrTests says that a bundle fails its own tests.
var ErrTests = errors.New("the policy fails its own tests")

// Err is nil where all tests passed, else ErrTests with the first failures.
func (r *Report) Err() error {
	if r.Failed == 0 {
		return nil
	}
	const shown = 5
	var text []string
	for _, t := range r.Results {
		if !t.Pass && len(text) < shown {
			text = append(text, fmt.Sprintf("%q: %s", t.Name, t.Detail))
		}
	}
	return fmt.Errorf("%w (%d of %d): %s", ErrTests, r.Failed, len(r.Results), strings.Join(text, "; "))
}

// Test loads a payload and runs its own tests. The error is of loading alone.
func Test(payload []byte) (Report, error) {
	_, rep, err := load(payload)
	return rep, err
}

func (s *Set) runTests() Report {
	var rep Report
	seen := map[string]bool{}
	for i := range s.payload.Tests.Tests {
		c := &s.payload.Tests.Tests[i]
		res := s.runCase(c)
		if res.Name == "" {
			res.Name = fmt.Sprintf("test %d", i+1)
		}
		if res.Pass {
			rep.Passed++
		} else {
			rep.Failed++
		}
		for _, id := range res.Reasons {
			seen[id] = true
		}
		rep.Results = append(rep.Results, res)
	}
	for _, r := range s.rules {
		if !seen[string(r.id)] {
			rep.Untested = append(rep.Untested, string(r.id))
		}
	}
	return rep
}

func (s *Set) runCase(c *Case) Result {
	res := Result{Name: c.Name, Want: c.Expect}
	if c.Expect != "allow" && c.Expect != "deny" && c.Expect != "error" {
		res.Detail = fmt.Sprintf("expect is %q, not allow, deny or error", c.Expect)
		return res
	}
	req, err := c.compile(s.payload.Tests.Tenants)
	if err != nil {
		res.Detail = err.Error()
		return res
	}
	if _, ok := s.m.index[req.Action]; !ok {
		res.Detail = fmt.Sprintf("unknown action %q", req.Action)
		if near := nearest(string(req.Action), s.m.actionNames()); near != "" {
			res.Detail += fmt.Sprintf(": did you mean %q?", near)
		}
		return res
	}
	a := s.decide(req, req.Time, 0)
	res.Got, res.Reasons = a.outcome.String(), a.decision.Reasons
	var obligations []string
	for _, o := range a.decision.Obligations {
		obligations = append(obligations, obligationText(o))
	}
	switch {
	case res.Got != res.Want:
		res.Detail = fmt.Sprintf("want %s, got %s", res.Want, res.Got)
		if len(res.Reasons) > 0 {
			res.Detail += " by " + strings.Join(res.Reasons, ", ")
		}
		if len(a.failures) > 0 {
			res.Detail += ": " + a.failures[0].Message
		}
	case c.Reasons != nil && !sameSet(*c.Reasons, res.Reasons):
		res.Detail = fmt.Sprintf("want reasons %q, got %q", *c.Reasons, res.Reasons)
	case c.Obligations != nil && !sameSet(*c.Obligations, obligations):
		res.Detail = fmt.Sprintf("want obligations %q, got %q", *c.Obligations, obligations)
	default:
		res.Pass = true
	}
	return res
}

func obligationText(o macronode.Obligation) string {
	if o.Value == "" {
		return o.Key
	}
	return o.Key + "=" + o.Value
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
