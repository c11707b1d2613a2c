//! Between the operator under test and the API server: counts and keeps each write, and can end the operator at one.
//!
//! A write is a request to the API server that changes something (the lease's own excepted) or a change of the ledger.
//! When the gate closes, whatever is asked of it later is never answered: from outside the operator is dead at once,
//! whatever it still believes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Bytes;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::{BoxError, Layer, Service};

/// Where in the last write the operator dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The write is never sent.
    BeforeIt,
    /// The write takes effect and the answer is lost.
    WithItsAnswer,
    /// The answer arrives, nothing after it leaves.
    AfterIt,
}

/// What an API write gets instead of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not sent; the server seems to say this.
    Status(u16),
    /// It takes effect, and the server seems to say 504.
    AppliedThen504,
}

/// One write.
#[derive(Clone)]
pub struct Write {
    /// HTTP method, or the ledger's act.
    pub verb: String,
    /// Path at the API server, or channel and node.
    pub target: String,
    /// What was sent to the API server; empty for the ledger.
    pub body: Vec<u8>,
    /// The server's answer, if there was one.
    pub status: Option<u16>,
    /// Ports of nodes (`host:port`) that the operator reached since the write before this one.
    pub asked: BTreeSet<String>,
}

impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verb, target, body, status, asked } = self;
        write!(f, "{verb} {target}: {} -> {status:?}, asked {asked:?}", String::from_utf8_lossy(body))
    }
}

impl Write {
    fn new(verb: String, target: String, body: Vec<u8>) -> Self {
        Self { verb, target, body, status: None, asked: BTreeSet::new() }
    }
}

type Faults = Box<dyn Fn(u64) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    writes: Vec<Write>,
    asked: BTreeSet<String>,
    last: Option<(u64, Death)>,
    faults: Option<Faults>,
}

/// The gate of one operator process.
#[derive(Clone)]
pub struct Gate {
    state: Arc<Mutex<State>>,
    /// Whether the operator is cut off.
    closed: Arc<watch::Sender<bool>>,
    /// How many writes were begun.
    count: Arc<watch::Sender<u64>>,
    /// Writes of the lease that the server took.
    leases: Arc<watch::Sender<u64>>,
}

/// What the gate decided about a write.
struct Pass {
    number: u64,
    death: Option<Death>,
    fault: Option<Fault>,
}

impl Gate {
    /// A gate that stays open.
    pub fn open() -> Self {
        Self {
            state: Arc::default(),
            closed: Arc::new(watch::Sender::new(false)),
            count: Arc::new(watch::Sender::new(0)),
            leases: Arc::new(watch::Sender::new(0)),
        }
    }

    /// A gate that closes at the `n`-th write (from 1).
    pub fn closing_at(n: u64, death: Death) -> Self {
        let gate = Self::open();
        gate.state().last = Some((n, death));
        gate
    }

    /// Lets API writes fail: by their number, until it is called again.
    pub fn inject(&self, faults: impl Fn(u64) -> Option<Fault> + Send + 'static) {
        self.state().faults = Some(Box::new(faults));
    }

    /// Ends the failing.
    pub fn heal(&self) {
        self.state().faults = None;
    }

    /// Closes the gate now.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Waits until the gate has closed.
    pub async fn closed(&self) {
        // The sender lives as long as the gate.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Every write so far, in the order they were begun.
    pub fn writes(&self) -> Vec<Write> {
        self.state().writes.clone()
    }

    /// How many writes were begun, as it changes.
    pub fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Writes of the lease that the server took; they are not counted as writes.
    pub fn leases(&self) -> u64 {
        *self.leases.borrow()
    }

    /// The same, as it changes.
    pub fn lease_writes(&self) -> watch::Receiver<u64> {
        self.leases.subscribe()
    }

    /// Notes that the operator reached a node.
    pub fn reached(&self, host: &str, port: u16) {
        self.state().asked.insert(format!("{host}:{port}"));
    }

    /// Before a change of the ledger: returns only if it may happen.
    pub async fn ledger_begins(&self, act: &str, target: &str) -> LedgerPass {
        LedgerPass(self.enter(Write::new(act.to_owned(), target.to_owned(), Vec::new()), false).await)
    }

    /// After a change of the ledger: returns only if the operator lives on.
    pub async fn ledger_ended(&self, pass: &LedgerPass) {
        self.leave(&pass.0, None).await;
    }

    async fn enter(&self, mut write: Write, may_fail: bool) -> Pass {
        self.alive().await;
        let pass = {
            let mut state = self.state();
            write.asked = std::mem::take(&mut state.asked);
            state.writes.push(write);
            let number = state.writes.len() as u64;
            let death = state.last.filter(|(last, _)| *last == number).map(|(_, death)| death);
            let fault = state.faults.as_ref().filter(|_| may_fail).and_then(|faults| faults(number));
            Pass { number, death, fault }
        };
        self.count.send_replace(pass.number);
        if pass.death == Some(Death::BeforeIt) {
            self.close();
        }
        if pass.death.is_none() {
            // The write before this one may have been the last.
            self.alive().await;
        } else if pass.death == Some(Death::BeforeIt) {
            std::future::pending::<()>().await;
        }
        pass
    }

    async fn leave(&self, pass: &Pass, status: Option<u16>) {
        self.state().writes[pass.number as usize - 1].status = status;
        match pass.death {
            Some(Death::WithItsAnswer) => {
                self.close();
                std::future::pending::<()>().await;
            }
            Some(Death::AfterIt) => self.close(),
            // The answer is lost on an operator that has died meanwhile.
            _ => self.alive().await,
        }
    }

    async fn alive(&self) {
        if *self.closed.borrow() {
            std::future::pending::<()>().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change of the ledger that was let through.
pub struct LedgerPass(Pass);

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated { inner, gate: self.clone() }
    }
}

/// The API server behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S, B> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gate = self.gate.clone();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let lease = request.uri().path().contains("/apis/coordination.k8s.io/");
        let (verb, target) = (request.method().to_string(), request.uri().path().to_owned());
        let body = request.body().try_clone();
        // Nothing is sent before this is awaited.
        let answer = self.inner.call(request);
        Box::pin(async move {
            gate.alive().await;
            if reads || lease {
                let answer = answer.await.map_err(Into::into)?;
                gate.alive().await;
                if lease && !reads && answer.status().is_success() {
                    gate.leases.send_modify(|count| *count += 1);
                }
                return Ok(answer.map(Either::Left));
            }
            let body = body.ok_or("a request whose body is a stream")?.collect_bytes().await?.to_vec();
            let pass = gate.enter(Write::new(verb, target, body), true).await;
            if let Some(Fault::Status(code)) = pass.fault {
                gate.leave(&pass, Some(code)).await;
                return Ok(refusal(code));
            }
            let answer = answer.await.map_err(Into::into)?;
            gate.leave(&pass, Some(answer.status().as_u16())).await;
            if pass.fault == Some(Fault::AppliedThen504) {
                return Ok(refusal(504));
            }
            Ok(answer.map(Either::Left))
        })
    }
}

fn refusal<B>(code: u16) -> Response<Either<B, Full<Bytes>>> {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        504 => "Timeout",
        _ => "InternalError",
    };
    let status: Value = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": "injected by the test",
        "details": {"retryAfterSeconds": if code == 429 { 1 } else { 0 }},
    });
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(status.to_string()))));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status code");
    if code == 429 {
        response.headers_mut().insert("retry-after", http::HeaderValue::from_static("1"));
    }
    response
}

/// How often each object was written in each way.
pub fn tally(writes: &[Write]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for write in writes {
        *tally.entry(format!("{} {}", write.verb, write.target)).or_default() += 1;
    }
    tally
}
