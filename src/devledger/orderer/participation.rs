//! The channel participation REST API, with the paths, codes and texts of Fabric's.
//!
//! Known difference: a `PUT` that cannot be served answers at once; Fabric's leaves its registrar locked.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Multipart, Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use bytes::Bytes;
use prost::Message;
use serde::Serialize;

use super::registrar::{ChannelError, ChannelInfo, Registrar};
use crate::channel::{self, bundle};
use crate::faults::{Faults, Injection, Operation};
use crate::web::{self, DropReply};
use ehrnet_fabric::blocks;
use ehrnet_fabric::proto::common::{Block, ConfigUpdate, ConfigUpdateEnvelope, Envelope, HeaderType};

const BASE: &str = "/participation/v1/channels";
/// What Go's decoder says of anything that is no message.
const WIRE: &str = "proto: cannot parse invalid wire-format data";

#[derive(Clone)]
struct Api {
    registrar: Arc<Registrar>,
    faults: Faults,
    max_body: usize,
}

/// The routes. `secured`: the listener has TLS, so callers need a certificate.
pub fn routes(registrar: Arc<Registrar>, faults: Faults, max_body: usize, secured: bool) -> Router {
    let list = get(list).post(join).put(update).fallback(|m: Method| not_allowed(m, "GET, POST, PUT"));
    let one = get(info).delete(remove).fallback(|m: Method| not_allowed(m, "GET, DELETE"));
    let block = get(block).fallback(|m: Method| not_allowed(m, "GET"));
    let routes = Router::new()
        .route("/participation/v1/", get(|| async { (StatusCode::FOUND, [(header::LOCATION, BASE)]) }))
        .route(BASE, list)
        .route(&format!("{BASE}/{{channel}}"), one)
        .route(&format!("{BASE}/{{channel}}/blocks/{{block}}"), block)
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .with_state(Api { registrar, faults, max_body });
    if secured { routes.layer(middleware::from_fn(web::require_certificate)) } else { routes }
}

/// An answer that is not the one hoped for.
struct Refused(StatusCode, String, Option<&'static str>);

impl Refused {
    fn bad(reason: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, reason.into(), None)
    }
}

#[derive(Serialize)]
struct ErrorBody {
    error: String,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = web::json(self.0, &ErrorBody { error: self.1 });
        if let Some(allow) = self.2 {
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
        }
        response
    }
}

async fn not_allowed(method: Method, allow: &'static str) -> Response {
    Refused(StatusCode::METHOD_NOT_ALLOWED, format!("invalid request method: {method}"), Some(allow)).into_response()
}

impl Api {
    /// Play faults, act, answer.
    async fn serve<F>(&self, operation: Operation, channel: &str, act: F) -> Response
    where
        F: Future<Output = Result<Response, Refused>>,
    {
        let Injection { refusal, drop_reply, .. } = self.faults.inject(operation, channel).await;
        let result = match refusal {
            Some(refusal) => {
                let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                Err(Refused(status, refusal.message, None))
            }
            None => act.await,
        };
        let mut response = result.unwrap_or_else(IntoResponse::into_response);
        if drop_reply {
            response.extensions_mut().insert(DropReply);
        }
        response
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListBody {
    system_channel: Option<()>,
    /// `null` when there is none, as Go writes it.
    channels: Option<Vec<ShortBody>>,
}

#[derive(Serialize)]
struct ShortBody {
    name: String,
    url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InfoBody {
    name: String,
    url: String,
    consensus_relation: &'static str,
    status: &'static str,
    height: u64,
}

impl From<ChannelInfo> for InfoBody {
    fn from(info: ChannelInfo) -> Self {
        Self {
            url: format!("{BASE}/{}", info.name),
            name: info.name,
            consensus_relation: info.relation.as_str(),
            status: info.progress.as_str(),
            height: info.height,
        }
    }
}

async fn list(State(api): State<Api>, headers: HeaderMap) -> Response {
    api.serve(Operation::List, "", async {
        accepts_json(&headers)?;
        let channels: Vec<_> =
            api.registrar.list().into_iter().map(|name| ShortBody { url: format!("{BASE}/{name}"), name }).collect();
        let body = ListBody { system_channel: None, channels: Some(channels).filter(|list| !list.is_empty()) };
        Ok(uncached(web::json(StatusCode::OK, &body)))
    })
    .await
}

async fn info(State(api): State<Api>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    api.serve(Operation::Info, &name, async {
        accepts_json(&headers)?;
        check_name(&name)?;
        let info = api.registrar.info(&name).map_err(|e| Refused(StatusCode::NOT_FOUND, e.to_string(), None))?;
        Ok(uncached(web::json(StatusCode::OK, &InfoBody::from(info))))
    })
    .await
}

async fn join(State(api): State<Api>, request: Request) -> Response {
    let read = async {
        accepts_json(request.headers())?;
        let bytes = file_part(request, "config-block", api.max_body).await?;
        let block = Block::decode(bytes)
            .map_err(|_| Refused::bad(format!("cannot unmarshal file part config-block into a block: {WIRE}")))?;
        let bundle = check_join_block(&block).map_err(|e| Refused::bad(format!("invalid join block: {e}")))?;
        Ok::<_, Refused>((block, bundle))
    };
    let (block, bundle) = match read.await {
        Ok(read) => read,
        Err(refused) => return refused.into_response(),
    };
    let name = bundle.channel.clone();
    api.serve(Operation::Join, &name, async {
        let info = api.registrar.join(bundle, block).await.map_err(|e| refused("cannot join", e))?;
        Ok(created(info.into()))
    })
    .await
}

async fn update(State(api): State<Api>, request: Request) -> Response {
    let read = async {
        accepts_json(request.headers())?;
        let bytes = file_part(request, "config-update-envelope", api.max_body).await?;
        let unreadable = format!("cannot unmarshal file part config-update-envelope into an envelope: {WIRE}");
        let envelope = Envelope::decode(bytes).map_err(|_| Refused::bad(unreadable))?;
        let name =
            updated_channel(&envelope).map_err(|e| Refused::bad(format!("invalid config update envelope: {e}")))?;
        Ok::<_, Refused>((envelope, name))
    };
    let (envelope, name) = match read.await {
        Ok(read) => read,
        Err(refused) => return refused.into_response(),
    };
    api.serve(Operation::Update, &name, async {
        let chain = api.registrar.consenter(&name).map_err(|e| match e {
            ChannelError::Unknown => Refused(StatusCode::METHOD_NOT_ALLOWED, format!("cannot update: {e}"), None),
            ChannelError::Follower => Refused(StatusCode::FORBIDDEN, format!("cannot update: {e}"), None),
            other => refused("cannot update", other),
        })?;
        let failed = |why: String| Refused::bad(format!("cannot update: failed update config of channel {name}{why}"));
        let (config, sequence) = chain
            .process(|processor| processor.config_update(&envelope))
            .map_err(|r| failed(format!(": {}", r.reason)))?;
        let ordered = chain.order(config.encode_to_vec(), sequence).await;
        ordered.map_err(|e| failed(format!(" with SERVICE_UNAVAILABLE: rejected by Configure: {e}")))?;
        let info = api.registrar.info(&name).map_err(|e| refused("cannot update", e))?;
        Ok(created(info.into()))
    })
    .await
}

async fn remove(State(api): State<Api>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    api.serve(Operation::Remove, &name, async {
        accepts_json(&headers)?;
        check_name(&name)?;
        api.registrar.remove(&name).await.map_err(|e| match e {
            ChannelError::Unknown => Refused(StatusCode::NOT_FOUND, format!("cannot remove: {e}"), None),
            other => refused("cannot remove", other),
        })?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}

async fn block(State(api): State<Api>, Path((name, id)): Path<(String, String)>, headers: HeaderMap) -> Response {
    api.serve(Operation::FetchBlock, &name, async {
        accepts_json(&headers)?;
        check_name(&name)?;
        let missing = |e: String| Refused(StatusCode::NOT_FOUND, e, None);
        let illegal = || Refused::bad(format!("invalid block ID: '{id}' not equal <newest|oldest|config|(number)>"));
        let wanted: Option<u64> = match id.as_str() {
            "newest" | "oldest" | "config" => None,
            // Fabric takes negative numbers, too: -1 is its own mark for the newest block.
            number => Some(number.parse::<i64>().map_err(|_| illegal())?.cast_unsigned()),
        };
        let chain = api.registrar.consenter(&name).map_err(|e| missing(e.to_string()))?;
        let ledger = chain.ledger();
        let number = match (id.as_str(), wanted) {
            ("newest", _) | (_, Some(u64::MAX)) => ledger.height().saturating_sub(1),
            ("oldest", _) => 0,
            (_, Some(number)) => number,
            _ => ledger.current().map_or(0, |current| current.config_block),
        };
        let found = ledger.block(number).map_err(|e| missing(e.to_string()))?;
        let found = found.ok_or_else(|| missing(format!("no such block number [{number}] in index")))?;
        let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
        Ok(uncached((kind, found.encode_to_vec()).into_response()))
    })
    .await
}

fn refused(action: &str, error: ChannelError) -> Refused {
    let text = format!("{action}: {error}");
    match error {
        ChannelError::Exists => Refused(StatusCode::METHOD_NOT_ALLOWED, text, Some("GET, DELETE")),
        ChannelError::Removing => Refused(StatusCode::CONFLICT, text, None),
        ChannelError::RemovalFailed => Refused(StatusCode::INTERNAL_SERVER_ERROR, text, None),
        _ => Refused::bad(text),
    }
}

fn created(info: InfoBody) -> Response {
    let mut response = web::json(StatusCode::CREATED, &info);
    if let Ok(location) = header::HeaderValue::from_str(&info.url) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

fn accepts_json(headers: &HeaderMap) -> Result<(), Refused> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let wanted = ["application/json", "application/*", "*/*"];
    if accept.is_empty() || accept.split(',').any(|option| wanted.iter().any(|w| option.contains(w))) {
        return Ok(());
    }
    let reason = "response Content-Type is application/json only".into();
    Err(Refused(StatusCode::NOT_ACCEPTABLE, reason, None))
}

fn check_name(name: &str) -> Result<(), Refused> {
    bundle::check_name(name).map_err(|e| Refused::bad(format!("invalid channel ID: {e}")))
}

/// The one file part of a multipart form.
async fn file_part(request: Request, key: &str, max_body: usize) -> Result<Bytes, Refused> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    if !kind.contains("multipart/form-data") {
        return Err(Refused::bad(format!("unsupported Content-Type: [{kind}]")));
    }
    let unreadable = |e: &dyn std::fmt::Display| Refused::bad(format!("cannot read form from request body: {e}"));
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, max_body).await.map_err(|_| unreadable(&"http: request body too large"))?;
    let request = Request::from_parts(parts, Body::from(body));
    let mut form = Multipart::from_request(request, &()).await.map_err(|e| unreadable(&e.body_text()))?;
    let (mut found, mut others) = (None, false);
    while let Some(field) = form.next_field().await.map_err(|e| unreadable(&e.body_text()))? {
        let ours = field.file_name().is_some() && field.name() == Some(key);
        let bytes = field.bytes().await.map_err(|e| unreadable(&e.body_text()))?;
        if !ours {
            others = true;
        } else if found.is_none() {
            found = Some(bytes);
        }
    }
    match found {
        None => Err(Refused::bad(format!("form does not contains part key: {key}"))),
        Some(_) if others => Err(Refused::bad("form contains too many parts")),
        Some(bytes) => Ok(bytes),
    }
}

fn check_join_block(block: &Block) -> Result<bundle::Bundle, String> {
    if !channel::is_config_block(block) {
        return Err("block is not a config block".into());
    }
    if block.metadata.as_ref().is_none_or(|metadata| metadata.metadata.is_empty()) {
        return Err("invalid block: does not have metadata".into());
    }
    let header = block.header.as_ref().ok_or("invalid block: does not have a header")?;
    if block.data.as_ref().is_none_or(|data| header.data_hash != blocks::data_hash(data)) {
        return Err("invalid block: Header.DataHash is different from Hash(block.Data)".into());
    }
    let bundle = bundle::Bundle::of_block(block)?;
    match bundle.application {
        Some(_) => Ok(bundle),
        None => Err("invalid config: must contain application config".into()),
    }
}

fn updated_channel(envelope: &Envelope) -> Result<String, String> {
    let opened = channel::open(envelope).map_err(|_| "bad payload")?;
    if opened.channel.r#type != i32::from(HeaderType::ConfigUpdate) {
        return Err("bad type".into());
    }
    if opened.channel.channel_id.is_empty() {
        return Err("empty channel id".into());
    }
    let update = ConfigUpdateEnvelope::decode(opened.data.as_slice()).map_err(|e| e.to_string())?;
    let update = ConfigUpdate::decode(update.config_update.as_slice()).map_err(|e| e.to_string())?;
    Ok(update.channel_id)
}
