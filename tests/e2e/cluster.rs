//! The cluster that all scenarios share, with the operator in it.
//!
//! Everything goes through the tools a user has: `deploy/local/cluster`, `helm`, the chart. The trap: the chart makes a
//! Role in every watched namespace, so all namespaces are there before it is installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::RwLock;

use crate::programs;
use crate::scene::LIMIT;

/// The chart's release: its name, that of the operator's Deployment, account and Lease.
pub const RELEASE: &str = "ehrnet";
/// Where the operator runs.
pub const SYSTEM: &str = "ehrnet-system";
/// An image with a shell, to knock at ports from inside.
pub const SHELL_IMAGE: &str = "ehrnet.dev/test-shell:1";

/// An image of the contract that answers falsely at one hospital ([`crate::falsifying_contract`]).
pub const FALSIFYING_IMAGE: &str = "ehrnet.dev/test-falsifying-contract:1";

/// Which ledger the nodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerKind {
    Fabric,
    Embedded,
}

/// A cluster with an operator.
pub struct Cluster {
    project: PathBuf,
    /// `None` where a context was given.
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    started: bool,
    helm: PathBuf,
    /// Of the operator; the contract's and the embedded ledger's have its name with a suffix.
    image: String,
    namespaces: Vec<String>,
    pub ledger: LedgerKind,
    /// Held shared by scenarios, alone by those that stop the operator.
    pub gate: Arc<RwLock<()>>,
}

impl Cluster {
    /// A cluster that is up, with the operator leading, or why there is none.
    pub fn start<'a>(namespaces: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let project = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let script = project.join("deploy/local/cluster");
        let fabric = std::env::var_os("EHRNET_FABRIC_BIN").map(PathBuf::from);
        let context = std::env::var("EHRNET_TEST_CONTEXT").ok();
        let ledger = match std::env::var("EHRNET_TEST_LEDGER").as_deref() {
            Ok("fabric") => LedgerKind::Fabric,
            Ok("embedded") => LedgerKind::Embedded,
            Ok(other) => return Err(format!("EHRNET_TEST_LEDGER is {other}: it is fabric or embedded")),
            Err(_) if fabric.is_some() => LedgerKind::Fabric,
            Err(_) => LedgerKind::Embedded,
        };
        let (kubeconfig, started) = match &context {
            Some(_) => (None, false),
            None => local(&script)?,
        };
        let helm = match on_path("helm") {
            Some(helm) => helm,
            None => PathBuf::from(run(Command::new(&script).args(["tools", "helm"]))?),
        };
        let image = std::env::var("EHRNET_TEST_IMAGE").unwrap_or_else(|_| digest_name());
        let namespaces = namespaces.map(str::to_owned).collect();
        let gate = Arc::default();
        let cluster = Self { project, kubeconfig, context, started, helm, image, namespaces, ledger, gate };
        println!("ledger: {ledger:?}; cluster: {}", cluster.how_to_reach());
        cluster.prepare(&script, fabric.as_deref()).inspect_err(|_| {
            if started {
                cluster.leave();
            }
        })?;
        Ok(cluster)
    }

    fn prepare(&self, script: &Path, fabric: Option<&Path>) -> Result<(), String> {
        if self.kubeconfig.is_some() {
            self.load_images(script, fabric)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(self.clean_namespaces())?;
        self.install()
    }

    fn load_images(&self, script: &Path, fabric: Option<&Path>) -> Result<(), String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let at = |name: &str| folder.path().join(name);
        let this = std::env::current_exe().map_err(|e| e.to_string())?;
        let sources = [programs::ehrnet(), programs::contract(), programs::devledger(), this];
        for (source, name) in
            sources.iter().zip(["ehrnet", "ehrnet-contract", "ehrnet-devledger", "falsifying-contract"])
        {
            // Debug information is most of a binary for tests; where it cannot be stripped, the image is only bigger.
            if run(Command::new("strip").arg("-o").arg(at(name)).arg(source)).is_err() {
                std::fs::copy(source, at(name)).map_err(|e| e.to_string())?;
            }
        }
        let (repository, tag) = self.image.rsplit_once(':').unwrap_or((&self.image, "latest"));
        let of_suffix = |suffix: &str| format!("{repository}{suffix}:{tag}");
        let mut archives = Vec::new();
        let mut pack = |image: &str, entrypoint: &[&str], files: &[(PathBuf, &str)]| {
            let archive = folder.path().join(format!("image-{}.tar", archives.len()));
            let mut pack = Command::new(script);
            pack.args(["pack", image]).arg(&archive).args(["--user", "65532:65532"]);
            entrypoint.iter().for_each(|word| {
                pack.args(["--entrypoint", word]);
            });
            pack.args(files.iter().map(|(source, target)| format!("{}:{target}", source.display())));
            archives.push(archive);
            run(&mut pack).map(drop)
        };
        for suffix in ["", "-contract", "-devledger"] {
            let name = format!("ehrnet{suffix}");
            let program = format!("/usr/local/bin/{name}");
            pack(&of_suffix(suffix), &[&program], &[(at(&name), &program)])?;
        }
        let of_machine = ["/bin/bash", "/usr/bin/timeout", "/bin/sleep"].map(|path| (PathBuf::from(path), path));
        pack(SHELL_IMAGE, &["/bin/bash"], &of_machine)?;
        let program = "/usr/local/bin/falsifying-contract";
        let honest = (at("ehrnet-contract"), "/usr/local/bin/ehrnet-contract");
        pack(
            FALSIFYING_IMAGE,
            &[program, crate::falsifying_contract::COMMAND],
            &[honest, (at("falsifying-contract"), program)],
        )?;
        if let (LedgerKind::Fabric, Some(release)) = (self.ledger, fabric) {
            let packed = run(Command::new(script).arg("fabric-images").arg(release).arg(folder.path()))?;
            archives.extend(packed.lines().map(PathBuf::from));
        }
        run(Command::new(script).arg("load").args(archives)).map(drop)
    }

    /// Namespaces without anything of an earlier run, which admit only pods of the strictest Pod Security level.
    async fn clean_namespaces(&self) -> Result<(), String> {
        let client = self.client().await;
        self.refuse_foreign_release(&client).await?;
        let namespaces: Api<Namespace> = Api::all(client);
        let clean = |name: &str| {
            let (namespaces, name) = (namespaces.clone(), name.to_owned());
            async move {
                if name != SYSTEM && namespaces.delete(&name, &DeleteParams::default()).await.is_ok() {
                    let gone = await_condition(namespaces.clone(), &name, |found: Option<&Namespace>| found.is_none());
                    let gone = tokio::time::timeout(LIMIT, gone).await;
                    gone.map_err(|_| format!("namespace {name} of an earlier run does not go"))?
                        .map_err(|e| e.to_string())?;
                }
                let namespace = serde_json::from_value(json!({
                    "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
                }));
                match namespaces.create(&PostParams::default(), &namespace.expect("a namespace")).await {
                    Ok(_) => Ok(()),
                    Err(kube::Error::Api(status)) if name == SYSTEM && status.is_already_exists() => Ok(()),
                    Err(error) => Err(format!("creating namespace {name}: {error}")),
                }
            }
        };
        let names = self.namespaces.iter().map(String::as_str).chain([SYSTEM]);
        futures::future::try_join_all(names.map(clean)).await.map(drop)
    }

    /// An operator that looks after somebody's own network must not be taken away.
    async fn refuse_foreign_release(&self, client: &Client) -> Result<(), String> {
        let found = Api::<Deployment>::namespaced(client.clone(), SYSTEM).get_opt(RELEASE).await;
        let Some(found) = found.map_err(|error| format!("the cluster does not answer: {error}"))? else {
            return Ok(());
        };
        let text = serde_json::to_string(&found).map_err(|e| e.to_string())?;
        if text.contains(&self.namespaces[0]) {
            return Ok(());
        }
        Err(format!(
            "an operator of somebody else runs in {SYSTEM}; to remove it: helm uninstall {RELEASE} -n {SYSTEM}"
        ))
    }

    /// Installs the chart, or upgrades it to the same.
    pub fn install(&self) -> Result<(), String> {
        let (repository, tag) = self.image.rsplit_once(':').ok_or_else(|| format!("{} has no tag", self.image))?;
        let mut helm = self.helm(&["upgrade", "--install", RELEASE]);
        helm.arg(self.project.join("charts/ehrnet")).args(["--wait", "--timeout", "180s"]);
        for value in [
            format!("image.repository={repository}"),
            format!("image.tag={tag}"),
            format!("ledger.embedded={}", self.ledger == LedgerKind::Embedded),
            format!("watchNamespaces={{{}}}", self.namespaces.join(",")),
            "log.filter=info\\,ehrnet=debug".into(),
            "log.format=human".into(),
        ] {
            helm.args(["--set", &value]);
        }
        run(&mut helm).map(drop)
    }

    /// Uninstalls the chart.
    pub fn uninstall(&self) -> Result<(), String> {
        run(self.helm(&["uninstall", RELEASE]).args(["--wait", "--timeout", "120s"])).map(drop)
    }

    fn helm(&self, words: &[&str]) -> Command {
        let mut helm = Command::new(&self.helm);
        helm.args(words).args(["--namespace", SYSTEM]);
        match (&self.context, &self.kubeconfig) {
            (Some(context), _) => helm.args(["--kube-context", context]),
            (None, Some(file)) => helm.arg("--kubeconfig").arg(file),
            (None, None) => &mut helm,
        };
        helm
    }

    /// A client of the calling runtime, with all rights.
    pub async fn client(&self) -> Client {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file).expect("the cluster's kubeconfig");
                Config::from_custom_kubeconfig(kubeconfig, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        Client::try_from(config.expect("a kubeconfig with the context")).expect("a client")
    }

    /// Where the API server writes down who did what; only the local cluster shows it.
    pub fn audit_log(&self) -> Option<PathBuf> {
        let folder = self.kubeconfig.as_ref()?.parent()?.parent()?;
        Some(folder.join("logs/audit.log"))
    }

    /// For people.
    pub fn how_to_reach(&self) -> String {
        match (&self.context, &self.kubeconfig) {
            (Some(context), _) => format!("context {context}"),
            (None, file) => format!("KUBECONFIG={}", file.as_deref().unwrap_or(Path::new("")).display()),
        }
    }

    /// Takes down what was started; what was there before only loses what was put into it.
    pub fn leave(&self) {
        let left = if self.started {
            run(Command::new(self.project.join("deploy/local/cluster")).arg("down")).map(drop)
        } else {
            self.remove_everything()
        };
        if let Err(error) = left {
            println!("cannot clean up: {error}");
        }
    }

    fn remove_everything(&self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(async {
            let namespaces: Api<Namespace> = Api::all(self.client().await);
            for name in &self.namespaces {
                match namespaces.delete(name, &DeleteParams::default()).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.is_not_found() => {}
                    Err(error) => return Err(format!("deleting namespace {name}: {error}")),
                }
            }
            for name in &self.namespaces {
                let gone = await_condition(namespaces.clone(), name, |found: Option<&Namespace>| found.is_none());
                tokio::time::timeout(LIMIT, gone)
                    .await
                    .map_err(|_| format!("namespace {name} stays"))?
                    .map_err(|e| e.to_string())?;
            }
            Ok::<_, String>(())
        })?;
        self.uninstall()
    }
}

/// The node of this machine: its kubeconfig, and whether it was started just now.
fn local(script: &Path) -> Result<(Option<PathBuf>, bool), String> {
    if !cfg!(target_os = "linux") || !rustix::process::geteuid().is_root() {
        return Err("a node is only run by root on Linux (or give a cluster by EHRNET_TEST_CONTEXT)".into());
    }
    let running = run(Command::new(script).arg("kubeconfig").stderr(Stdio::null()));
    let kubeconfig = run(Command::new(script).arg("up").stderr(Stdio::inherit()))?;
    Ok((Some(PathBuf::from(kubeconfig)), running.is_err()))
}

/// The tag says what is in it, so that a new build rolls out.
fn digest_name() -> String {
    let mut digest = Sha256::new();
    for program in [programs::ehrnet(), programs::contract(), programs::devledger()] {
        digest.update(std::fs::read(program).expect("the programs under test"));
    }
    format!("ehrnet.dev/ehrnet:test-{}", &hex::encode(digest.finalize())[..12])
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Trimmed standard output of a program, or what it complained about.
pub fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let words: Vec<_> = command.get_args().take(2).map(|word| word.to_string_lossy().into_owned()).collect();
    let what = format!("`{name} {}`", words.join(" "));
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{what} cannot be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("{what} failed ({}): {said}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
