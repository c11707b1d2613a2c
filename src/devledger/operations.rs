//! The operations listener: health, version, metrics and log levels, with the paths and shapes of Fabric's.
//!
//! `/version` says what this is. With TLS, metrics and log levels need a client certificate.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use serde::Deserialize;
use serde_json::json;

use super::logging::LogLevels;
use super::web;

/// What `/version` and the start-up message say.
pub const VERSION: &str = "ehrnet-devledger 3.1-compatible";

/// One number for `/metrics`.
#[derive(Debug)]
pub struct Gauge {
    /// Fabric's name of it.
    pub name: &'static str,
    /// The channel it is about.
    pub channel: String,
    /// Its value.
    pub value: u64,
}

/// Reads the current numbers.
pub type ReadGauges = Arc<dyn Fn() -> Vec<Gauge> + Send + Sync>;

#[derive(Clone)]
struct Shared {
    levels: LogLevels,
    gauges: ReadGauges,
}

/// The routes. `secured`: the listener has TLS. `gauges`: absent when metrics are off.
pub fn routes(levels: LogLevels, gauges: Option<ReadGauges>, secured: bool) -> Router {
    let with_metrics = gauges.is_some();
    let shared = Shared { levels, gauges: gauges.unwrap_or_else(|| Arc::new(Vec::new)) };
    let mut private = Router::new().route("/logspec", get(read_levels).put(set_levels));
    if with_metrics {
        private = private.route("/metrics", get(metrics));
    }
    if secured {
        private = private.layer(middleware::from_fn(web::require_certificate));
    }
    let public = Router::new().route("/healthz", get(health)).route("/version", get(version));
    public.merge(private).with_state(shared)
}

async fn health() -> Response {
    web::json(StatusCode::OK, &json!({"status": "OK", "time": jiff::Timestamp::now().to_string()}))
}

async fn version() -> Response {
    web::json(StatusCode::OK, &json!({"CommitSHA": "embedded", "Version": VERSION}))
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let mut gauges = (shared.gauges)();
    gauges.sort_by(|a, b| (a.name, &a.channel).cmp(&(b.name, &b.channel)));
    let mut text = String::new();
    let mut last = "";
    for Gauge { name, channel, value } in gauges {
        if name != last {
            text.push_str(&format!("# TYPE {name} gauge\n"));
            last = name;
        }
        text.push_str(&format!("{name}{{channel=\"{channel}\"}} {value}\n"));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn read_levels(State(shared): State<Shared>) -> Response {
    web::json(StatusCode::OK, &json!({"spec": shared.levels.spec()}))
}

#[derive(Deserialize)]
struct LogSpec {
    spec: String,
}

async fn set_levels(State(shared): State<Shared>, body: String) -> Response {
    let set = serde_json::from_str::<LogSpec>(&body)
        .map_err(|e| e.to_string())
        .and_then(|LogSpec { spec }| shared.levels.set(&spec).map_err(|e| e.to_string()));
    match set {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => web::json(StatusCode::BAD_REQUEST, &json!({ "error": error })),
    }
}
