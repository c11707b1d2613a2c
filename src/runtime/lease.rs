//! Leader election by a Lease (`coordination.k8s.io/v1`), so that two operators never write at one time.
//!
//! Own code and not `kube-lease-manager`: that crate (0.13) renews and takes over without a `resourceVersion`
//! precondition, trusts the other machine's time of day and sleeps through a release.
//!
//! Invariants:
//! - Every write of the Lease carries the `resourceVersion` last read: of two that try, one gets a 409.
//! - Another's lease counts as run out only after it stood unchanged for its whole duration *on this process's
//!   monotonic clock*: no machine's time of day matters.
//! - A renewal allows writing from the moment it was *sent*, and ends [`MARGIN`] before anyone else may take over.
//!
//! Who cannot renew stops writing and keeps trying: if the renewal succeeds, its precondition proves that nobody else
//! had the lease in between. Who sees another holder must end: [`Leadership::lost`] resolves.

use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use super::fence::{Fence, LeaseLost};

/// How long a lease is left alone that is not renewed. Bounds the takeover after a SIGKILL.
pub const DURATION: Duration = Duration::from_secs(5);
/// How long before that end the holder itself stops to write: for clocks that run differently and requests under way.
pub const MARGIN: Duration = Duration::from_secs(1);
/// Pause between renewals, which are the operator's only steady writes: 30 a minute.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// Pause after a failed attempt.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_millis(875);
/// A renewal that is not answered, and a second attempt, end before writing stops. What is refused at once is tried
/// more often in that time.
const _: () = assert!(
    RENEW_EVERY.as_millis() + RETRY_AFTER.as_millis() + 2 * ATTEMPT.as_millis()
        <= DURATION.as_millis() - MARGIN.as_millis()
);

/// Why the lease could not be given back.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The Kubernetes API refused it or could not be reached. The next leader waits until the lease runs out.
    #[error("failed to give the lease back: {0}; the next leader has to wait until it runs out")]
    Api(#[from] kube::Error),
    /// No answer in time.
    #[error("failed to give the lease back in {} ms; the next leader has to wait until it runs out", ATTEMPT.as_millis())]
    TimedOut,
    /// The task that renews it had panicked.
    #[error("the renewal of the lease had crashed: {0}")]
    Crashed(#[from] tokio::task::JoinError),
}

/// The lease and this process's part in it.
#[derive(Clone, Debug)]
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    fence: Fence,
}

/// The lease is held, and renewed by a task.
#[derive(Debug)]
pub struct Leadership {
    candidate: Candidate,
    stop: oneshot::Sender<()>,
    renewal: JoinHandle<Lease>,
    lost: watch::Receiver<Option<LeaseLost>>,
}

impl Candidate {
    /// `identity` must be unique among the processes alive at one time; `fence` is opened and closed with the lease.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, fence: Fence) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), identity: identity.to_owned(), fence }
    }

    /// Waits until the lease is held. Failures are logged and tried again; dropping the future gives up.
    pub async fn acquire(self) -> Leadership {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let events = watcher(self.api.clone(), only).default_backoff();
        let held = self.acquire_from(events).await;
        Leadership::begin(self, held)
    }

    async fn acquire_from(&self, events: impl Stream<Item = watcher::Result<watcher::Event<Lease>>>) -> Lease {
        let mut events = std::pin::pin!(events);
        let mut view = View::default();
        loop {
            let step = view.decide(&self.identity, Instant::now());
            let attempt = match step {
                Step::Wait(until) => {
                    tokio::select! {
                        event = events.next() => view.see(event, Instant::now()),
                        () = sleep_until(until.unwrap_or_else(far_away)) => {}
                    }
                    continue;
                }
                Step::Create => self.create().await,
                Step::Take(lease) => self.put(self.held(*lease)).await,
            };
            match attempt {
                Ok(lease) => return lease,
                // Somebody was faster. What the lease looks like now comes by the watch.
                Err(Failed::Api(error)) if is_conflict(&error) => view.complete = false,
                Err(failed) => {
                    tracing::warn!(lease = self.name, %failed, "cannot take the lease; trying again");
                    sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    async fn create(&self) -> Result<Lease, Failed> {
        let mut lease = self.held(Lease::default());
        lease.metadata.name = Some(self.name.clone());
        self.granting(self.api.create(&PostParams::default(), &lease)).await
    }

    async fn put(&self, lease: Lease) -> Result<Lease, Failed> {
        self.granting(self.api.replace(&self.name, &PostParams::default(), &lease)).await
    }

    /// Sends a request that makes or keeps this process the holder, and opens the fence as of its sending.
    async fn granting(&self, request: impl Future<Output = kube::Result<Lease>>) -> Result<Lease, Failed> {
        let sent = Instant::now();
        let lease = timeout(ATTEMPT, request).await.map_err(|_| Failed::TimedOut)?.map_err(Failed::Api)?;
        self.fence.grant((DURATION - MARGIN).saturating_sub(sent.elapsed()));
        Ok(lease)
    }

    /// The same lease, held by this process from now.
    fn held(&self, mut lease: Lease) -> Lease {
        let spec = lease.spec.get_or_insert_default();
        let now = MicroTime(jiff::Timestamp::now());
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            spec.holder_identity = Some(self.identity.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
            spec.acquire_time = Some(now.clone());
        }
        spec.renew_time = Some(now);
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        lease
    }

    /// Renews until stopped (then returns the lease as last written) or taken by another (then says so and waits).
    async fn renew(
        self,
        mut lease: Lease,
        mut stop: oneshot::Receiver<()>,
        lost: watch::Sender<Option<LeaseLost>>,
    ) -> Lease {
        let mut pause = RENEW_EVERY;
        loop {
            tokio::select! {
                _ = &mut stop => return lease,
                () = sleep(pause) => {}
            }
            pause = match self.put(self.held(lease.clone())).await {
                Ok(renewed) => {
                    lease = renewed;
                    RENEW_EVERY
                }
                Err(Failed::Api(error)) if is_conflict(&error) || is_not_found(&error) => match self.reread().await {
                    Ok(Ok(current)) => {
                        lease = current;
                        Duration::ZERO
                    }
                    Ok(Err(taken)) => {
                        self.fence.close(taken.clone());
                        lost.send_replace(Some(taken));
                        // Which of a closed channel and a wish to stop comes first does not matter.
                        let _ = stop.await;
                        return lease;
                    }
                    Err(failed) => self.pause_after(&failed),
                },
                Err(failed) => self.pause_after(&failed),
            };
        }
    }

    fn pause_after(&self, failed: &Failed) -> Duration {
        tracing::warn!(lease = self.name, %failed, may_write = self.fence.check().is_ok(), "cannot renew the lease; trying again");
        RETRY_AFTER
    }

    /// The lease as it is now, if it is still this process's: an attempt whose answer was lost may have changed it.
    async fn reread(&self) -> Result<Result<Lease, LeaseLost>, Failed> {
        let current = timeout(ATTEMPT, self.api.get_opt(&self.name)).await.map_err(|_| Failed::TimedOut)?;
        let holder = match current.map_err(Failed::Api)? {
            None => "nobody: it was deleted".to_owned(),
            Some(lease) => match holder(&lease) {
                Some(holder) if holder == self.identity => return Ok(Ok(lease)),
                Some(other) => other.to_owned(),
                None => "nobody: it was cleared".to_owned(),
            },
        };
        Ok(Err(LeaseLost::Taken { holder }))
    }
}

impl Leadership {
    fn begin(candidate: Candidate, held: Lease) -> Self {
        tracing::info!(lease = candidate.name, identity = candidate.identity, "this process leads");
        let (stop, stopped) = oneshot::channel();
        let (losing, lost) = watch::channel(None);
        let renewal = tokio::spawn(candidate.clone().renew(held, stopped, losing));
        Self { candidate, stop, renewal, lost }
    }

    /// Resolves when somebody else holds the lease: the process must end then. The fence is closed already.
    pub fn lost(&self) -> impl Future<Output = LeaseLost> + Send + 'static {
        let mut lost = self.lost.clone();
        async move {
            match lost.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
                Ok(Some(reason)) => reason,
                // The renewal ends without a loss only when it is stopped by `release`.
                _ => std::future::pending().await,
            }
        }
    }

    /// Closes the fence, then gives the lease back, so that the next leader need not wait for its end.
    pub async fn release(self) -> Result<(), ReleaseError> {
        let Self { candidate, stop, renewal, lost } = self;
        // An error means that the renewal has ended by itself, which is what is wanted.
        let _ = stop.send(());
        let lease = renewal.await?;
        candidate.fence.close(LeaseLost::Released);
        if lost.borrow().is_some() {
            return Ok(());
        }
        match timeout(ATTEMPT, candidate.give_back(lease)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(ReleaseError::TimedOut),
        }
    }
}

impl Candidate {
    async fn give_back(&self, lease: Lease) -> Result<(), kube::Error> {
        match self.api.replace(&self.name, &PostParams::default(), &cleared(lease)).await {
            Err(error) if is_conflict(&error) => {}
            other => return other.map(drop),
        }
        // The answer to the last renewal may have been lost: what stands there now decides.
        match self.api.get_opt(&self.name).await? {
            Some(current) if holder(&current) == Some(&self.identity) => {
                self.api.replace(&self.name, &PostParams::default(), &cleared(current)).await.map(drop)
            }
            _ => Ok(()),
        }
    }
}

fn cleared(mut lease: Lease) -> Lease {
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
    lease.spec = Some(LeaseSpec { lease_transitions: transitions, ..LeaseSpec::default() });
    lease
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Api(kube::Error),
    #[error("no answer within {} ms", ATTEMPT.as_millis())]
    TimedOut,
}

/// What the watch has shown of the lease.
#[derive(Debug, Default)]
struct View {
    /// The lease, and since when it stands unchanged.
    lease: Option<(Lease, Instant)>,
    /// Whether `lease` can be trusted: a list is complete, and nothing is known to be newer.
    complete: bool,
    /// Whether the list under way has shown the lease.
    listed: bool,
}

#[derive(Debug, PartialEq)]
enum Step {
    /// For the watch, or until then.
    Wait(Option<Instant>),
    Create,
    Take(Box<Lease>),
}

impl View {
    fn decide(&self, identity: &str, now: Instant) -> Step {
        if !self.complete {
            return Step::Wait(None);
        }
        let Some((lease, since)) = &self.lease else { return Step::Create };
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let duration = seconds.and_then(|s| u64::try_from(s).ok()).map_or(DURATION, Duration::from_secs);
        match holder(lease) {
            Some(other) if other != identity && now < *since + duration => Step::Wait(Some(*since + duration)),
            _ => Step::Take(Box::new(lease.clone())),
        }
    }

    fn see(&mut self, event: Option<watcher::Result<watcher::Event<Lease>>>, now: Instant) {
        match event {
            Some(Ok(watcher::Event::Init)) => self.listed = false,
            Some(Ok(watcher::Event::InitApply(lease))) => {
                self.listed = true;
                self.show(lease, now);
            }
            Some(Ok(watcher::Event::Apply(lease))) => {
                self.complete = true;
                self.show(lease, now);
            }
            Some(Ok(watcher::Event::InitDone)) => {
                self.complete = true;
                if !self.listed {
                    self.lease = None;
                }
            }
            Some(Ok(watcher::Event::Delete(_))) => {
                self.complete = true;
                self.lease = None;
            }
            Some(Err(error)) => tracing::warn!(%error, "cannot watch the lease; trying again"),
            None => {}
        }
    }

    /// A lease that is shown again unchanged, as after a new start of the watch, keeps its time.
    fn show(&mut self, lease: Lease, now: Instant) {
        match &self.lease {
            Some((known, _)) if known.resource_version() == lease.resource_version() => {}
            _ => self.lease = Some((lease, now)),
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

#[cfg(test)]
mod tests;
