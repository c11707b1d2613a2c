//! One HTTP/1.1 request over a connection of its own.

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::LedgerError;

/// Largest answer that is read; Fabric's largest message.
pub(super) const MAX_MESSAGE: usize = 100 * 1024 * 1024;

/// Sends `request` on `io` and reads the whole answer.
pub(super) async fn send(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    node: &str,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, LedgerError> {
    let broken = |e: hyper::Error| LedgerError::unreachable(node, e);
    let host = header::HeaderValue::from_str(node)
        .map_err(|_| LedgerError::Invalid(format!("{node:?} cannot stand in an HTTP header")))?;
    request.headers_mut().insert(header::HOST, host);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_MESSAGE).collect().await.map_err(|e| LedgerError::unreachable(node, e))?;
        // Without a sender left, the connection ends by itself.
        drop(sender);
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

/// The answer's body if its status is a success; otherwise the node's refusal.
pub(super) fn success(node: &str, response: Response<Bytes>) -> Result<Bytes, LedgerError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let message = refusal(response.body());
    Err(LedgerError::Refused { node: node.into(), status: status.as_u16(), message })
}

/// Fabric's REST errors are `{"error": "..."}`; anything else is shown as it is, shortened.
fn refusal(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.error,
        Err(_) => String::from_utf8_lossy(body).trim().chars().take(500).collect(),
    }
}
