// Command coredns is CoreDNS with the plugins that a cluster's DNS needs and no others, which
// leaves out the cloud SDKs that make up most of the stock build.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	// The order of execution, as in CoreDNS's plugin.cfg.
	dnsserver.Directives = []string{
		"bind", "ready", "health", "errors", "cache", "loadbalance", "kubernetes", "forward",
	}
	coremain.Run()
}
