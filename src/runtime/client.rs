//! The Kubernetes client: every request of the operator passes the layer in here.
//!
//! Invariants:
//! - A request that changes something asks the [`Fence`] right before it is sent, and is dropped when the lease runs out
//!   before it is answered. Only the requests of the lease itself are free.
//! - Everything but a watch has a deadline; the answer to a missed one is unknown, and callers read before they repeat.
//! - Nothing is repeated here: kube's own repetition (15 times, up to minutes) would hide what happens and hold the worker.
//!   What failed is tried again by the reconcile, under its own backoff.
//!
//! The trap: [`kube::Error`] hides what a layer refused in `Error::Service`; [`lease_lost`] finds it again.

use std::future::ready;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use super::lease::{Fence, LeaseLost};
use super::metrics::Metrics;

/// How long a request other than a watch may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection may be silent. Longer than any watch lives (kube asks for 290 s), so it ends only dead ones.
const SILENCE: Duration = Duration::from_secs(330);

/// Path of the requests that are free of the fence: the lease's own.
const LEASES: &str = "/apis/coordination.k8s.io/";

/// A request was not answered in time. Whether it took effect is unknown.
#[derive(Debug, thiserror::Error)]
#[error("the Kubernetes API did not answer {verb} of {resource} within {} s; whether it took effect is unknown", DEADLINE.as_secs())]
pub struct TimedOut {
    verb: &'static str,
    resource: String,
}

/// The client from the environment: a pod's service account, or the kubeconfig.
pub async fn connect(fence: Fence, metrics: Metrics) -> Result<Client, kube::Error> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    from_config(config, fence, metrics)
}

/// The client of a given configuration.
pub fn from_config(mut config: Config, fence: Fence, metrics: Metrics) -> Result<Client, kube::Error> {
    config.default_retry = false;
    config.read_timeout = Some(SILENCE);
    Ok(ClientBuilder::try_from(config)?.with_layer(&Guard { fence, metrics }).build())
}

/// Whether `error` came from the fence: the write was not sent.
pub fn lease_lost(error: &kube::Error) -> Option<&LeaseLost> {
    match error {
        kube::Error::Service(source) => source.downcast_ref(),
        _ => None,
    }
}

/// Layer that asks the fence before each write, gives each request its deadline and counts the writes.
#[derive(Clone, Debug)]
pub struct Guard {
    /// What is asked.
    pub fence: Fence,
    /// Where it is counted.
    pub metrics: Metrics,
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, guard: self.clone() }
    }
}

/// A service behind a [`Guard`].
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S, B> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let what = Call::of(&request);
        if what.fenced
            && let Err(lost) = self.guard.fence.check()
        {
            return Box::pin(ready(Err(lost.into())));
        }
        let answer = self.inner.call(request);
        let Guard { fence, metrics } = self.guard.clone();
        Box::pin(async move {
            let result = what.wait(answer, &fence).await;
            if what.writes {
                let code = result.as_ref().ok().map(|response| response.status().as_u16());
                metrics.api_write(&what.resource, what.verb, code);
            }
            result
        })
    }
}

/// What a request is about, as far as its first line tells.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    resource: String,
    verb: &'static str,
    writes: bool,
    fenced: bool,
    watches: bool,
}

impl Call {
    fn of(request: &Request<Body>) -> Self {
        let (verb, writes) = match *request.method() {
            Method::GET | Method::HEAD | Method::OPTIONS => ("get", false),
            Method::POST => ("create", true),
            Method::PUT => ("update", true),
            Method::PATCH => ("patch", true),
            Method::DELETE => ("delete", true),
            _ => ("other", true),
        };
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        Self {
            resource: resource(path),
            verb,
            writes,
            fenced: writes && !path.starts_with(LEASES),
            watches: query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"),
        }
    }

    /// Waits for the answer until the deadline, or for a fenced write until the lease has run out.
    async fn wait<F, T, E>(&self, answer: F, fence: &Fence) -> Result<T, BoxError>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<BoxError>,
    {
        if self.watches {
            return answer.await.map_err(Into::into);
        }
        let deadline = Instant::now() + DEADLINE;
        let mut answer = std::pin::pin!(answer);
        loop {
            let until = match fence.valid_until().filter(|_| self.fenced) {
                Some(end) => end.min(deadline),
                None => deadline,
            };
            if let Ok(result) = tokio::time::timeout_at(until, &mut answer).await {
                return result.map_err(Into::into);
            }
            if Instant::now() >= deadline {
                return Err(TimedOut { verb: self.verb, resource: self.resource.clone() }.into());
            }
            // The lease may have been renewed while the answer was awaited.
            fence.check()?;
        }
    }
}

/// The resource of an API path (`/api/v1/namespaces/a/secrets/b` -> `secrets`), with its subresource: `peers/status`.
fn resource(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let prefix = match parts.first() {
        Some(&"api") => 2,
        Some(&"apis") => 3,
        _ => return "other".to_owned(),
    };
    parts.drain(..prefix.min(parts.len()));
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts.drain(..2);
    }
    match parts.as_slice() {
        [] => "other".to_owned(),
        [resource] | [resource, _] => (*resource).to_owned(),
        [resource, _, sub, ..] => format!("{resource}/{sub}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{DeleteParams, PostParams};
    use tower_test::mock;

    type Handle = mock::Handle<Request<Body>, Response<Body>>;

    fn guarded(fence: &Fence) -> (Client, Handle, Metrics) {
        let (service, handle) = mock::pair();
        let metrics = Metrics::new();
        let layer = Guard { fence: fence.clone(), metrics: metrics.clone() };
        (Client::new(layer.layer(service), "mercy"), handle, metrics)
    }

    fn answer(body: &serde_json::Value) -> Response<Body> {
        Response::new(Body::from(body.to_string().into_bytes()))
    }

    #[test]
    fn a_path_names_its_resource() {
        for (path, expected) in [
            ("/api/v1/namespaces/mercy/secrets", "secrets"),
            ("/api/v1/namespaces/mercy/secrets/peer0-tls", "secrets"),
            ("/apis/apps/v1/namespaces/mercy/statefulsets/peer0", "statefulsets"),
            ("/apis/ehrnet.dev/v1alpha1/namespaces/mercy/peers/peer0/status", "peers/status"),
            ("/api/v1/namespaces/mercy", "namespaces"),
            ("/apis/ehrnet.dev/v1alpha1/peers", "peers"),
            ("/version", "other"),
            ("/apis", "other"),
        ] {
            assert_eq!(resource(path), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn without_the_lease_no_write_is_sent_but_reads_are() {
        let (client, mut handle, metrics) = guarded(&Fence::closed());
        let api: Api<ConfigMap> = Api::namespaced(client, "mercy");
        let error = api.create(&PostParams::default(), &ConfigMap::default()).await.expect_err("no lease");
        assert_eq!(lease_lost(&error), Some(&LeaseLost::NotHeld));
        let error = api.delete("a", &DeleteParams::default()).await.expect_err("no lease");
        assert!(lease_lost(&error).is_some());

        let read = tokio::spawn(async move { api.get("a").await });
        let (request, respond) = handle.next_request().await.expect("the read is sent");
        assert_eq!(request.method(), Method::GET, "the writes before it were not sent");
        respond.send_response(answer(&serde_json::json!({"metadata": {"name": "a"}})));
        read.await.expect("no panic").expect("read");
        assert!(!metrics.text().expect("text").contains("api_writes_total{"), "nothing was written");
    }

    #[tokio::test]
    async fn a_write_under_the_lease_is_sent_and_counted() {
        let (client, mut handle, metrics) = guarded(&Fence::always());
        let api: Api<ConfigMap> = Api::namespaced(client, "mercy");
        let write = tokio::spawn(async move { api.create(&PostParams::default(), &ConfigMap::default()).await });
        let (_, respond) = handle.next_request().await.expect("the write is sent");
        respond.send_response(answer(&serde_json::json!({"metadata": {"name": "a"}})));
        write.await.expect("no panic").expect("written");
        let expected = r#"ehrnet_api_writes_total{resource="configmaps",verb="create",code="200"} 1"#;
        assert!(metrics.text().expect("text").contains(expected));
    }

    #[tokio::test]
    async fn the_lease_itself_is_written_without_the_lease() {
        let (client, mut handle, _) = guarded(&Fence::closed());
        let api: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(client, "mercy");
        let write = tokio::spawn(async move { api.create(&PostParams::default(), &Default::default()).await });
        let (_, respond) = handle.next_request().await.expect("the write is sent");
        respond.send_response(answer(&serde_json::json!({"metadata": {"name": "a"}})));
        write.await.expect("no panic").expect("written");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_not_answered_ends_with_the_lease_unless_it_is_renewed() {
        let fence = Fence::closed();
        fence.grant(Duration::from_secs(4));
        let (client, mut handle, _) = guarded(&fence);
        let api: Api<ConfigMap> = Api::namespaced(client, "mercy");
        let begun = Instant::now();
        let write = tokio::spawn(async move { api.create(&PostParams::default(), &ConfigMap::default()).await });
        let _unanswered = handle.next_request().await.expect("the write is sent");
        tokio::time::advance(Duration::from_secs(2)).await;
        fence.grant(Duration::from_secs(4));
        let error = write.await.expect("no panic").expect_err("never answered");
        assert!(matches!(lease_lost(&error), Some(LeaseLost::Expired { .. })), "{error}");
        assert_eq!(begun.elapsed().as_secs(), 6, "two seconds, and four more after the renewal");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_answered_ends_at_its_deadline() {
        let (client, mut handle, metrics) = guarded(&Fence::always());
        let api: Api<ConfigMap> = Api::namespaced(client, "mercy");
        let write = tokio::spawn(async move { api.create(&PostParams::default(), &ConfigMap::default()).await });
        let _unanswered = handle.next_request().await.expect("the write is sent");
        let error = write.await.expect("no panic").expect_err("never answered").to_string();
        assert!(error.contains("create of configmaps within 10 s"), "{error}");
        assert!(metrics.text().expect("text").contains(r#"code="none"} 1"#), "an unanswered write is counted");
    }
}
