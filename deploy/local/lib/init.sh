#!/usr/bin/env bash
# The first process of the node, inside namespaces of its own: starts the components in order and
# stays to adopt and reap what they leave. When it ends, the kernel ends everything it started.
#
# It runs its components once: one that ends is noted in $STATE/ended and not started again, so
# that nobody mistakes a crash for a slow start.
set -euo pipefail

readonly here=$1
# shellcheck source=lib/common.sh
source "$here/lib/common.sh"

export PATH=$CACHE/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
readonly pki=$STATE/pki
export KUBECONFIG=$pki/admin.yaml

declare -A names=()

# start NAME ARGUMENTS...: run a component in the background, with its own log.
start() {
  local name=$1
  shift
  "$name" "$@" >"$STATE/logs/$name.log" 2>&1 &
  names[$!]=$name
}

# Note each component that ends, and reap what they leave, until none is left.
attend() {
  local ended code
  while true; do
    ended='' code=0
    wait -n -p ended || code=$?
    if [[ -z $ended ]]; then return; fi
    echo "${names[$ended]} ended with exit code $code" >>"$STATE/ended"
  done
}

# The kubelet and the CNI library keep files at fixed places: give them ours.
private_mounts() {
  local place
  for place in /var/lib/kubelet /var/lib/cni /var/log; do
    mkdir -p "$STATE/mounts$place"
    mount --bind "$STATE/mounts$place" "$place"
  done
}

network() {
  ip link set lo up
  ip address add "$NODE_ADDRESS/30" dev eth0
  ip link set eth0 up
  ip route add default via "$HOST_ADDRESS"
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

control_plane() {
  start etcd --data-dir "$STATE/etcd" --unsafe-no-fsync --logger zap --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380
  start kube-apiserver --etcd-servers http://127.0.0.1:2379 \
    --advertise-address "$NODE_ADDRESS" --secure-port 6443 --service-cluster-ip-range "$SERVICE_NETWORK" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --anonymous-auth=false \
    --client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
    --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP \
    --kubelet-client-certificate "$pki/apiserver-to-kubelet.crt" --kubelet-client-key "$pki/apiserver-to-kubelet.key" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$pki/service-accounts.key" --service-account-signing-key-file "$pki/service-accounts.key" \
    --audit-policy-file "$STATE/config/audit.yaml" --audit-log-path "$STATE/logs/audit.log"
  until_ok 60 'the API server' kubectl get --raw /readyz
  start kube-controller-manager --kubeconfig "$pki/controller-manager.yaml" --use-service-account-credentials \
    --service-account-private-key-file "$pki/service-accounts.key" --root-ca-file "$pki/ca.crt" --leader-elect=false \
    --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" --bind-address 127.0.0.1
  start kube-scheduler --kubeconfig "$pki/scheduler.yaml" --leader-elect=false --bind-address 127.0.0.1
}

node() {
  start containerd --config "$STATE/config/containerd.toml"
  until_ok 30 containerd ctr -a "$RUN/containerd.sock" version
  ctr -a "$RUN/containerd.sock" -n k8s.io images import "$STATE/pause.tar" >/dev/null
  start kubelet --config "$STATE/config/kubelet.yaml" --kubeconfig "$pki/kubelet.yaml" \
    --root-dir "$STATE/kubelet" --hostname-override "$NODE_NAME" --node-ip "$NODE_ADDRESS"
  # Started before the node exists, kube-proxy exits as soon as the node gets its address.
  until_ok 60 'the node object' kubectl get node "$NODE_NAME"
  start kube-proxy --kubeconfig "$pki/proxy.yaml" --hostname-override "$NODE_NAME" --proxy-mode iptables \
    --cluster-cidr "$POD_NETWORK" --conntrack-max-per-core 0
}

main() {
  private_mounts
  network
  control_plane
  kubectl apply --server-side -f "$STATE/config/cluster.yaml" >/dev/null
  start local-volume-provisioner --kubeconfig "$pki/provisioner.yaml" --directory "$STATE/volumes"
  start coredns -conf "$STATE/config/Corefile"
  start local-network-policies --kubeconfig "$pki/network-policies.yaml" --always-from "$HOST_ADDRESS"
  node
  attend
}

main
