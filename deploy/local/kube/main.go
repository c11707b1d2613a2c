// Command kube is every Kubernetes program of the local cluster in one binary: it runs the
// component it is called as (a symlink's name), so that their shared code is linked only once.
//
// Each components_*.go file registers what it holds; the build tag "api" leaves out everything
// that only a node needs, which is what tests against a bare API server build.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
)

// components maps a program's name to the maker of its command.
var components = map[string]func() *cobra.Command{}

func main() {
	name := filepath.Base(os.Args[0])
	component, known := components[name]
	if !known {
		fmt.Fprintf(os.Stderr, "kube: %q is not a component; call it by a link named one of %v\n",
			name, slices.Sorted(maps.Keys(components)))
		os.Exit(2)
	}
	os.Exit(cli.Run(component()))
}
