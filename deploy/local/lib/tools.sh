# shellcheck shell=bash
# The entry script sets `here`.
# shellcheck disable=SC2154
# Builds the programs of the cluster from Go modules, each once, into the cache. A tool's folder
# is named by its version and a digest of what it is built from, and appears complete or not at all.

# tool_dir NAME VERSION SOURCE [TAGS]: where the tool is, or will be.
tool_dir() {
  local digest
  digest=$(cd "$here/$3" && find . -name '*.go' -o -name 'go.*' | LC_ALL=C sort | xargs cat | sha256sum)
  printf '%s/tools/%s-%s-%s' "$CACHE" "$1" "$2" "${digest:0:12}"
}

etcd_dir() { tool_dir etcd "$ETCD_VERSION" etcd; }
kube_dir() { tool_dir kube "$KUBERNETES_VERSION" kube; }
kube_api_dir() { tool_dir kube-api "$KUBERNETES_VERSION" kube; }
containerd_dir() { tool_dir containerd "$CONTAINERD_VERSION" containerd; }
coredns_dir() { tool_dir coredns "$COREDNS_VERSION" coredns; }
helm_dir() { tool_dir helm "$HELM_VERSION" helm; }

# Every tool by its name, in a folder that can be put on PATH.
bin_dir() { printf '%s/bin' "$CACHE"; }

need_go() {
  command -v go >/dev/null || die "Go 1.21 or newer is needed to build the cluster's programs; see https://go.dev/doc/install"
}

# go_build SOURCE OUT PACKAGES -- ARGUMENTS: build with a line of progress per package compiled.
go_build() (
  cd "$here/$1" || return
  local out=$2 log=$CACHE/build-$1.log line packages total compiled=0 status=''
  read -ra packages <<<"$3"
  shift 4
  export CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false -mod=readonly' GOWORK=off
  detail 'fetching modules'
  go list -deps "$@" "${packages[@]}" >"$log" 2>&1 || build_failed "$log"
  total=$(grep -vc '^go: ' "$log")
  : >"$log"
  while [[ -z $status ]]; do
    if IFS= read -r -t 1 line; then
      case $line in
        'exit '*) status=${line#exit } ;;
        *)
          printf '%s\n' "$line" >>"$log"
          compiled=$((compiled + 1))
          ;;
      esac
    fi
    detail "compiled $compiled of at most $total packages"
  done < <(
    code=0
    go build -v "$@" -o "$out" "${packages[@]}" 2>&1 || code=$?
    echo "exit $code"
  )
  [[ $status == 0 ]] || build_failed "$log"
)

build_failed() {
  say ''
  grep -E '^#|:[0-9]+:|^go: |error|refused|Forbidden' "$1" | grep -v '^go: downloading' | tail -20 >&2 || tail -20 "$1" >&2
  die "a build failed; its log is $1"
}

# build_tool DIR SOURCE 'PACKAGES' 'LINKS' [go build ARGUMENTS]: build into DIR unless it is there.
# LINKS are names that point to the program called as its source folder.
build_tool() {
  if [[ -d $1 ]]; then return; fi
  step "building $(basename "$1" | sed 's/-[0-9a-f]*$//')"
  need_go
  with_lock "$1.lock" build_locked "$@"
  step_done
}

# plan_builds DIRS...: a step for each tool that is not in the cache.
plan_builds() {
  local dir missing=0
  for dir in "$@"; do
    [[ -d $dir ]] || missing=$((missing + 1))
  done
  plan "$missing"
}

build_locked() {
  local dir=$1 folder=$2 sources=$3 links=$4 temporary=$1.partial link
  shift 4
  # Another run may have built it while this one waited for the lock.
  if [[ -d $dir ]]; then return; fi
  rm -rf "$temporary"
  mkdir "$temporary"
  go_build "$folder" "$temporary/" "$sources" -- -ldflags="-s -w ${ldflags:-}" "$@"
  for link in $links; do ln -s "$folder" "$temporary/$link"; done
  mv "$temporary" "$dir"
}

build_kube() {
  local version=${KUBERNETES_VERSION#v} package=k8s.io/component-base/version
  local major=${version%%.*} rest=${version#*.}
  local ldflags="-X $package.gitVersion=$KUBERNETES_VERSION -X $package.gitMajor=$major -X $package.gitMinor=${rest%%.*}"
  build_tool "$@"
}

build_helm() { build_tool "$(helm_dir)" helm helm.sh/helm/v3/cmd/helm ''; }

# link_all DIR FILES...: make DIR hold a link to each file, and print it.
link_all() {
  local dir=$1
  shift
  mkdir -p "$dir"
  ln -sfn "$@" "$dir/"
  printf '%s\n' "$dir"
}

tools_api() {
  local kube tool
  if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
    for tool in etcd kube-apiserver; do
      [[ -x $KUBEBUILDER_ASSETS/$tool ]] || die "KUBEBUILDER_ASSETS is $KUBEBUILDER_ASSETS, which has no $tool"
    done
    printf '%s\n' "$KUBEBUILDER_ASSETS"
    return
  fi
  kube=$(kube_dir)
  [[ -d $kube ]] || kube=$(kube_api_dir)
  plan_builds "$(etcd_dir)" "$kube"
  build_tool "$(etcd_dir)" etcd . ''
  build_kube "$kube" kube . 'kube-apiserver kubectl' -tags api
  link_all "$CACHE/assets-$(basename "$kube")" "$(etcd_dir)/etcd" "$kube/kube-apiserver" "$kube/kubectl"
}

tools_all() {
  plan_builds "$(etcd_dir)" "$(kube_dir)" "$(containerd_dir)" "$(coredns_dir)" "$(helm_dir)"
  build_tool "$(etcd_dir)" etcd . ''
  build_kube "$(kube_dir)" kube '. ./pause' \
    'kube-apiserver kubectl kube-controller-manager kube-scheduler kube-proxy kubelet local-volume-provisioner local-network-policies'
  build_tool "$(containerd_dir)" containerd \
    'github.com/containerd/containerd/v2/cmd/containerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 github.com/containerd/containerd/v2/cmd/ctr' \
    '' -tags 'no_btrfs no_zfs no_devmapper'
  build_tool "$(coredns_dir)" coredns . ''
  build_helm
  link_all "$(bin_dir)" "$(etcd_dir)"/* "$(kube_dir)"/* "$(containerd_dir)"/* "$(coredns_dir)"/* "$(helm_dir)"/*
}

tools_helm() {
  plan_builds "$(helm_dir)"
  build_helm
  printf '%s\n' "$(helm_dir)/helm"
}

# Debian packages of what is not a Go module, installed where they are missing.
install_packages() {
  local program packages=()
  for program in runc:runc iptables:iptables nft:nftables conntrack:conntrack ip:iproute2 openssl:openssl nsenter:util-linux pgrep:procps; do
    command -v "${program%%:*}" >/dev/null || packages+=("${program#*:}")
  done
  [[ -x /usr/lib/cni/ptp ]] || packages+=(containernetworking-plugins)
  ((${#packages[@]})) || return 0
  command -v apt-get >/dev/null || die "missing: ${packages[*]}; they are installed by apt-get, which this system does not have"
  detail "installing ${packages[*]}"
  {
    apt-get -o DPkg::Lock::Timeout=300 update -q &&
      DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends "${packages[@]}"
  } >"$CACHE/apt.log" 2>&1 || die "installing ${packages[*]} failed; see $CACHE/apt.log"
}
