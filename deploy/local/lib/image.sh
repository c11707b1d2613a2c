# shellcheck shell=bash
# Container images without a container engine: a docker-archive (manifest.json, a configuration and
# one layer) written by tar, which containerd, kind and Docker can all load. Equal input makes equal images.

image_load() {
  (($#)) || die "load wants image files"
  need_root load
  local file
  node_pid >/dev/null || die "the cluster is down; 'cluster up' starts it"
  for file in "$@"; do
    "$CACHE/bin/ctr" --address "$RUN/containerd.sock" --namespace k8s.io images import --no-unpack=false "$file" >&2
  done
}

# image_pack NAME:TAG OUT.tar [OPTIONS] SOURCE:DESTINATION...: see `cluster help`.
# shellcheck disable=SC2030
image_pack() (
  (($# >= 3)) || die "pack wants NAME:TAG OUT.tar SOURCE:DESTINATION..."
  local name=$1 out work user='' workdir='' entrypoint=() command=() environment=() ports=() volumes=() files=()
  out=$(readlink -m "$2")
  shift 2
  while (($#)); do
    case $1 in
      --user) user=$2 ;;
      --workdir) workdir=$2 ;;
      --env) environment+=("$2") ;;
      --entrypoint) entrypoint+=("$2") ;;
      --cmd) command+=("$2") ;;
      --port) ports+=("$2/tcp") ;;
      --volume) volumes+=("$2") ;;
      --*) die "pack does not know $1" ;;
      *)
        files+=("$1")
        shift
        continue
        ;;
    esac
    shift 2 || die "pack: the last option wants a value"
  done
  work=$(mktemp -d "${out%/*}/.pack.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  image_root "$work/root" "${files[@]}"
  tar_of "$work/root" "$work/layer.tar"
  image_config "$work/layer.tar" >"$work/config.json"
  printf '[{"Config":"config.json","RepoTags":[%s],"Layers":["layer.tar"]}]\n' "$(json "$name")" >"$work/manifest.json"
  rm -rf "$work/root"
  tar_of "$work" "$work.tar" manifest.json config.json layer.tar
  mv "$work.tar" "$out"
)

tar_of() {
  local from=$1 to=$2
  shift 2
  tar --create --file "$to" --directory "$from" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu "${@:-.}"
}

# image_root ROOT SOURCE:DESTINATION...: the files of the image below ROOT.
image_root() {
  local root=$1 pair source target
  shift
  umask 022
  mkdir -p "$root"/{etc/ssl/certs,tmp}
  chmod 1777 "$root/tmp"
  printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
  if [[ -r /etc/ssl/certs/ca-certificates.crt ]]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  fi
  for pair in "$@"; do
    source=${pair%:*} target=$root${pair##*:}
    [[ -e $source ]] || die "pack: there is no $source"
    mkdir -p "$(dirname "$target")"
    cp -RL --no-preserve=ownership,timestamps "$source" "$target"
    find "$target" -type f -perm /111 -print0 | while IFS= read -r -d '' program; do
      add_libraries "$root" "$program"
    done
  done
}

# add_libraries ROOT PROGRAM: what a dynamically linked program needs, where its loader looks for it.
add_libraries() {
  local root=$1 program=$2 library
  ldd "$program" >/dev/null 2>&1 || return 0
  ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    add_file "$root" "$library"
    # The C library's resolver opens these at run time.
    if [[ ${library##*/} == libc.so.6 ]]; then
      add_file "$root" "${library%/*}/libnss_dns.so.2"
      add_file "$root" "${library%/*}/libresolv.so.2"
    fi
  done
}

# add_file ROOT FILE: a copy at the same place, if there is such a file.
add_file() {
  if [[ -e $2 && ! -e $1$2 ]]; then
    mkdir -p "$1$(dirname "$2")"
    cp -L "$2" "$1$2"
  fi
}

# image_config LAYER: the image's configuration, from the settings of image_pack.
# shellcheck disable=SC2031  # they are set in the subshell that this is called in
image_config() {
  local architecture
  case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) die "no image architecture is known for $(uname -m)" ;;
  esac
  environment=("PATH=/usr/local/bin:/usr/bin:/bin" "${environment[@]}")
  printf '{"architecture":"%s","os":"linux","config":{"User":%s,"WorkingDir":%s,"Env":%s,"Entrypoint":%s,"Cmd":%s,"ExposedPorts":%s,"Volumes":%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}\n' \
    "$architecture" "$(json "$user")" "$(json "${workdir:-/}")" "$(json_list "${environment[@]}")" \
    "$(json_list "${entrypoint[@]}")" "$(json_list "${command[@]}")" "$(json_set "${ports[@]}")" \
    "$(json_set "${volumes[@]}")" "$(sha256sum "$1" | cut -d' ' -f1)"
}

json() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

json_list() {
  local item separator=''
  printf '['
  for item in "$@"; do
    printf '%s%s' "$separator" "$(json "$item")"
    separator=,
  done
  printf ']'
}

json_set() {
  local item separator=''
  printf '{'
  for item in "$@"; do
    printf '%s%s:{}' "$separator" "$(json "$item")"
    separator=,
  done
  printf '}'
}

# fabric_images DIR OUT_DIR: images that behave as the published ones do: same paths, same
# environment, same commands, and no user of their own.
fabric_images() {
  (($# == 2)) || die "fabric-images wants the folder of the Fabric release and a folder for the images"
  local from=$1 to=$2 version file builder=()
  for file in bin/peer bin/orderer config/core.yaml config/orderer.yaml config/configtx.yaml; do
    [[ -e $from/$file ]] || die "$from is not laid out as Fabric's release archive: it has no $file"
  done
  mkdir -p "$to"
  version=$("$from/bin/peer" version | sed -n 's/^ *Version: *v\{0,1\}//p')
  [[ -n $version ]] || die "$from/bin/peer does not say its version"
  if [[ -d $from/builders/ccaas/bin ]]; then
    builder=("$from/builders/ccaas/bin:/opt/hyperledger/ccaas_builder/bin")
  fi
  local common=(--env FABRIC_CFG_PATH=/etc/hyperledger/fabric --env "FABRIC_VER=$version"
    --volume /etc/hyperledger/fabric --volume /var/hyperledger)
  image_pack hyperledger/fabric-peer:3.1 "$to/fabric-peer.tar" "${common[@]}" --port 7051 \
    --cmd peer --cmd node --cmd start "$from/bin/peer:/usr/local/bin/peer" \
    "$from/config/core.yaml:/etc/hyperledger/fabric/core.yaml" "${builder[@]}"
  image_pack hyperledger/fabric-orderer:3.1 "$to/fabric-orderer.tar" "${common[@]}" --port 7050 \
    --cmd orderer --cmd start "$from/bin/orderer:/usr/local/bin/orderer" \
    "$from/config/orderer.yaml:/etc/hyperledger/fabric/orderer.yaml" \
    "$from/config/configtx.yaml:/etc/hyperledger/fabric/configtx.yaml"
  printf '%s\n' "$to/fabric-peer.tar" "$to/fabric-orderer.tar"
}
