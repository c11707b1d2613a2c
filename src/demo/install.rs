//! Puts the operator and the sample into the cluster: image, chart, objects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt, discovery};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::cluster::{Cluster, local_script};
use super::program::{command, on_path, output, output_with_progress};
use super::table::Key;
use super::{DemoError, LedgerKind};

/// Name of the chart's release, and of the operator's Deployment.
pub(super) const RELEASE: &str = "ehrnet";
/// Where the operator runs.
pub(super) const SYSTEM_NAMESPACE: &str = "ehrnet-system";
const REGISTRY: &str = "ehrnet.dev";
/// How long the operator may take to let go of a network.
const DELETION_LIMIT: Duration = Duration::from_secs(120);
/// Variable that the chart sets only for the embedded ledger.
const EMBEDDED: &str = "EHRNET_PEER_COMMAND";
/// Field manager of what the demo applies.
const MANAGER: &str = "ehrnet-demo";

/// The programs that run in the cluster; the image of each is named as the program.
const PROGRAMS: [&str; 3] = ["ehrnet", "ehrnet-contract", "ehrnet-devledger"];

/// Builds the programs, packs and loads an image of each, and returns the name of the operator's image. The tag is a digest
/// of the programs, so that a new build rolls out and an old one changes nothing.
pub(super) async fn load_images(project: &Path, cluster: &Cluster) -> Result<String, DemoError> {
    if !cfg!(target_os = "linux") {
        return Err(DemoError::CannotPack);
    }
    let programs = build_programs(project).await?;
    let mut digest = Sha256::new();
    for binary in &programs {
        digest.update(std::fs::read(binary).map_err(|source| DemoError::File { path: binary.clone(), source })?);
    }
    let tag = format!("demo-{}", &hex::encode(digest.finalize())[..12]);
    let folder = tempfile::tempdir()?;
    for (program, binary) in PROGRAMS.iter().zip(&programs) {
        let target = format!("/usr/local/bin/{program}");
        let archive = folder.path().join(format!("{program}.tar"));
        let mut pack = command(local_script(project), ["pack", &format!("{REGISTRY}/{program}:{tag}")]);
        pack.arg(&archive).args(["--user", "65532:65532", "--entrypoint", &target]);
        pack.arg(format!("{}:{target}", binary.display()));
        output(pack).await?;
        cluster.load(&archive).await?;
    }
    Ok(format!("{REGISTRY}/ehrnet:{tag}"))
}

/// Builds the programs as this one was built: Cargo made only this one, and the others may be of an older source.
async fn build_programs(project: &Path) -> Result<Vec<PathBuf>, DemoError> {
    let this = std::env::current_exe()?;
    let folder = this.parent().unwrap_or(project);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = command(cargo, ["build", "--quiet", "--locked", "--manifest-path"]);
    build
        .arg(project.join("Cargo.toml"))
        .args(["--package", "ehrnet"])
        .args(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    // What Cargo tells a program of its package would make build scripts that watch it run again, and all that stands on them.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        build.env_remove(name);
    }
    build.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    output_with_progress(build).await?;
    Ok(PROGRAMS.iter().map(|program| folder.join(program)).collect())
}

/// Packs and loads the images of Fabric's peer and orderer from a folder laid out as its release archive.
pub(super) async fn load_fabric_images(project: &Path, cluster: &Cluster, release: &Path) -> Result<(), DemoError> {
    let folder = tempfile::tempdir()?;
    let mut pack = command(local_script(project), ["fabric-images"]);
    pack.arg(release).arg(folder.path());
    for archive in output(pack).await?.lines() {
        cluster.load(Path::new(archive)).await?;
    }
    Ok(())
}

/// Installs or upgrades the chart, with the sample's namespace ready and the custom resources served.
pub(super) async fn install_chart(
    project: &Path,
    cluster: &Cluster,
    client: &Client,
    image: &str,
    ledger: LedgerKind,
    namespace: &str,
) -> Result<(), DemoError> {
    ensure_namespace(client, namespace).await?;
    let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    let mut helm = command(helm_program(project).await?, ["upgrade", "--install", RELEASE]);
    helm.arg(project.join("charts/ehrnet")).args(cluster.helm_flags());
    helm.args(["--namespace", SYSTEM_NAMESPACE, "--create-namespace"]);
    for value in [
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
        "image.pullPolicy=IfNotPresent".into(),
        format!("ledger.embedded={}", ledger == LedgerKind::Embedded),
        format!("watchNamespaces={{{namespace}}}"),
    ] {
        helm.args(["--set", &value]);
    }
    output(helm).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    try_join_all(ehrnet_api::crds().into_iter().map(|crd| {
        let definitions = definitions.clone();
        async move { await_condition(definitions, &crd.name_any(), is_crd_established()).await }
    }))
    .await?;
    Ok(())
}

/// Removes the chart's release and the sample's namespace; the definitions of the resources stay, others may use them.
pub(super) async fn uninstall(
    project: &Path,
    cluster: &Cluster,
    client: &Client,
    namespace: &str,
) -> Result<(), DemoError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // While the operator still runs: it takes its finalizers away.
    namespaces.delete(namespace, &DeleteParams::default()).await.map_err(DemoError::kube("deleting the namespace"))?;
    let gone = await_condition(namespaces, namespace, |found: Option<&Namespace>| found.is_none());
    timeout(DELETION_LIMIT, gone)
        .await
        .map_err(|_| DemoError::NotGone { namespace: namespace.to_owned(), after: DELETION_LIMIT })??;
    let mut helm = command(helm_program(project).await?, ["uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE]);
    helm.args(cluster.helm_flags());
    output(helm).await?;
    Ok(())
}

/// A node cannot read what another ledger wrote: a network that runs keeps the one it was made with.
pub(super) async fn refuse_other_ledger(client: &Client, ledger: LedgerKind, namespace: &str) -> Result<(), DemoError> {
    let doing = DemoError::kube("looking for an operator that is there already");
    let operators: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let Some(operator) = operators.get_opt(RELEASE).await.map_err(doing)? else { return Ok(()) };
    let doing = DemoError::kube("looking for a network that is there already");
    let nodes: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let runs = !nodes.list(&ListParams::default().limit(1)).await.map_err(doing)?.items.is_empty();
    let containers = operator.spec.and_then(|spec| spec.template.spec).map(|spec| spec.containers).unwrap_or_default();
    let mut environment = containers.into_iter().flat_map(|container| container.env.unwrap_or_default());
    let found =
        if environment.any(|variable| variable.name == EMBEDDED) { LedgerKind::Embedded } else { LedgerKind::Fabric };
    if runs && found != ledger {
        return Err(DemoError::OtherLedger { namespace: namespace.to_owned(), found });
    }
    Ok(())
}

/// The namespace of the sample, which admits only pods of the strictest Pod Security level.
async fn ensure_namespace(client: &Client, name: &str) -> Result<(), DemoError> {
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
    });
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let applied = namespaces.patch(name, &PatchParams::apply(MANAGER), &Patch::Apply(namespace)).await;
    applied.map_err(DemoError::kube(format!("applying Namespace {name}")))?;
    Ok(())
}

/// `helm` of the search path, or else one that the local cluster's script builds.
async fn helm_program(project: &Path) -> Result<PathBuf, DemoError> {
    match on_path("helm") {
        Some(helm) => Ok(helm),
        None => Ok(output_with_progress(command(local_script(project), ["tools", "helm"])).await?.into()),
    }
}

/// What the demo applies.
pub(super) struct Sample {
    path: PathBuf,
    objects: Vec<DynamicObject>,
}

impl Sample {
    /// Reads a file of Kubernetes objects.
    pub(super) fn read(path: &Path) -> Result<Self, DemoError> {
        let path = path.to_owned();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(DemoError::File { path, source }),
        };
        match parse_objects(&text) {
            Ok(objects) => Ok(Self { path, objects }),
            Err(error) => Err(DemoError::Sample { path, reason: error.to_string() }),
        }
    }

    /// Objects that stand in no file; `name` is what they are called in errors.
    pub(super) fn of(name: &str, objects: Vec<DynamicObject>) -> Self {
        Self { path: name.into(), objects }
    }

    /// The objects.
    #[cfg(test)]
    pub(super) fn objects(&self) -> &[DynamicObject] {
        &self.objects
    }

    /// Kind and name of each object.
    pub(super) fn keys(&self) -> Vec<Key> {
        let kind = |object: &DynamicObject| object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
        self.objects.iter().map(|object| Key { kind: kind(object), name: object.name_any() }).collect()
    }

    /// Applies every object at the same time.
    pub(super) async fn apply(&self, client: &Client, namespace: &str) -> Result<(), DemoError> {
        try_join_all(self.objects.iter().map(|object| self.apply_one(client, object, namespace))).await.map(drop)
    }

    async fn apply_one(&self, client: &Client, object: &DynamicObject, namespace: &str) -> Result<(), DemoError> {
        let types = object.types.clone().unwrap_or_default();
        let name = object.name_any();
        let doing = format!("applying {} {name}", types.kind);
        let kind = GroupVersionKind::try_from(&types)
            .map_err(|error| DemoError::Sample { path: self.path.clone(), reason: format!("{name}: {error}") })?;
        let (resource, _) = discovery::pinned_kind(client, &kind).await.map_err(DemoError::kube(doing.clone()))?;
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let parameters = PatchParams::apply(MANAGER).force();
        api.patch(&name, &parameters, &Patch::Apply(object)).await.map_err(DemoError::kube(doing))?;
        Ok(())
    }
}

fn parse_objects(text: &str) -> Result<Vec<DynamicObject>, serde_yaml::Error> {
    serde_yaml::Deserializer::from_str(text).map(DynamicObject::deserialize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_every_document_of_the_file() {
        let text = "apiVersion: ehrnet.dev/v1alpha1\nkind: Hospital\nmetadata: {name: a}\nspec: {mspId: A}\n---\n\
                    apiVersion: ehrnet.dev/v1alpha1\nkind: Peer\nmetadata: {name: p}\n";
        let names: Vec<_> = parse_objects(text).unwrap().iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["a", "p"]);
    }

    #[test]
    fn a_sample_that_is_not_objects_is_refused() {
        assert!(parse_objects("just text").is_err());
    }
}
