//! Serves HTTP/1 and HTTP/2 on a listener of [`super::listen`].

use std::convert::Infallible;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::listen::{Caller, Connection};
use super::stop::Stop;

/// Marks a response that must never reach the client: the connection is broken instead.
#[derive(Debug, Clone, Copy)]
pub struct DropReply;

/// Answer requests until `stop` or the listener ends. The [`Caller`] is an extension of each request.
pub async fn serve(mut connections: mpsc::Receiver<Connection>, routes: Router, mut stop: Stop) {
    loop {
        let connection = tokio::select! {
            connection = connections.recv() => connection,
            () = stop.requested() => None,
        };
        let Some(connection) = connection else { return };
        tokio::spawn(serve_connection(connection, routes.clone(), stop.clone()));
    }
}

async fn serve_connection(connection: Connection, routes: Router, mut stop: Stop) {
    let caller = connection.caller().clone();
    let address = caller.address;
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(caller.clone());
        let routes = routes.clone();
        async move {
            let response = routes.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
            match response.extensions().get::<DropReply>() {
                Some(_) => Err(std::io::Error::other("reply dropped on request")),
                None => Ok(response),
            }
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(connection), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.requested() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "connection ended");
    }
}

/// Refuses callers without a verified certificate, as Fabric does for what it calls secure handlers.
pub async fn require_certificate(request: Request, next: Next) -> Response {
    let known = request.extensions().get::<Caller>().is_some_and(|caller| !caller.certificates.is_empty());
    if known { next.run(request).await } else { StatusCode::UNAUTHORIZED.into_response() }
}

/// A JSON answer as Go's encoder writes it: HTML's special characters escaped, a newline at the end.
pub fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => {
            let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026") + "\n";
            (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
