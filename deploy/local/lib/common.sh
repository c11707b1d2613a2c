# shellcheck shell=bash
# What every part of the cluster script uses: where things are, messages, the progress display,
# locks and waiting. Results go to standard output, everything for people to standard error.
# shellcheck disable=SC2034  # the settings below are read by the other parts

readonly KUBERNETES_VERSION=v1.37.2
readonly ETCD_VERSION=v3.7.3
readonly CONTAINERD_VERSION=v2.2.9
readonly COREDNS_VERSION=v1.14.7
readonly HELM_VERSION=v3.22.0

readonly CACHE=${EHRNET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ehrnet}

# One cluster per machine: its data, its sockets and its network have fixed places. The sockets
# are apart because the path of a Unix socket may have at most 107 characters.
readonly STATE=/var/lib/ehrnet-local
readonly RUN=/run/ehrnet-local
readonly NETNS=ehrnet-local
readonly NODE_NAME=ehrnet-local
readonly HOST_LINK=ehrnet0
readonly HOST_ADDRESS=10.245.0.1
readonly NODE_ADDRESS=10.245.0.2
readonly NODE_NETWORK=10.245.0.0/30
readonly POD_NETWORK=10.244.0.0/24
readonly SERVICE_NETWORK=10.96.0.0/16
readonly API_SERVICE_ADDRESS=10.96.0.1
readonly DNS_ADDRESS=10.96.0.10

say() { printf '%s\n' "$*" >&2; }

die() {
  printf 'cluster: %s\n' "$*" >&2
  exit 1
}

need_root() {
  [[ $(id -u) -eq 0 && $(uname -s) == Linux ]] ||
    die "'$1' runs a Kubernetes node and has to be root on Linux; with Docker, use kind instead"
}

# Progress: `plan N` announces N steps, `step TEXT` begins the next, `detail TEXT` says how far
# the step is. On a terminal the line is redrawn in place; elsewhere a step is one line, and a
# detail another one every 30 seconds.
steps_planned=0 steps_begun=0 step_text='' step_began=0 detail_shown=0

plan() {
  steps_planned=$1
  steps_begun=0
}

step() {
  step_text=$1 step_began=$SECONDS detail_shown=$SECONDS
  steps_begun=$((steps_begun + 1))
  if [[ -t 2 ]]; then detail ''; else say "[$steps_begun/$steps_planned] $step_text"; fi
}

detail() {
  local elapsed=$((SECONDS - step_began)) line
  printf -v line '[%d/%d] %s %d:%02d %s' "$steps_begun" "$steps_planned" "$step_text" \
    $((elapsed / 60)) $((elapsed % 60)) "$1"
  if [[ -t 2 ]]; then
    printf '\r\033[K%s' "${line:0:$(($(tput cols 2>/dev/null || echo 80) - 1))}" >&2
  elif ((SECONDS - detail_shown >= 30)); then
    detail_shown=$SECONDS
    say "$line"
  fi
}

step_done() {
  detail 'done'
  if [[ -t 2 ]]; then printf '\n' >&2; fi
}

# with_lock FILE COMMAND...: run a shell function while nobody else holds FILE. The lock is the
# subshell's descriptor 9: whatever outlives the command has to close it.
with_lock() {
  local file=$1
  shift
  mkdir -p "$(dirname "$file")"
  (
    if ! flock --nonblock 9; then
      say "waiting for another run that holds $file"
      flock 9
    fi
    "$@"
  ) 9>"$file"
}

# until_ok SECONDS WHAT COMMAND...: try COMMAND until it succeeds.
until_ok() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || die "gave up waiting for $what"
    sleep 0.1
  done
}
