//! What every container and volume of a node has: security, probes, mounts.
//!
//! Every pod passes Pod Security `restricted`, and more: a read-only root file system, no service account token and no
//! service links. The last is not tidiness: a Service called `core` or `orderer` would put variables such as
//! `ORDERER_PORT` into the environment, which Fabric reads as its own configuration.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, Probe, ProjectedVolumeSource, ResourceRequirements,
    SeccompProfile, SecretKeySelector, SecretProjection, SecurityContext, TCPSocketAction, Volume, VolumeMount,
    VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use ehrnet_api::common::{PullPolicy, Resources};

/// User and group of ledger nodes; no user of the published images, which bring none of their own.
pub const NODE_UID: i64 = 10_001;
/// User and group `couchdb` of the published CouchDB image.
pub const COUCHDB_UID: i64 = 5_984;

/// Readable by the pod's group and nobody else.
const GROUP_READABLE: i32 = 0o440;

/// Security of a pod whose volumes belong to the nodes' group.
pub fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NODE_UID),
        run_as_group: Some(NODE_UID),
        fs_group: Some(NODE_UID),
        // A ledger has many files: do not visit them all at every start.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

/// Security of a container that runs as `uid`.
pub fn container_security(uid: i64) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(uid),
        run_as_group: Some(uid),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        ..SecurityContext::default()
    }
}

/// How often and how long a probe tries.
#[derive(Clone, Copy, Debug)]
pub struct ProbeTiming {
    /// Seconds between tries; the first comes at once.
    pub period: i32,
    /// Failures in a row that count.
    pub failures: i32,
}

/// A probe of an HTTPS path on a named port.
pub fn https_probe(port: &str, path: &str, timing: ProbeTiming) -> Probe {
    http_probe("HTTPS", port, path, timing)
}

/// A probe of an HTTP path on a named port.
pub fn http_probe(scheme: &str, port: &str, path: &str, timing: ProbeTiming) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(port.to_owned()),
            scheme: Some(scheme.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(timing.period),
        failure_threshold: Some(timing.failures),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

/// A probe that a named port takes connections.
pub fn tcp_probe(port: &str, timing: ProbeTiming) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::String(port.to_owned()), host: None }),
        period_seconds: Some(timing.period),
        failure_threshold: Some(timing.failures),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

/// An environment variable.
pub fn env(name: &str, value: impl Into<String>) -> EnvVar {
    // The API server drops an empty value, which is the same as none; kept here, it would look like a lost one.
    let value = Some(value.into()).filter(|value| !value.is_empty());
    EnvVar { name: name.to_owned(), value, value_from: None }
}

/// An environment variable from a Secret.
pub fn secret_env(name: &str, secret: &str, key: &str) -> EnvVar {
    let selector = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: None };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() }),
    }
}

/// A file of a volume: the key it comes from, and where it lies.
pub type File = (&'static str, &'static str);

/// Files of a Secret.
pub fn from_secret(name: String, files: &[File]) -> VolumeProjection {
    let secret = SecretProjection { name, items: Some(items(files)), optional: None };
    VolumeProjection { secret: Some(secret), ..VolumeProjection::default() }
}

/// Files of a ConfigMap.
pub fn from_config_map(name: String, files: &[File]) -> VolumeProjection {
    let config_map = ConfigMapProjection { name, items: Some(items(files)), optional: None };
    VolumeProjection { config_map: Some(config_map), ..VolumeProjection::default() }
}

fn items(files: &[File]) -> Vec<KeyToPath> {
    let item = |(key, path): &File| KeyToPath { key: (*key).to_owned(), path: (*path).to_owned(), mode: None };
    files.iter().map(item).collect()
}

/// A volume of projected files.
pub fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource { default_mode: Some(GROUP_READABLE), sources: Some(sources) }),
        ..Volume::default()
    }
}

/// A volume that lives as long as the pod.
pub fn empty_dir(name: &str, size_limit: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { medium: None, size_limit: Some(Quantity(size_limit.into())) }),
        ..Volume::default()
    }
}

/// A volume of a claim.
pub fn claimed(name: &str, claim_name: String) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name, read_only: None }),
        ..Volume::default()
    }
}

/// A mount that is written to.
pub fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// A mount that is only read.
pub fn read_only(name: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..mount(name, path) }
}

/// What the user asks for; where they ask for nothing, `requests` and a limit of memory.
pub fn resources(wanted: &Resources, requests: [(&str, &str); 2], memory_limit: &str) -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        pairs.iter().map(|(name, size)| ((*name).to_owned(), Quantity((*size).to_owned()))).collect()
    };
    if !wanted.requests.is_empty() || !wanted.limits.is_empty() {
        let some = |map: &BTreeMap<String, Quantity>| (!map.is_empty()).then(|| map.clone());
        return ResourceRequirements { requests: some(&wanted.requests), limits: some(&wanted.limits), claims: None };
    }
    ResourceRequirements {
        requests: Some(quantities(&requests)),
        // No CPU limit: throttling an orderer costs elections.
        limits: Some(quantities(&[("memory", memory_limit)])),
        claims: None,
    }
}

/// Kubernetes' word for a pull policy.
pub fn pull_policy(policy: PullPolicy) -> String {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
    .to_owned()
}
