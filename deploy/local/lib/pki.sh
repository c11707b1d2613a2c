# shellcheck shell=bash
# The cluster's certificates and kubeconfigs: one CA that lives as long as the cluster.

# pki_x509 NAME SUBJECT ARGUMENTS...: NAME.key and NAME.crt with just the extensions asked for,
# whatever this system's own OpenSSL configuration adds.
pki_x509() {
  local name=$1 subject=$2
  shift 2
  openssl req -config <(printf '[req]\ndistinguished_name=subject\n[subject]\n') -x509 -days 3650 -subj "$subject" \
    -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout "$name.key" -out "$name.crt" "$@" 2>openssl.log ||
    die "openssl could not make the certificate $name: $(cat openssl.log)"
}

# pki_certificate NAME SUBJECT USAGE [SUBJECT_ALT_NAMES]: a certificate signed by the CA.
pki_certificate() {
  pki_x509 "$1" "$2" -CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:FALSE \
    -addext keyUsage=critical,digitalSignature -addext "extendedKeyUsage=$3" ${4:+-addext "subjectAltName=$4"}
}

# pki_kubeconfig FILE NAME SUBJECT: a kubeconfig with a client certificate for SUBJECT in it.
pki_kubeconfig() {
  local file=$1 name=$2
  pki_certificate "$name" "$3" clientAuth
  cat >"$file" <<EOF
apiVersion: v1
kind: Config
current-context: $NODE_NAME
contexts:
  - name: $NODE_NAME
    context: {cluster: $NODE_NAME, user: $name}
clusters:
  - name: $NODE_NAME
    cluster:
      server: https://$NODE_ADDRESS:6443
      certificate-authority-data: $(base64 -w0 ca.crt)
users:
  - name: $name
    user:
      client-certificate-data: $(base64 -w0 "$name.crt")
      client-key-data: $(base64 -w0 "$name.key")
EOF
}

# pki_make DIRECTORY: everything that the components need to know and trust each other.
pki_make() (
  umask 077
  mkdir -p "$1"
  cd "$1" || return
  pki_x509 ca /CN=ehrnet-local -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
  openssl ecparam -name prime256v1 -genkey -noout -out service-accounts.key
  pki_certificate apiserver /CN=kube-apiserver serverAuth \
    "IP:$NODE_ADDRESS,IP:$API_SERVICE_ADDRESS,IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  pki_certificate kubelet-serving "/CN=$NODE_NAME" serverAuth "IP:$NODE_ADDRESS,DNS:$NODE_NAME"
  pki_certificate apiserver-to-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  pki_kubeconfig admin.yaml admin /O=system:masters/CN=kubernetes-admin
  pki_kubeconfig controller-manager.yaml controller-manager /CN=system:kube-controller-manager
  pki_kubeconfig scheduler.yaml scheduler /CN=system:kube-scheduler
  pki_kubeconfig kubelet.yaml kubelet "/O=system:nodes/CN=system:node:$NODE_NAME"
  pki_kubeconfig proxy.yaml proxy /CN=system:kube-proxy
  pki_kubeconfig dns.yaml dns /CN=ehrnet:dns
  pki_kubeconfig provisioner.yaml provisioner /CN=ehrnet:local-volume-provisioner
  pki_kubeconfig network-policies.yaml network-policies /CN=ehrnet:local-network-policies
)
