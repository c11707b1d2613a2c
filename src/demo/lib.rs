//! `cargo run -- demo`: from nothing to a running network in one command.
//!
//! ```text
//!  cluster (a context | kind | deploy/local) -> images of the programs -> Helm chart -> sample, all at once
//!                                                   table <- watches of every kind, until all of the sample is Ready
//!  people (Identity resources) -> story: register, consent, PERMIT, revoke, DENY, break-glass, review, audit
//! ```
//!
//! It uses the project only as a user does: the chart, the sample and what the API server says. Every step can be
//! repeated. What it takes down at the end is what it started; after a failure it leaves everything to be looked at.

mod cluster;
pub mod forward;
mod install;
pub mod people;
mod program;
mod story;
mod table;
mod watch;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures::future::try_join;
use kube::Client;

use cluster::Cluster;
use install::{RELEASE, SYSTEM_NAMESPACE, Sample};
use program::ProgramError;

use ehrnet_client::ClientError;

/// Which ledger the nodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LedgerKind {
    /// Hyperledger Fabric: the published images, or images packed from the folder that `EHRNET_FABRIC_BIN` names.
    Fabric,
    /// The embedded ledger, a stand-in for machines that cannot pull images. Not for production.
    Embedded,
}

/// What the demo is asked to do.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Ledger of the nodes. Default: fabric if EHRNET_FABRIC_BIN is set, otherwise embedded.
    #[arg(long, value_enum)]
    ledger: Option<LedgerKind>,
    /// Leave the network running at the end. Without it, the demo waits for Enter (on a terminal) and takes down what it started.
    #[arg(long)]
    keep: bool,
    /// Context of your kubeconfig to use. Default: a kind cluster if Docker answers, otherwise a node started by deploy/local.
    #[arg(long)]
    context: Option<String>,
    /// Namespace of the sample network.
    #[arg(long, default_value = "ehrnet-demo")]
    namespace: String,
    /// Operator image that the cluster can pull; the contract's and the embedded ledger's have its name with `-contract` and `-devledger`. Default: images packed from the programs of this project.
    #[arg(long)]
    image: Option<String>,
    /// How long the network may take to become ready.
    #[arg(long, default_value = "10m", value_parser = minutes)]
    timeout: Duration,
}

fn minutes(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    match (number.parse::<u64>(), unit) {
        (Ok(number), "m") => Ok(Duration::from_secs(number * 60)),
        (Ok(number), "s") => Ok(Duration::from_secs(number)),
        _ => Err("a duration looks like 90s or 10m".into()),
    }
}

/// Why the demo did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The chart and the sample are not where they should be.
    #[error("no charts/ehrnet in {0}: run the demo inside a clone of the repository")]
    NotInProject(PathBuf),
    /// An image can only be packed and loaded where the demo knows how to.
    #[error(
        "cannot load an image into the cluster of context {context}: push one where it can pull it and name it by --image"
    )]
    CannotLoad {
        /// The context given by the user.
        context: String,
    },
    /// The binary that runs cannot run in a container.
    #[error(
        "only a Linux binary can be packed as an image: build one with deploy/Dockerfile, put it where the cluster finds it and name it by --image"
    )]
    CannotPack,
    /// A program that it needs is missing or failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The API server refused something or did not answer.
    #[error("{doing}: {source}")]
    Kube {
        /// What was being done, as "applying Channel records".
        doing: String,
        /// What the client says.
        source: Box<kube::Error>,
    },
    /// Waiting for something failed.
    #[error("watching the cluster: {0}")]
    Watch(#[from] kube::runtime::wait::Error),
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The sample is not a list of Kubernetes objects.
    #[error("{path}: {reason}")]
    Sample {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A network of the other ledger is there.
    #[error(
        "namespace {namespace} has a network of the {} ledger, whose blocks the other cannot read: remove it first, or take another --namespace",
        format!("{found:?}").to_lowercase()
    )]
    OtherLedger {
        /// Where it is.
        namespace: String,
        /// Which ledger it has.
        found: LedgerKind,
    },
    /// Not everything became ready in time.
    #[error("not ready after {}: {}", table::elapsed(*after), unready.join(", "))]
    NotReady {
        /// How long it waited.
        after: Duration,
        /// `Kind name` of what is not ready.
        unready: Vec<String>,
    },
    /// A step of the story failed.
    #[error("{step}: {source}")]
    Story {
        /// What was to happen.
        step: String,
        /// Why it did not.
        source: ClientError,
    },
    /// A client bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] ClientError),
    /// The namespace of the sample did not go.
    #[error("namespace {namespace} is still being deleted after {}: see what its objects wait for", table::elapsed(*after))]
    NotGone {
        /// Its name.
        namespace: String,
        /// How long it waited.
        after: Duration,
    },
    /// The terminal or pipe is gone.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl DemoError {
    fn kube(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Kube { doing, source: Box::new(source) }
    }
}

/// Runs the demo.
///
/// # Errors
/// Whatever keeps the sample from becoming ready, in words that say what to do about it.
pub async fn run(args: DemoArgs) -> Result<(), DemoError> {
    let project = project_root()?;
    let fabric_bin = std::env::var_os("EHRNET_FABRIC_BIN").map(PathBuf::from);
    let ledger = args.ledger.unwrap_or(if fabric_bin.is_some() { LedgerKind::Fabric } else { LedgerKind::Embedded });
    let mut out = std::io::stdout();
    match ledger {
        LedgerKind::Fabric => writeln!(out, "ledger: Hyperledger Fabric")?,
        LedgerKind::Embedded => writeln!(out, "ledger: the embedded stand-in, not Hyperledger Fabric (see --ledger)")?,
    }
    let cluster = Cluster::choose(&project, args.context.as_deref()).await?;
    let client = cluster.client().await?;
    let outcome = bring_up(&args, &project, &cluster, &client, ledger, fabric_bin.as_deref()).await;
    match outcome {
        Ok(Outcome::Ready) => {
            next_steps(&args, &project, &cluster).await?;
            if args.keep {
                writeln!(out, "\nIt stays up. To remove it: {}", cluster.removal(&args.namespace))?;
                return Ok(());
            }
            if std::io::stdin().is_terminal() {
                writeln!(out, "\nPress Enter to take it down (--keep leaves it running).")?;
                enter_or_interrupt().await?;
            }
            take_down(&args, &project, &cluster, &client).await
        }
        Ok(Outcome::Interrupted) if args.keep => Ok(()),
        Ok(Outcome::Interrupted) => take_down(&args, &project, &cluster, &client).await,
        Err(error) => {
            after_failure(&args, &project, &cluster).await?;
            Err(error)
        }
    }
}

/// How bringing up the network ended, when nothing failed.
enum Outcome {
    Ready,
    Interrupted,
}

async fn bring_up(
    args: &DemoArgs,
    project: &Path,
    cluster: &Cluster,
    client: &Client,
    ledger: LedgerKind,
    fabric_bin: Option<&Path>,
) -> Result<Outcome, DemoError> {
    let mut out = std::io::stdout();
    let sample = Sample::read(&project.join("deploy/samples/two-hospitals.yaml"))?;
    install::refuse_other_ledger(client, ledger, &args.namespace).await?;
    let image = match &args.image {
        Some(image) => image.clone(),
        None => {
            writeln!(out, "packing the images of operator, contract and embedded ledger")?;
            install::load_images(project, cluster).await?
        }
    };
    if let (LedgerKind::Fabric, Some(folder)) = (ledger, fabric_bin) {
        writeln!(out, "packing Fabric's images from {}", folder.display())?;
        install::load_fabric_images(project, cluster, folder).await?;
    }
    writeln!(out, "installing the chart with image {image}")?;
    install::install_chart(project, cluster, client, &image, ledger, &args.namespace).await?;
    let began = Instant::now();
    writeln!(out, "applying deploy/samples/two-hospitals.yaml, {} objects at once\n", sample.keys().len())?;
    let watching = watch::until_ready(client, &args.namespace, sample.keys(), began, args.timeout);
    let applying = sample.apply(client, &args.namespace);
    tokio::select! {
        ready = try_join(applying, watching) => drop(ready?),
        interrupt = tokio::signal::ctrl_c() => {
            interrupt?;
            return Ok(Outcome::Interrupted);
        }
    }
    writeln!(out, "\nThe whole network is ready after {}.", table::elapsed(began.elapsed()))?;
    tokio::select! {
        told = story::tell(args, client) => told?,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt?;
            return Ok(Outcome::Interrupted);
        }
    }
    Ok(Outcome::Ready)
}

async fn next_steps(args: &DemoArgs, project: &Path, cluster: &Cluster) -> Result<(), DemoError> {
    let mut out = std::io::stdout();
    writeln!(out, "\nTry:")?;
    show_setup(project, cluster).await?;
    let kubectl = format!("{} -n {}", cluster.kubectl(), args.namespace);
    for (command, what) in [
        ("get ehrnet", "the network in columns"),
        ("describe channels", "what every node knows of the channel"),
        ("get secrets,configmaps", "identities, client bundles, genesis block"),
        ("delete pods --all", "and watch the network repair itself"),
        ("explain channel.spec", "every field is documented"),
    ] {
        writeln!(out, "  {kubectl} {command:<38} # {what}")?;
    }
    Ok(())
}

/// What to look at after a failure, and how to get rid of it.
async fn after_failure(args: &DemoArgs, project: &Path, cluster: &Cluster) -> Result<(), DemoError> {
    let mut out = std::io::stdout();
    writeln!(out, "\nEverything is left as it is. To look at it:")?;
    show_setup(project, cluster).await?;
    let kubectl = cluster.kubectl();
    writeln!(out, "  {kubectl} -n {SYSTEM_NAMESPACE} logs deployment/{RELEASE}")?;
    writeln!(out, "  {kubectl} -n {} get pods,events", args.namespace)?;
    writeln!(out, "To remove it: {}", cluster.removal(&args.namespace))?;
    Ok(())
}

async fn show_setup(project: &Path, cluster: &Cluster) -> Result<(), DemoError> {
    if let Some(setup) = cluster.shell_setup(project).await {
        writeln!(std::io::stdout(), "  {setup}")?;
    }
    Ok(())
}

async fn take_down(args: &DemoArgs, project: &Path, cluster: &Cluster, client: &Client) -> Result<(), DemoError> {
    let mut out = std::io::stdout();
    if cluster.started() {
        writeln!(out, "taking down the cluster")?;
        return cluster.delete().await;
    }
    writeln!(out, "removing the network and the operator; the cluster was there before and stays")?;
    install::uninstall(project, cluster, client, &args.namespace).await
}

async fn enter_or_interrupt() -> Result<(), DemoError> {
    // A thread of its own: nothing can end a read of the terminal, and the process must not wait for it.
    let (sender, entered) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(std::io::stdin().read_line(&mut String::new())));
    tokio::select! {
        Ok(read) = entered => { read?; }
        interrupt = tokio::signal::ctrl_c() => interrupt?,
    }
    Ok(())
}

/// The clone of the repository that this runs in: Cargo says where, or it is the current folder.
fn project_root() -> Result<PathBuf, DemoError> {
    let root = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(root) => PathBuf::from(root),
        None => std::env::current_dir()?,
    };
    if root.join("charts/ehrnet/Chart.yaml").is_file() { Ok(root) } else { Err(DemoError::NotInProject(root)) }
}
