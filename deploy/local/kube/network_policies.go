//go:build !api

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"ehrnet.dev/local/kube/netpol"
)

func init() {
	components["local-network-policies"] = newNetworkPoliciesCommand
}

// settle is how long changes are collected before the rules are replaced.
const settle = 20 * time.Millisecond

func newNetworkPoliciesCommand() *cobra.Command {
	var kubeconfig string
	var always []string
	command := &cobra.Command{
		Use:   "local-network-policies",
		Short: "Enforce the NetworkPolicies of a cluster of one node with nftables",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			return enforce(cmd.Context(), client, always)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "file that says how to reach the API server")
	command.Flags().StringSliceVar(&always, "always-from", nil, "addresses that every pod accepts traffic from")
	return command
}

func enforce(ctx context.Context, client kubernetes.Interface, always []string) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, namespaces := factory.Core().V1().Pods(), factory.Core().V1().Namespaces()
	policies := factory.Networking().V1().NetworkPolicies()
	changed := make(chan struct{}, 1)
	notice := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notice() },
		UpdateFunc: func(any, any) { notice() },
		DeleteFunc: func(any) { notice() },
	}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	var current string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			time.Sleep(settle)
		}
		state := netpol.State{Always: always}
		var err error
		if state.Pods, err = pods.Lister().List(labels.Everything()); err != nil {
			return err
		}
		if state.Namespaces, err = namespaces.Lister().List(labels.Everything()); err != nil {
			return err
		}
		if state.Policies, err = policies.Lister().List(labels.Everything()); err != nil {
			return err
		}
		rules, err := netpol.Rules(state)
		if err != nil {
			return err
		}
		if rules == current {
			continue
		}
		if err := load(ctx, rules); err != nil {
			return err
		}
		current = rules
		klog.InfoS("Replaced the rules", "pods", len(state.Pods), "policies", len(state.Policies))
	}
}

// load hands the rules to nft, which takes all of them or none.
func load(ctx context.Context, rules string) error {
	nft := exec.CommandContext(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s\n%s", err, output, rules)
	}
	return nil
}
