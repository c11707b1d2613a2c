//! Runs reconciles: one at a time for a resource, a bounded number at once, again after a failure with growing delay.
//!
//! Invariant: news for a resource that is being reconciled is never lost, it runs again afterwards. The trap: what is
//! queued is only a name; what to do is decided from the caches when its turn comes.

use std::collections::HashSet;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use kube::runtime::scheduler::{ScheduleRequest, Scheduler, scheduler};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::error::ReconcileError;
use super::outcome::Outcome;
use ehrnet_observe::Target;
use ehrnet_runtime::backoff::Backoff;

/// A request to look at a resource, now or later.
pub type Request = ScheduleRequest<Target>;

/// A finished reconcile.
pub struct Pass {
    /// Of which resource.
    pub target: Target,
    /// The generation of its spec: a new one starts with a clean slate.
    pub generation: i64,
    /// How it ended.
    pub result: Result<Outcome, ReconcileError>,
}

/// Runs `reconcile` for requested resources until `stop` resolves, then lets running ones finish.
pub async fn run<F, Fut>(
    requests: mpsc::UnboundedReceiver<Request>,
    requeue: mpsc::UnboundedSender<Request>,
    concurrency: usize,
    reconcile: F,
    stop: impl Future<Output = ()>,
) where
    F: Fn(Target) -> Fut,
    Fut: Future<Output = Pass>,
{
    let mut scheduled = pin!(scheduler(UnboundedReceiverStream::new(requests)));
    let mut stop = pin!(stop);
    let mut active: HashSet<Target> = HashSet::new();
    let mut running: FuturesUnordered<Fut> = FuturesUnordered::new();
    let mut backoff = Backoff::default();
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(pass) = running.next(), if !running.is_empty() => {
                active.remove(&pass.target);
                if let Some((message, delay)) = next_look(&mut backoff, pass, rand::random()) {
                    // A closed receiver means that the process is going down.
                    let _ = requeue.send(ScheduleRequest { message, run_at: Instant::now() + delay });
                }
            }
            Some(target) = next(&mut scheduled, &active), if active.len() < concurrency => {
                active.insert(target.clone());
                running.push(reconcile(target));
            }
        }
    }
    while running.next().await.is_some() {}
}

async fn next<S: Stream<Item = Request>>(
    scheduled: &mut Pin<&mut Scheduler<Target, S>>,
    active: &HashSet<Target>,
) -> Option<Target> {
    scheduled.as_mut().hold_unless(|target| !active.contains(target)).next().await
}

/// When the resource is looked at again without news; `None` if only news can change anything.
fn next_look(backoff: &mut Backoff<Target>, pass: Pass, chance: f64) -> Option<(Target, Duration)> {
    let Pass { target, generation, result } = pass;
    match result {
        Ok(Outcome { look_again, retry: true }) => {
            let delay = backoff.failed(target.clone(), generation, chance, None);
            Some((target, look_again.map_or(delay, |look| look.min(delay))))
        }
        Ok(Outcome { look_again, retry: false }) => {
            backoff.succeeded(&target);
            look_again.map(|delay| (target, delay))
        }
        Err(error) if error.is_final() => None,
        Err(error) => {
            let delay = backoff.failed(target.clone(), generation, chance, error.retry_after());
            Some((target, delay))
        }
    }
}

/// Queues resources to be looked at now.
pub fn enqueue(requests: &mpsc::UnboundedSender<Request>, targets: impl IntoIterator<Item = Target>) {
    for target in targets {
        // A closed receiver means that the process is going down.
        let _ = requests.send(ScheduleRequest { message: target, run_at: Instant::now() });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use tokio::sync::oneshot;

    use super::*;
    use ehrnet_observe::Kind;

    fn channel(name: &str) -> Target {
        Target::new(Kind::Channel, "ward", name)
    }

    fn pass(target: Target, result: Result<Outcome, ReconcileError>) -> Pass {
        Pass { target, generation: 1, result }
    }

    #[tokio::test(start_paused = true)]
    async fn news_during_a_reconcile_runs_it_again_and_never_twice_at_once() {
        let (requests, queue) = mpsc::unbounded_channel();
        let (at_once, most, runs) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (done, stop) = oneshot::channel::<()>();
        let done = Arc::new(Mutex::new(Some(done)));
        enqueue(&requests, [channel("a")]);
        let news = requests.clone();
        let work = |target: Target| {
            let (at_once, most, runs, news, done) =
                (at_once.clone(), most.clone(), runs.clone(), news.clone(), done.clone());
            async move {
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    enqueue(&news, [channel("a"), channel("a")]);
                } else if let Some(done) = done.lock().expect("a lock").take() {
                    done.send(()).expect("a waiting driver");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                at_once.fetch_sub(1, Ordering::SeqCst);
                pass(target, Ok(Outcome::wait()))
            }
        };
        run(queue, requests, 4, work, async { stop.await.expect("a second run") }).await;
        assert_eq!(runs.load(Ordering::SeqCst), 2, "two pieces of news about one resource are one more look");
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn failures_are_tried_again_later_and_later_and_final_ones_never() {
        let mut backoff = Backoff::default();
        let failure =
            || ReconcileError::Apply(ehrnet_apply::ApplyError::Leftover { kind: "Service".into(), name: "a".into() });
        let first = next_look(&mut backoff, pass(channel("a"), Err(failure())), 1.0).expect("a retry").1;
        let second = next_look(&mut backoff, pass(channel("a"), Err(failure())), 1.0).expect("a retry").1;
        assert!(second > first);
        assert!(next_look(&mut backoff, pass(channel("a"), Ok(Outcome::wait())), 1.0).is_none());
    }
}
