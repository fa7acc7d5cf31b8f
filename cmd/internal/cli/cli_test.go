// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
)

// invoke runs a small program whose command act returns what fault is.
func invoke(t *testing.T, fault error, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	term := Terminal{In: strings.NewReader(""), Out: &o, Err: &e}
	root := &cobra.Command{Use: "prog", Short: "A program"}
	act := &cobra.Command{Use: "act", Short: "Act", Args: NoArgs, RunE: func(*cobra.Command, []string) error {
		if fault != nil {
			return fault
		}
		return term.Print([]string{"done"}, func(w io.Writer) { fmt.Fprint(w, "done\tit\n") })
	}}
	act.Flags().Bool("force", false, "")
	act.Flags().Bool("farce", false, "")
	pair := &cobra.Command{Use: "pair A B", Short: "Two", Args: ExactArgs(2), RunE: act.RunE}
	some := &cobra.Command{Use: "some A...", Short: "Some", Args: MinArgs(1), RunE: act.RunE}
	few := &cobra.Command{Use: "few [A]", Short: "Few", Args: MaxArgs(1), RunE: act.RunE}
	term.Setup(root, "  prog help act", act, pair, some, few, Group("many", "Many", "  prog many one",
		&cobra.Command{Use: "rotate", RunE: act.RunE}, &cobra.Command{Use: "rotated", RunE: act.RunE}))
	code = term.Run(t.Context(), root, args, Judge{
		Exit:     func(error) int { return 99 },
		Describe: func(err error, code int) (string, any) { return err.Error(), map[string]int{"code": code} },
	})
	return code, o.String(), e.String()
}

func TestUsage(t *testing.T) {
	for _, c := range []struct{ args, wants string }{
		{"", "prog: a command is needed\n"},
		{"axt", "did you mean act?\n"},
		{"act more", `prog: unknown command "more" for "prog act"` + "\n"},
		{"many", "prog many needs a subcommand; see: prog many --help\n"},
		{"many rotat", "did you mean rotate?\n"}, // and not rotated
		{"completion", "prog completion needs a subcommand"},
		{"act --forse", "unknown flag: --forse; did you mean --force?\n"},
		{"act --firce", "did you mean --farce or --force?\n"},
		{"act --outptu json", "did you mean --output?\n"},
		{"act --elsewhere", "prog: unknown flag: --elsewhere\n"},
		{"act -x", "prog: unknown shorthand flag"},
		{"act --output xml", `prog: --output is text or json, not "xml"` + "\n"},
		{"pair a", "prog pair takes 2 argument(s), got 1; usage: prog pair A B"},
		{"some", "prog some takes at least 1 argument(s); usage: prog some A..."},
		{"few a b", "prog few takes at most 1 argument(s), got 2; usage: prog few [A]"},
	} {
		code, out, errs := invoke(t, nil, strings.Fields(c.args)...)
		if code != macronode.ExitUsage || out != "" || !strings.Contains(errs, c.wants) || !strings.HasSuffix(errs, "\nTry: prog --help\n") {
			t.Errorf("prog %s: exit %d, stdout %q, stderr %q; want %q", c.args, code, out, errs, c.wants)
		}
	}
}

func TestExitCodes(t *testing.T) {
	plain := errors.New("it broke")
	denied := &client.Error{Problem: macronode.Problem{Status: 403}}
	for _, c := range []struct {
		name string
		err  error
		code int
		errs string
	}{
		{"none", nil, 0, ""},
		{"the program's own", plain, 99, "prog: it broke\n"},
		{"with a code", fmt.Errorf("so: %w", Exit(plain, 7)), 7, "prog: so: it broke\n"},
		{"silent", ExitSilently(plain, 7), 7, ""},
		{"a code goes before what it holds", Exit(Usage(plain), 7), 7, "prog: it broke\n"},
		{"usage", Usage(plain), 2, "prog: it broke\nTry: prog --help\n"},
		{"denied", fmt.Errorf("so: %w", denied), macronode.ExitDenied, "prog: so: " + denied.Error() + "\n"},
	} {
		code, _, errs := invoke(t, c.err, "act")
		if code != c.code || errs != c.errs {
			t.Errorf("%s: exit %d, want %d; %q, want %q", c.name, code, c.code, errs, c.errs)
		}
	}
	if !errors.Is(Exit(plain, 7), plain) {
		t.Error("an error with a code hides what it holds")
	}
	var network *url.Error
	if errors.As(Usage(&url.Error{Err: plain}), &network) {
		t.Error("a fault in the command line shows as one of the network")
	}
}

func TestForms(t *testing.T) {
	if code, out, errs := invoke(t, nil, "act"); code != 0 || out != "done  it\n" || errs != "" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if code, out, errs := invoke(t, nil, "act", "--output", "json"); code != 0 || out != "[\n  \"done\"\n]\n" || errs != "" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	// A fault is one document, no hint beside it.
	if code, out, errs := invoke(t, nil, "--output", "json", "many"); code != 2 || out != "" || errs != "{\"code\":2}\n" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

func TestNearest(t *testing.T) {
	for _, c := range []struct {
		typed       string
		words, want []string
	}{
		{"a", nil, nil},
		{"rotat", []string{"rotated", "rotate"}, []string{"rotate"}},
		{"ab", []string{"ac", "ad", "xyz"}, []string{"ac", "ad"}},
	} {
		if got := nearest(c.typed, c.words); !slices.Equal(got, c.want) {
			t.Errorf("nearest(%q, %q) = %q, want %q", c.typed, c.words, got, c.want)
		}
	}
}
