// Package netpol turns NetworkPolicies into firewall rules for a cluster of one node (pure).
//
// Only traffic that is forwarded between pods, or between a pod and the world, is judged; what a
// pod and its node say to each other always passes, which Kubernetes asks for only in one direction.
// A pod that reaches itself through a Service passes too. Addresses are those after translation.
package netpol

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Table is the name of the nftables table that holds the rules.
const Table = "network_policies"

// State is everything that the rules follow from.
type State struct {
	Pods       []*v1.Pod
	Namespaces []*v1.Namespace
	Policies   []*networking.NetworkPolicy
	// Always lists addresses that every pod accepts traffic from: the machine that the node runs on.
	Always []string
}

// Rules is the script for nft that replaces the table. Equal states make equal scripts.
func Rules(state State) (string, error) {
	var chains, jumps strings.Builder
	pods := slices.SortedFunc(slices.Values(state.Pods), func(a, b *v1.Pod) int {
		return strings.Compare(string(a.UID), string(b.UID))
	})
	state.Policies = slices.SortedFunc(slices.Values(state.Policies), func(a, b *networking.NetworkPolicy) int {
		return strings.Compare(string(a.UID), string(b.UID))
	})
	for _, pod := range pods {
		if !hasAddress(pod) {
			continue
		}
		for _, direction := range []networking.PolicyType{networking.PolicyTypeIngress, networking.PolicyTypeEgress} {
			rules, isolated, err := state.isolation(pod, direction)
			if err != nil {
				return "", err
			}
			if !isolated {
				continue
			}
			chain := fmt.Sprintf("%s_%s", strings.ToLower(string(direction)), pod.UID)
			fmt.Fprintf(&chains, "  chain %s {\n%s    drop\n  }\n", chain, rules)
			fmt.Fprintf(&jumps, "    ip %s %s jump %s\n", own(direction), pod.Status.PodIP, chain)
		}
	}
	var always string
	if len(state.Always) > 0 {
		always = fmt.Sprintf("    ip saddr { %s } accept\n", strings.Join(state.Always, ", "))
	}
	return fmt.Sprintf("table ip %[1]s {}\ndelete table ip %[1]s\ntable ip %[1]s {\n%[2]s"+
		"  chain forward {\n    type filter hook forward priority 10; policy accept;\n"+
		"    ct state established,related accept\n%[3]s%[4]s  }\n}\n", Table, chains.String(), always, jumps.String()), nil
}

// hasAddress: a pod that has ended has given its address back, and one on the node's network has none.
func hasAddress(pod *v1.Pod) bool {
	ended := pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
	return pod.Status.PodIP != "" && !pod.Spec.HostNetwork && !ended
}

// own is the address field that holds the pod itself, other the one that holds its peer.
func own(direction networking.PolicyType) string {
	if direction == networking.PolicyTypeIngress {
		return "daddr"
	}
	return "saddr"
}

func other(direction networking.PolicyType) string {
	if direction == networking.PolicyTypeIngress {
		return "saddr"
	}
	return "daddr"
}

// isolation returns the rules that let traffic of the pod through, and whether any policy applies.
func (s State) isolation(pod *v1.Pod, direction networking.PolicyType) (rules string, isolated bool, err error) {
	script := fmt.Sprintf("    ip %s %s return\n", other(direction), pod.Status.PodIP)
	for _, policy := range s.Policies {
		selects, err := matches(&policy.Spec.PodSelector, pod.Labels)
		if err != nil {
			return "", false, fmt.Errorf("NetworkPolicy %s/%s: %w", policy.Namespace, policy.Name, err)
		}
		if policy.Namespace != pod.Namespace || !selects || !slices.Contains(policy.Spec.PolicyTypes, direction) {
			continue
		}
		isolated = true
		for _, rule := range flows(policy, direction) {
			lines, err := s.flow(policy.Namespace, pod, direction, rule)
			if err != nil {
				return "", false, fmt.Errorf("NetworkPolicy %s/%s: %w", policy.Namespace, policy.Name, err)
			}
			script += lines
		}
	}
	return script, isolated, nil
}

// flow is an ingress or an egress rule: who may talk, through which ports.
type flow struct {
	peers []networking.NetworkPolicyPeer
	ports []networking.NetworkPolicyPort
}

func flows(policy *networking.NetworkPolicy, direction networking.PolicyType) (all []flow) {
	if direction == networking.PolicyTypeIngress {
		for _, rule := range policy.Spec.Ingress {
			all = append(all, flow{rule.From, rule.Ports})
		}
		return all
	}
	for _, rule := range policy.Spec.Egress {
		all = append(all, flow{rule.To, rule.Ports})
	}
	return all
}

func (s State) flow(namespace string, pod *v1.Pod, direction networking.PolicyType, rule flow) (string, error) {
	if len(rule.peers) == 0 {
		return through("", rule.ports, pod)
	}
	var script strings.Builder
	for _, peer := range rule.peers {
		if peer.IPBlock != nil {
			// The cluster has no IPv6, so nothing can match such a block.
			if prefix, err := netip.ParsePrefix(peer.IPBlock.CIDR); err != nil || !prefix.Addr().Is4() {
				continue
			}
			match := fmt.Sprintf("ip %s %s ", other(direction), peer.IPBlock.CIDR)
			if len(peer.IPBlock.Except) > 0 {
				match += fmt.Sprintf("ip %s != { %s } ", other(direction), strings.Join(peer.IPBlock.Except, ", "))
			}
			lines, err := through(match, rule.ports, pod)
			if err != nil {
				return "", err
			}
			script.WriteString(lines)
			continue
		}
		others, err := s.selected(namespace, peer)
		if err != nil {
			return "", err
		}
		for _, candidate := range others {
			// A named port is one of the pod that is talked to.
			server := pod
			if direction == networking.PolicyTypeEgress {
				server = candidate
			}
			lines, err := through(fmt.Sprintf("ip %s %s ", other(direction), candidate.Status.PodIP), rule.ports, server)
			if err != nil {
				return "", err
			}
			script.WriteString(lines)
		}
	}
	return script.String(), nil
}

// selected are the pods that a peer stands for in a policy of namespace.
func (s State) selected(namespace string, peer networking.NetworkPolicyPeer) (pods []*v1.Pod, err error) {
	spaces := map[string]bool{namespace: true}
	if peer.NamespaceSelector != nil {
		clear(spaces)
		for _, candidate := range s.Namespaces {
			if spaces[candidate.Name], err = matches(peer.NamespaceSelector, candidate.Labels); err != nil {
				return nil, err
			}
		}
	}
	for _, pod := range s.Pods {
		if !spaces[pod.Namespace] || !hasAddress(pod) {
			continue
		}
		selects := true
		if peer.PodSelector != nil {
			if selects, err = matches(peer.PodSelector, pod.Labels); err != nil {
				return nil, err
			}
		}
		if selects {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *v1.Pod) int { return strings.Compare(a.Status.PodIP, b.Status.PodIP) })
	return pods, nil
}

func matches(selector *metav1.LabelSelector, of map[string]string) (bool, error) {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, err
	}
	return parsed.Matches(labels.Set(of)), nil
}

// through lets what matches pass, restricted to ports if there are any.
func through(match string, ports []networking.NetworkPolicyPort, server *v1.Pod) (string, error) {
	if len(ports) == 0 {
		return fmt.Sprintf("    %sreturn\n", match), nil
	}
	var script strings.Builder
	for _, port := range ports {
		protocol := strings.ToLower(string(v1.ProtocolTCP))
		if port.Protocol != nil {
			protocol = strings.ToLower(string(*port.Protocol))
		}
		switch {
		case port.Port == nil:
			fmt.Fprintf(&script, "    %smeta l4proto %s return\n", match, protocol)
		case port.EndPort != nil:
			fmt.Fprintf(&script, "    %s%s dport %d-%d return\n", match, protocol, port.Port.IntValue(), *port.EndPort)
		case port.Port.StrVal != "":
			for _, number := range named(server, port.Port.StrVal) {
				fmt.Fprintf(&script, "    %s%s dport %d return\n", match, protocol, number)
			}
		default:
			fmt.Fprintf(&script, "    %s%s dport %d return\n", match, protocol, port.Port.IntValue())
		}
	}
	return script.String(), nil
}

func named(pod *v1.Pod, name string) (numbers []int32) {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == name {
				numbers = append(numbers, port.ContainerPort)
			}
		}
	}
	return numbers
}
