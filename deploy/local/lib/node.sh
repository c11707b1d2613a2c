# shellcheck shell=bash
# The entry script sets `here`.
# shellcheck disable=SC2154
# Brings the node up and takes it down. The node is a tree of processes in namespaces of its own
# (processes, mounts, network, host name) under one first process, which is lib/init.sh: when that
# is killed, the kernel ends all others and drops their mounts, interfaces and iptables rules.
#
# The trap: $RUN/init holds a process id and its start time; an id alone may be somebody else's by now.

# node_pid: print the id of the node's first process if it lives.
node_pid() {
  local pid began
  [[ -r $RUN/init ]] || return 1
  # A disk that was full left it empty.
  read -r pid began <"$RUN/init" || return 1
  [[ $(process_start "$pid") == "$began" ]] && printf '%s\n' "$pid"
}

# process_start PID: when the process started, in clock ticks since boot; empty if there is none.
# The command name before the last parenthesis may contain spaces.
process_start() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  read -ra fields <<<"${stat##*) }"
  printf '%s\n' "${fields[19]}"
}

admin() { KUBECONFIG=$STATE/pki/admin.yaml "$CACHE/bin/kubectl" "$@"; }

node_ready() {
  admin wait --for=condition=Ready "node/$NODE_NAME" --timeout=0
}

node_up() {
  need_root up
  node_pid >/dev/null || tools_all >/dev/null
  with_lock "$RUN.lock" node_up_locked
  node_kubeconfig
}

node_up_locked() {
  if node_pid >/dev/null && node_ready >/dev/null 2>&1; then
    say "the cluster is up"
    return
  fi
  plan 5
  step 'system packages'
  install_packages
  step_done
  step 'clean slate'
  node_clear
  check_networks
  step_done
  step 'keys and settings'
  mkdir -p "$RUN" "$STATE"/{kubelet,logs/pods,volumes,config}
  pki_make "$STATE/pki"
  render_settings
  image_pack "ehrnet.dev/pause:$KUBERNETES_VERSION" "$STATE/pause.tar" --entrypoint /pause "$CACHE/bin/pause:/pause"
  step_done
  step 'control plane'
  start_init
  until_alive 60 'the API server' admin get --raw /readyz
  step_done
  step 'node'
  until_alive 60 'the node to become ready' node_ready
  until_alive 30 'cluster DNS' dns_ready
  step_done
}

# Answers 200 once CoreDNS has read the cluster's services.
dns_ready() {
  local answer
  exec 3<>"/dev/tcp/$NODE_ADDRESS/8181"
  printf 'GET /ready HTTP/1.0\r\n\r\n' >&3
  read -r answer <&3
  exec 3<&-
  [[ $answer == *' 200 '* ]]
}

# until_alive SECONDS WHAT COMMAND...: until_ok, which ends at once when the node's first process dies.
until_alive() {
  local limit=$1 what=$2
  shift 2
  (until_ok "$limit" "$what" alive_and "$@") || {
    tail -n 5 "$STATE"/logs/*.log >&2
    die "the cluster did not come up; its logs are in $STATE/logs, and 'cluster down' clears it away"
  }
}

alive_and() {
  node_pid >/dev/null || die "the node's first process ended"
  all_run
  "$@"
}

all_run() {
  [[ ! -s $STATE/ended ]] || die "$(cat "$STATE/ended"); its log is in $STATE/logs"
}

# A network that the machine already reaches by another way would be cut off.
check_networks() {
  local network route
  for network in "$POD_NETWORK" "$SERVICE_NETWORK" "$NODE_NETWORK"; do
    route=$(ip route show to match "$network" | sed '/^default/d')
    [[ -z $route ]] || die "the cluster wants the network $network, to which this machine already has a route: $route"
  done
}

# render_settings: config/ with the names between @ replaced.
render_settings() {
  local file target SNAPSHOTTER=overlayfs
  overlay_works || SNAPSHOTTER=native
  find "$here/config" -type f -printf '%P\n' | while read -r file; do
    target=$STATE/config/$file
    mkdir -p "$(dirname "$target")"
    sed -e "s|@STATE@|$STATE|g; s|@RUN@|$RUN|g; s|@SNAPSHOTTER@|$SNAPSHOTTER|g" \
      -e "s|@NODE_ADDRESS@|$NODE_ADDRESS|g; s|@DNS_ADDRESS@|$DNS_ADDRESS|g; s|@POD_NETWORK@|$POD_NETWORK|g" \
      -e "s|@KUBERNETES_VERSION@|$KUBERNETES_VERSION|g" "$here/config/$file" >"$target"
  done
  # A resolver on the loopback of the machine cannot be reached from the node's network.
  for file in /run/systemd/resolve/resolv.conf /etc/resolv.conf; do
    if [[ -r $file ]]; then
      grep -v '^nameserver 127\.' "$file" >"$STATE/config/resolv.conf" || true
      break
    fi
  done
}

# Whether an overlay can be mounted on the file system of the state (not on another overlay).
overlay_works() (
  mkdir -p "$STATE"/probe/{lower,upper,work,merged}
  trap 'rm -rf "$STATE/probe"' EXIT
  unshare --mount mount -t overlay overlay "$STATE/probe/merged" \
    -o "lowerdir=$STATE/probe/lower,upperdir=$STATE/probe/upper,workdir=$STATE/probe/work" 2>/dev/null
)

start_init() {
  local unshared init
  # The places that lib/init.sh mounts over have to exist.
  mkdir -p /var/lib/kubelet /var/lib/cni
  ip netns add "$NETNS"
  ip link add "$HOST_LINK" type veth peer name eth0 netns "$NETNS"
  ip address add "$HOST_ADDRESS/30" dev "$HOST_LINK"
  ip link set "$HOST_LINK" up
  ip route add "$POD_NETWORK" via "$NODE_ADDRESS"
  ip route add "$SERVICE_NETWORK" via "$NODE_ADDRESS"
  egress_on
  EHRNET_CACHE=$CACHE setsid nsenter --net="/run/netns/$NETNS" \
    unshare --mount --pid --uts --fork --mount-proc --kill-child \
    bash "$here/lib/init.sh" "$here" </dev/null >"$STATE/logs/init.log" 2>&1 9>&- &
  unshared=$!
  until_ok 5 'the first process of the node' pgrep --parent "$unshared"
  init=$(pgrep --parent "$unshared")
  printf '%s %s\n' "$init" "$(process_start "$init")" >"$RUN/init"
}

# The way out, for images that are pulled: forwarding, and the machine's address for the node's.
egress_rule=(POSTROUTING --source "$NODE_NETWORK" ! --out-interface "$HOST_LINK" -j MASQUERADE -m comment --comment ehrnet-local)

egress_on() {
  cp /proc/sys/net/ipv4/ip_forward "$RUN/ip_forward"
  echo 1 >/proc/sys/net/ipv4/ip_forward
  iptables --wait --table nat --append "${egress_rule[@]}"
}

egress_off() {
  [[ -r $RUN/ip_forward ]] || return 0
  cat "$RUN/ip_forward" >/proc/sys/net/ipv4/ip_forward
  if iptables --wait --table nat --check "${egress_rule[@]}" 2>/dev/null; then
    iptables --wait --table nat --delete "${egress_rule[@]}"
  fi
}

node_down() {
  need_root down
  with_lock "$RUN.lock" node_clear
}

# node_clear: end what runs and remove what is left of it, in whatever state it is.
node_clear() {
  local pid
  if pid=$(node_pid); then
    kill -KILL "$pid"
    # Its parent, unshare, goes when all processes of the namespace are gone.
    until_ok 30 'the processes of the node to end' process_gone "$pid"
  fi
  egress_off
  if ip netns pids "$NETNS" >/dev/null 2>&1; then ip netns delete "$NETNS"; fi
  until_ok 5 'the link to the node to go' link_gone
  until_ok 30 'the cgroups of the pods to empty' remove_cgroups
  rm -rf "$STATE" "$RUN"
  rmdir --ignore-fail-on-non-empty /var/lib/kubelet /var/lib/cni 2>/dev/null || true
}

# Its other end goes with the namespace, and takes it along at any moment.
link_gone() {
  ip link delete "$HOST_LINK" || ! ip link show "$HOST_LINK"
}

process_gone() { [[ -z $(process_start "$1") ]]; }

remove_cgroups() {
  local cgroup
  for cgroup in /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods; do
    [[ -d $cgroup ]] || continue
    find "$cgroup" -depth -type d -exec rmdir {} + || return 1
  done
}

node_status() {
  node_pid >/dev/null || die "the cluster is down"
  admin get nodes,pods --all-namespaces -o wide >&2 || die "the API server does not answer; see $STATE/logs"
  all_run
  node_ready >/dev/null 2>&1 || die "the node is not ready; see $STATE/logs"
  say "the cluster is up: KUBECONFIG=$STATE/pki/admin.yaml"
}

node_kubeconfig() {
  node_pid >/dev/null || die "the cluster is down; 'cluster up' starts it"
  printf '%s\n' "$STATE/pki/admin.yaml"
}
