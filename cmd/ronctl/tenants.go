// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// quotaFlags are the members of a quota as flags; those not given stay as they are.
type quotaFlags struct{ values [len(quotaMembers)]string }

var quotaMembers = [...]struct {
	flag, text string
	field      func(*client.QuotaChange) **int64
}{
	{"requests-per-s", "requests a second", func(q *client.QuotaChange) **int64 { return &q.RequestsPerSec }},
	{"request-burst", "requests at once", func(q *client.QuotaChange) **int64 { return &q.RequestBurst }},
	{"bytes-per-s", "request plus response bytes a second", func(q *client.QuotaChange) **int64 { return &q.BytesPerSec }},
	{"byte-burst", "bytes at once", func(q *client.QuotaChange) **int64 { return &q.ByteBurst }},
	{"in-flight", "calls running at once", func(q *client.QuotaChange) **int64 { return &q.InFlight }},
	{"stored-bytes", "bytes stored", func(q *client.QuotaChange) **int64 { return &q.StoredBytes }},
	{"objects", "objects stored", func(q *client.QuotaChange) **int64 { return &q.Objects }},
	{"queue-depth", "messages waiting", func(q *client.QuotaChange) **int64 { return &q.QueueDepth }},
	{"weight", "share under contention", func(q *client.QuotaChange) **int64 { return &q.Weight }},
}

func (q *quotaFlags) flags(f *pflag.FlagSet) {
	for i, m := range quotaMembers {
		f.StringVar(&q.values[i], m.flag, "", m.text+`; a number or "unlimited"`)
	}
}

func (q *quotaFlags) change() (*client.QuotaChange, error) {
	var out client.QuotaChange
	given := false
	for i, m := range quotaMembers {
		s := q.values[i]
		if s == "" {
			continue
		}
		n := macronode.NoLimit
		if s != "unlimited" {
			var err error
			if n, err = strconv.ParseInt(s, 10, 64); err != nil || n < 0 {
				return nil, cli.Usagef(`--%s takes a number or "unlimited", not %q`, m.flag, s)
			}
		}
		*m.field(&out) = &n
		given = true
	}
	if !given {
		return nil, nil
	}
	return &out, nil
}

func limitText(n int64) string {
	if n == macronode.NoLimit {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

func (a *app) tenantCommand() *cobra.Command {
	return cli.Group("tenant", "Create, list, suspend and delete tenants; change quotas", "  ronctl tenant ls",
		a.tenantCreate(), a.tenantLs(), a.tenantShow(), a.tenantSuspend("suspend", true), a.tenantSuspend("resume", false),
		a.tenantQuota(), a.tenantUsage(), a.tenantDelete())
}

func (a *app) printTenant(t client.Tenant) error {
	return a.Print(t, func(w io.Writer) {
		state := "active"
		if t.Suspended {
			state = "suspended"
		}
		fmt.Fprintf(w, "id\t%s\nlabel\t%s\nstate\t%s\n", t.ID, t.Label, state)
		writeQuota(w, t.Quota)
	})
}

func writeQuota(w io.Writer, q macronode.Quota) {
	for _, l := range []struct {
		name string
		n    int64
	}{
		{"requests/s", q.RequestsPerSec}, {"request burst", q.RequestBurst}, {"bytes/s", q.BytesPerSec}, {"byte burst", q.ByteBurst},
		{"in flight", q.InFlight}, {"stored bytes", q.StoredBytes}, {"objects", q.Objects}, {"queue depth", q.QueueDepth}, {"weight", q.Weight},
	} {
		fmt.Fprintf(w, "%s\t%s\n", l.name, limitText(l.n))
	}
}

func (a *app) tenantCreate() *cobra.Command {
	var q quotaFlags
	var key, id string
	c := &cobra.Command{
		Use: "create LABEL", Short: "Create a tenant", Args: cli.ExactArgs(1), Example: "  ronctl tenant create acme --stored-bytes 1073741824",
		RunE: func(c *cobra.Command, args []string) error {
			quota, err := q.change()
			if err != nil {
				return err
			}
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			t, err := cl.CreateTenantAs(ctx, id, args[0], quota, key)
			if err != nil {
				return err
			}
			return a.printTenant(t)
		},
	}
	q.flags(c.Flags())
	c.Flags().StringVar(&id, "id", "", "the id that the tenant has on another node, so that both nodes have the same")
	c.Flags().StringVar(&key, "idempotency-key", "", "makes a repeated call answer as the first did")
	return c
}

func (a *app) tenantLs() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the tenants", Args: cli.NoArgs, Example: "  ronctl tenant ls --output json",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			all, err := cl.Tenants(ctx)
			if err != nil {
				return err
			}
			if all == nil {
				all = []client.Tenant{} // JSON: no tenants is [], not null
			}
			return a.Print(all, func(w io.Writer) {
				for _, t := range all {
					state := "active"
					if t.Suspended {
						state = "suspended"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\n", t.ID, t.Label, state)
				}
			})
		},
	}
}

// tenantVerb is a command that does one thing to one tenant.
func (a *app) tenantVerb(use, short, example string, do func(ctx context.Context, cl *client.Client, tenant string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " TENANT", Short: short, Args: cli.ExactArgs(1), Example: example,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			return do(ctx, cl, args[0])
		},
	}
}

func (a *app) tenantShow() *cobra.Command {
	return a.tenantVerb("show", "Show a tenant and its quota", "  ronctl tenant show acme",
		func(ctx context.Context, cl *client.Client, tenant string) error {
			t, err := cl.Tenant(ctx, tenant)
			if err != nil {
				return err
			}
			return a.printTenant(t)
		})
}

func (a *app) tenantSuspend(verb string, suspended bool) *cobra.Command {
	short := "Let a suspended tenant go on"
	if suspended {
		short = "Refuse everything of a tenant until it is resumed"
	}
	return a.tenantVerb(verb, short, "  ronctl tenant "+verb+" acme",
		func(ctx context.Context, cl *client.Client, tenant string) error {
			t, err := cl.SetSuspended(ctx, tenant, suspended)
			if err != nil {
				return err
			}
			return a.printTenant(t)
		})
}

func (a *app) tenantQuota() *cobra.Command {
	var q quotaFlags
	c := a.tenantVerb("quota", "Change a tenant's quota; it holds from the next call on", "  ronctl tenant quota acme --requests-per-s 100 --request-burst 200",
		func(ctx context.Context, cl *client.Client, tenant string) error {
			change, err := q.change()
			if err != nil {
				return err
			}
			if change == nil {
				return cli.Usagef("nothing to change; see: ronctl tenant quota --help")
			}
			t, err := cl.SetQuota(ctx, tenant, *change)
			if err != nil {
				return err
			}
			return a.printTenant(t)
		})
	q.flags(c.Flags())
	return c
}

func (a *app) tenantUsage() *cobra.Command {
	return a.tenantVerb("usage", "Show what a tenant holds", "  ronctl tenant usage acme",
		func(ctx context.Context, cl *client.Client, tenant string) error {
			u, err := cl.Usage(ctx, tenant)
			if err != nil {
				return err
			}
			return a.Print(u, func(w io.Writer) {
				fmt.Fprintf(w, "id\t%s\nlabel\t%s\n", u.ID, u.Label)
				fmt.Fprintf(w, "stored bytes\t%d of %s\n", u.StoredBytes, limitText(u.Quota.StoredBytes))
				fmt.Fprintf(w, "objects\t%d of %s\n", u.Objects, limitText(u.Quota.Objects))
				fmt.Fprintf(w, "in flight\t%d of %s\n", u.InFlight, limitText(u.Quota.InFlight))
			})
		})
}

func (a *app) tenantDelete() *cobra.Command {
	var yes bool
	c := a.tenantVerb("delete", "Delete a tenant and everything it has", "  ronctl tenant delete acme --yes",
		func(ctx context.Context, cl *client.Client, tenant string) error {
			if !yes {
				return cli.Usagef("this purges everything that %s has; say --yes", tenant)
			}
			if err := cl.DeleteTenant(ctx, tenant); err != nil {
				return err
			}
			return a.Print(map[string]string{"deleted": tenant}, func(w io.Writer) { fmt.Fprintln(w, "deleted", tenant) })
		})
	c.Flags().BoolVar(&yes, "yes", false, "really")
	return c
}
