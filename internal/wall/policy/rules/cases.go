// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

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
func Test(b []byte) (Report, error) {
	_, rep, err := load(b)
	return rep, err
}

func (s *Set) runTests() Report {
	var rep Report
	seen := map[string]bool{}
	for i := range s.doc.Tests.Tests {
		c := &s.doc.Tests.Tests[i]
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

func (s *Set) runCase(c *payload.Case) Result {
	res := Result{Name: c.Name, Want: c.Expect}
	if c.Expect != "allow" && c.Expect != "deny" && c.Expect != "error" {
		res.Detail = fmt.Sprintf("expect is %q, not allow, deny or error", c.Expect)
		return res
	}
	req, err := c.Compile(s.doc.Tests.Tenants)
	if err != nil {
		res.Detail = err.Error()
		return res
	}
	if _, ok := s.m.index[req.Action]; !ok {
		res.Detail = fmt.Sprintf("unknown action %q", req.Action)
		if near := payload.Nearest(string(req.Action), s.m.actionNames()); near != "" {
			res.Detail += fmt.Sprintf(": did you mean %q?", near)
		}
		return res
	}
	a := s.Decide(req, req.Time, 0)
	res.Got, res.Reasons = a.Outcome.String(), a.Decision.Reasons
	obligations := a.Obligations()
	switch {
	case res.Got != res.Want:
		res.Detail = fmt.Sprintf("want %s, got %s", res.Want, res.Got)
		if len(res.Reasons) > 0 {
			res.Detail += " by " + strings.Join(res.Reasons, ", ")
		}
		if len(a.Failures) > 0 {
			res.Detail += ": " + a.Failures[0].Message
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
