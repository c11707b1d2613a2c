//! Requests for access that never stop, as a hospital's systems make them: what fails is tried again, and counts as done
//! only when the ledger says that it is committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ehrnet_fabric::LedgerError;
use ehrnet_fabric::gateway::{Client, Endorsed};
use ehrnet_fabric::proposal::Call;
use ehrnet_fabric::proto::protos::TxValidationCode;
use ehrnet_messages::{AccessSecret, CHAINCODE_NAME, Function, RequestAccess};
use tokio::task::JoinHandle;

use crate::scene::{LIMIT, Scene, eventually};
use crate::wire::Wire;

/// How long the ledger gets to commit before a transaction is sent again: the same one, which cannot count twice.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between requests and between attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// One hospital's system, at the gateway of its own peer.
pub struct Load {
    /// Who it is, for people.
    name: String,
    progress: Arc<Progress>,
    worker: JoinHandle<Vec<Done>>,
}

/// A request that is committed.
pub struct Done {
    pub tx_id: String,
    pub at: Instant,
}

#[derive(Default)]
struct Progress {
    done: AtomicUsize,
    /// Attempts that failed.
    failed: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    /// Begins, as the holder of an Identity.
    pub async fn start(scene: &Scene, identity: &str) -> Self {
        let gateway = Arc::new(Wire::new(scene).gateway(scene.bundle(identity).await));
        let progress = Arc::<Progress>::default();
        let worker = tokio::spawn(work(identity.to_owned(), gateway, progress.clone()));
        Self { name: identity.to_owned(), progress, worker }
    }

    /// Attempts that have failed since it began.
    pub fn failed(&self) -> usize {
        self.progress.failed.load(Ordering::Relaxed)
    }

    /// Waits until some more requests were made and committed.
    pub async fn goes_on(&self) {
        let goal = self.progress.done.load(Ordering::Relaxed) + 4;
        let what = format!("{} has committed more", self.name);
        eventually(&what, async || self.progress.done.load(Ordering::Relaxed) >= goal).await;
    }

    /// Ends it: everything that it was told is committed.
    pub async fn end(self) -> Vec<Done> {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.worker.await.expect("the load")
    }
}

/// The longest time in which nothing was committed, after `since`.
pub fn longest_gap(done: &[Done], since: Instant, until: Instant) -> Duration {
    let times = done.iter().map(|done| done.at).filter(|at| (since..until).contains(at));
    let times: Vec<_> = std::iter::once(since).chain(times).chain([until]).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

async fn work(name: String, gateway: Arc<Client>, progress: Arc<Progress>) -> Vec<Done> {
    let mut all = Vec::new();
    while !progress.stop.load(Ordering::Relaxed) {
        let endorsed = insist(&name, &progress, || endorse(gateway.clone())).await;
        insist(&name, &progress, || send(gateway.clone(), endorsed.clone())).await;
        all.push(Done { tx_id: endorsed.tx_id, at: Instant::now() });
        progress.done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    all
}

async fn endorse(gateway: Arc<Client>) -> Result<Endorsed, LedgerError> {
    gateway.endorse(&request(), &[]).await
}

async fn send(gateway: Arc<Client>, endorsed: Endorsed) -> Result<(), LedgerError> {
    gateway.send(&endorsed).await?;
    let (block, code) = gateway.commit_status("care", &endorsed.tx_id, PATIENCE).await?;
    assert_eq!(code, TxValidationCode::Valid, "transaction {} in block {block}", endorsed.tx_id);
    Ok(())
}

/// Tries until it succeeds.
async fn insist<T, F>(name: &str, progress: &Progress, act: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, LedgerError>>,
{
    let until = Instant::now() + LIMIT;
    let mut said = String::new();
    loop {
        match act().await {
            Ok(done) => return done,
            Err(error) if Instant::now() < until => {
                progress.failed.fetch_add(1, Ordering::Relaxed);
                let error = error.to_string();
                if error != said {
                    println!("{name} tries again: {error}");
                    said = error;
                }
            }
            Err(error) => panic!("{name} gives up: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A request for access that is denied, which is as good a transaction as any.
fn request() -> Call<'static> {
    let ask = RequestAccess { patient: "6b".repeat(32), purpose: "TREAT".into(), ..RequestAccess::default() };
    let mut call = Call::new("care", CHAINCODE_NAME, ask.arguments().expect("JSON"));
    let secret = AccessSecret { salt: ehrnet_client::contract::salt(), justification: None };
    call.transient.insert("access".into(), serde_json::to_vec(&secret).expect("JSON"));
    call
}
