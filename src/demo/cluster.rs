//! Which cluster the demo uses, and what differs between them: how to reach it, how an image gets into it, how it goes.

use std::io::Write;
use std::path::{Path, PathBuf};

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::process::Command;

use super::DemoError;
use super::program::{command, on_path, output, output_with_progress, succeeds};

const KIND_CLUSTER: &str = "ehrnet-demo";
/// What kind puts before a cluster's name to name its context.
const KIND_CONTEXT: &str = "kind-";

/// A cluster that is up.
pub(super) enum Cluster {
    /// A context of the user's own kubeconfig.
    Context {
        /// Its name.
        name: String,
    },
    /// A kind cluster of the demo's own.
    Kind {
        /// File that says how to reach it.
        kubeconfig: PathBuf,
        /// Whether this run created it.
        started: bool,
    },
    /// The node of `deploy/local`.
    Local {
        /// The script that runs it.
        script: PathBuf,
        /// File that says how to reach it.
        kubeconfig: PathBuf,
        /// Whether this run started it.
        started: bool,
    },
}

impl Cluster {
    /// The given context; or else kind, if it is installed and a Docker engine answers; or else a node on this machine.
    pub(super) async fn choose(project: &Path, context: Option<&str>) -> Result<Self, DemoError> {
        let mut out = std::io::stdout();
        if let Some(name) = context {
            writeln!(out, "cluster: context {name}")?;
            return Ok(Self::Context { name: name.to_owned() });
        }
        let docker = succeeds(command("docker", ["version"])).await;
        if docker && on_path("kind").is_some() {
            writeln!(out, "cluster: kind")?;
            return Self::kind().await;
        }
        let why = if docker { "kind is not installed" } else { "no Docker engine answers" };
        writeln!(
            out,
            "cluster: a node on this machine, because {why}; its programs are built if they are not in the cache"
        )?;
        Self::local(project).await
    }

    async fn kind() -> Result<Self, DemoError> {
        let clusters = output(command("kind", ["get", "clusters"])).await?;
        let started = !clusters.lines().any(|name| name == KIND_CLUSTER);
        let kubeconfig = std::env::temp_dir().join(format!("kind-{KIND_CLUSTER}.yaml"));
        let file = kubeconfig.to_string_lossy().into_owned();
        let verb: &[&str] = if started { &["create", "cluster", "--wait", "120s"] } else { &["export", "kubeconfig"] };
        let flags = ["--name", KIND_CLUSTER, "--kubeconfig", &file];
        output_with_progress(command("kind", verb.iter().chain(&flags))).await?;
        Ok(Self::Kind { kubeconfig, started })
    }

    async fn local(project: &Path) -> Result<Self, DemoError> {
        let script = local_script(project);
        let started = !succeeds(command(&script, ["kubeconfig"])).await;
        let kubeconfig = PathBuf::from(output_with_progress(command(&script, ["up"])).await?);
        Ok(Self::Local { script, kubeconfig, started })
    }

    /// Whether this run started the cluster.
    pub(super) fn started(&self) -> bool {
        match self {
            Self::Context { .. } => false,
            Self::Kind { started, .. } | Self::Local { started, .. } => *started,
        }
    }

    /// A client for it.
    pub(super) async fn client(&self) -> Result<Client, DemoError> {
        let config = match self {
            Self::Context { name } => {
                let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
                Config::from_kubeconfig(&options).await?
            }
            Self::Kind { kubeconfig, .. } | Self::Local { kubeconfig, .. } => {
                Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default())
                    .await?
            }
        };
        Client::try_from(config).map_err(DemoError::kube("reaching the cluster"))
    }

    /// Puts an image from a docker-archive file where its nodes find it.
    pub(super) async fn load(&self, archive: &Path) -> Result<(), DemoError> {
        let load = match self {
            Self::Context { name } => match name.strip_prefix(KIND_CONTEXT) {
                Some(cluster) if on_path("kind").is_some() => kind_load(cluster, archive),
                _ => return Err(DemoError::CannotLoad { context: name.clone() }),
            },
            Self::Kind { .. } => kind_load(KIND_CLUSTER, archive),
            Self::Local { script, .. } => {
                let mut load = command(script, ["load"]);
                load.arg(archive);
                load
            }
        };
        output(load).await?;
        Ok(())
    }

    /// Flags that lead `helm` to it.
    pub(super) fn helm_flags(&self) -> [String; 2] {
        match self {
            Self::Context { name } => ["--kube-context".into(), name.clone()],
            Self::Kind { kubeconfig, .. } | Self::Local { kubeconfig, .. } => {
                ["--kubeconfig".into(), kubeconfig.to_string_lossy().into_owned()]
            }
        }
    }

    /// The command line, if any, after which the others shown to the user work.
    pub(super) async fn shell_setup(&self, project: &Path) -> Option<String> {
        match self {
            Self::Context { .. } => None,
            Self::Kind { kubeconfig, .. } => Some(format!("export KUBECONFIG={}", kubeconfig.display())),
            Self::Local { kubeconfig, .. } => {
                let mut setup = format!("export KUBECONFIG={}", kubeconfig.display());
                if on_path("kubectl").is_none()
                    && let Ok(tools) = output(command(local_script(project), ["tools", "all"])).await
                {
                    setup.push_str(&format!(" PATH={tools}:$PATH"));
                }
                Some(setup)
            }
        }
    }

    /// `kubectl` as the user has to call it.
    pub(super) fn kubectl(&self) -> String {
        match self {
            Self::Context { name } => format!("kubectl --context {name}"),
            Self::Kind { .. } | Self::Local { .. } => "kubectl".into(),
        }
    }

    /// The command line that removes what the demo leaves, to be shown to the user.
    pub(super) fn removal(&self, namespace: &str) -> String {
        match self {
            Self::Context { name } => format!(
                "helm --kube-context {name} uninstall ehrnet -n ehrnet-system; kubectl --context {name} delete namespace {namespace}"
            ),
            Self::Kind { .. } => format!("kind delete cluster --name {KIND_CLUSTER}"),
            Self::Local { .. } => "deploy/local/cluster down".into(),
        }
    }

    /// Ends the cluster and all that is in it.
    pub(super) async fn delete(&self) -> Result<(), DemoError> {
        let delete = match self {
            Self::Context { .. } => return Ok(()),
            Self::Kind { .. } => command("kind", ["delete", "cluster", "--name", KIND_CLUSTER]),
            Self::Local { script, .. } => command(script, ["down"]),
        };
        output(delete).await?;
        Ok(())
    }
}

fn kind_load(cluster: &str, archive: &Path) -> Command {
    let mut load = command("kind", ["load", "image-archive", "--name", cluster]);
    load.arg(archive);
    load
}

/// The script of the local cluster, which packs images for every kind of cluster.
pub(super) fn local_script(project: &Path) -> PathBuf {
    project.join("deploy/local/cluster")
}
