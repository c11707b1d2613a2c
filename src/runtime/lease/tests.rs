//! The decisions, and the requests against a mock API server under a paused clock.

use super::*;
use crate::client::Guard;
use crate::metrics::Metrics;
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower::Layer;
use tower_test::mock;
use watcher::Event;

type Handle = mock::Handle<Request<Body>, Response<Body>>;

fn candidate() -> (Candidate, Handle) {
    let (service, handle) = mock::pair();
    let fence = Fence::closed();
    let guard = Guard { fence: fence.clone(), metrics: Metrics::new() };
    let client = Client::new(guard.layer(service), "mercy");
    (Candidate::new(client, "mercy", "leader", "a", fence), handle)
}

fn lease(holder: Option<&str>, version: &str) -> Lease {
    serde_json::from_value(json!({
        "metadata": {"name": "leader", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 5, "leaseTransitions": 3},
    }))
    .expect("a lease")
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason})
}

/// Answers the next request with `code` and the body made of the request's method and body.
async fn answer(handle: &mut Handle, code: u16, body: impl FnOnce(&str, &Value) -> Value) {
    let (request, respond) = handle.next_request().await.expect("a request");
    let method = request.method().to_string();
    let sent = request.into_body().collect_bytes().await.expect("a body in memory");
    let sent = if sent.is_empty() { Value::Null } else { serde_json::from_slice(&sent).expect("JSON") };
    let body = body(&method, &sent).to_string().into_bytes();
    respond.send_response(Response::builder().status(code).body(Body::from(body)).expect("a response"));
}

/// What the server makes of a PUT: the same with a new version.
fn stored(version: &str) -> impl FnOnce(&str, &Value) -> Value {
    let version = version.to_owned();
    move |_, sent| {
        let mut stored = sent.clone();
        stored["metadata"]["resourceVersion"] = version.into();
        stored
    }
}

async fn leading() -> (Leadership, Handle, Fence) {
    let (candidate, mut handle) = candidate();
    let fence = candidate.fence.clone();
    let events = futures::stream::iter([Event::Init, Event::InitApply(lease(None, "1")), Event::InitDone].map(Ok));
    let acquiring = candidate.clone();
    let task = tokio::spawn(async move { acquiring.acquire_from(events.chain(futures::stream::pending())).await });
    answer(&mut handle, 200, stored("2")).await;
    let held = task.await.expect("no panic");
    (Leadership::begin(candidate, held), handle, fence)
}

#[test]
fn a_lease_of_another_is_left_alone_for_its_duration_on_the_own_clock() {
    let start = Instant::now();
    let mut view = View::default();
    assert_eq!(view.decide("a", start), Step::Wait(None));
    for event in [Event::Init, Event::InitApply(lease(Some("b"), "1")), Event::InitDone] {
        view.see(Some(Ok(event)), start);
    }
    assert_eq!(view.decide("a", start), Step::Wait(Some(start + DURATION)));
    let later = start + Duration::from_secs(3);
    for event in [Event::Init, Event::InitApply(lease(Some("b"), "1")), Event::InitDone] {
        view.see(Some(Ok(event)), later);
    }
    assert_eq!(view.decide("a", later), Step::Wait(Some(start + DURATION)), "a new watch does not wind the clock");
    view.see(Some(Ok(Event::Apply(lease(Some("b"), "2")))), later);
    assert_eq!(view.decide("a", later), Step::Wait(Some(later + DURATION)), "a renewal does");
    let end = later + DURATION;
    assert_eq!(view.decide("a", end), Step::Take(Box::new(lease(Some("b"), "2"))));
}

#[test]
fn a_lease_that_is_free_or_the_own_is_taken_at_once_and_an_absent_one_is_made() {
    let now = Instant::now();
    for holder in [None, Some(""), Some("a")] {
        let mut view = View { complete: true, ..View::default() };
        view.see(Some(Ok(Event::Apply(lease(holder, "1")))), now);
        assert!(matches!(view.decide("a", now), Step::Take(_)), "{holder:?}");
        view.see(Some(Ok(Event::Delete(lease(holder, "1")))), now);
        assert_eq!(view.decide("a", now), Step::Create);
    }
}

#[test]
fn a_lease_deleted_while_nobody_watched_is_known_to_be_gone() {
    let mut view = View::default();
    for event in [Event::Init, Event::InitApply(lease(Some("b"), "1")), Event::InitDone, Event::Init, Event::InitDone] {
        view.see(Some(Ok(event)), Instant::now());
    }
    assert_eq!(view.decide("a", Instant::now()), Step::Create);
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_race_for_a_free_lease_waits_for_what_the_watch_says() {
    let (candidate, mut handle) = candidate();
    let (show, events) = futures::channel::mpsc::unbounded();
    let fence = candidate.fence.clone();
    let task = tokio::spawn(async move { candidate.acquire_from(events).await });
    for event in [Event::Init, Event::InitDone] {
        show.unbounded_send(Ok(event)).expect("watched");
    }
    answer(&mut handle, 409, |method, _| {
        assert_eq!(method, "POST");
        status(409, "AlreadyExists")
    })
    .await;
    show.unbounded_send(Ok(Event::Apply(lease(Some("b"), "7")))).expect("watched");
    assert_eq!(fence.check(), Err(LeaseLost::NotHeld));
    let seen = Instant::now();
    answer(&mut handle, 200, |method, sent| {
        assert_eq!(method, "PUT");
        assert_eq!(sent["metadata"]["resourceVersion"], "7", "nobody may have renewed it in between");
        assert_eq!(sent["spec"]["holderIdentity"], "a");
        assert_eq!(sent["spec"]["leaseTransitions"], 4);
        stored("8")(method, sent)
    })
    .await;
    task.await.expect("no panic");
    assert!(seen.elapsed() >= DURATION);
    assert_eq!(fence.check(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn renewals_keep_the_fence_open_and_their_failure_closes_it_in_time() {
    let (leadership, mut handle, fence) = leading().await;
    for version in ["3", "4"] {
        answer(&mut handle, 200, stored(version)).await;
    }
    let renewed = Instant::now();
    assert_eq!(fence.check(), Ok(()));
    while renewed.elapsed() < DURATION - MARGIN {
        answer(&mut handle, 500, |_, _| status(500, "InternalError")).await;
    }
    assert!(matches!(fence.check(), Err(LeaseLost::Expired { .. })), "nobody may write any more");
    answer(&mut handle, 200, |method, sent| {
        assert_eq!(sent["metadata"]["resourceVersion"], "4", "proof that nobody had it in between");
        stored("5")(method, sent)
    })
    .await;
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(fence.check(), Ok(()));
    drop(leadership);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_at_most_thirty_times_a_minute() {
    let (leadership, mut handle, fence) = leading().await;
    let begun = Instant::now();
    for version in 3..33 {
        answer(&mut handle, 200, stored(&version.to_string())).await;
        assert_eq!(fence.check(), Ok(()));
    }
    assert!(begun.elapsed() >= Duration::from_secs(60), "{:?}", begun.elapsed());
    drop(leadership);
}

#[tokio::test(start_paused = true)]
async fn writing_goes_on_when_one_renewal_is_never_answered() {
    let (leadership, mut handle, fence) = leading().await;
    let unanswered = handle.next_request().await.expect("a renewal");
    let (_, respond) = handle.next_request().await.expect("a second attempt");
    assert_eq!(fence.check(), Ok(()), "there is time for it");
    respond.send_response(Response::new(Body::from(json!(lease(Some("a"), "3")).to_string().into_bytes())));
    answer(&mut handle, 200, stored("4")).await;
    assert_eq!(fence.check(), Ok(()));
    drop((leadership, unanswered));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_was_lost_is_recognised() {
    let (leadership, mut handle, fence) = leading().await;
    answer(&mut handle, 409, |_, _| status(409, "Conflict")).await;
    answer(&mut handle, 200, |method, _| {
        assert_eq!(method, "GET");
        json!(lease(Some("a"), "9"))
    })
    .await;
    answer(&mut handle, 200, |method, sent| {
        assert_eq!(sent["metadata"]["resourceVersion"], "9");
        stored("10")(method, sent)
    })
    .await;
    assert_eq!(fence.check(), Ok(()));
    drop(leadership);
}

#[tokio::test(start_paused = true)]
async fn a_lease_in_another_hand_or_gone_closes_the_fence_and_ends_the_process() {
    for (code, body, expected) in [
        (200, json!(lease(Some("b"), "9")), "b"),
        (200, json!(lease(None, "9")), "nobody: it was cleared"),
        (404, status(404, "NotFound"), "nobody: it was deleted"),
    ] {
        let (leadership, mut handle, fence) = leading().await;
        answer(&mut handle, 409, |_, _| status(409, "Conflict")).await;
        answer(&mut handle, code, |_, _| body).await;
        let lost = LeaseLost::Taken { holder: expected.into() };
        assert_eq!(leadership.lost().await, lost);
        assert_eq!(fence.check(), Err(lost));
        leadership.release().await.expect("nothing to give back, and no request for it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_has_no_holder_and_the_fence_is_closed_before() {
    let (leadership, mut handle, fence) = leading().await;
    let task = tokio::spawn(leadership.release());
    answer(&mut handle, 200, |method, sent| {
        assert_eq!(fence.check(), Err(LeaseLost::Released));
        assert_eq!(method, "PUT");
        assert_eq!(sent["metadata"]["resourceVersion"], "2");
        assert_eq!(sent["spec"].get("holderIdentity"), None);
        assert_eq!(sent["spec"]["leaseTransitions"], 4);
        stored("3")(method, sent)
    })
    .await;
    task.await.expect("no panic").expect("released");
}
