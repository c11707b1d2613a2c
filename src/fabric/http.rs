//! One HTTP/1.1 request over a connection of its own.

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::LedgerError;

/// Largest answer that is read: what is asked for over HTTP is a list of channels, a configuration block or metrics.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

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
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| LedgerError::unreachable(node, e))?;
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn an_answer_that_does_not_end_is_given_up_and_not_kept() {
        let (client, mut server) = duplex(64 * 1024);
        let endless = tokio::spawn(async move {
            let mut request = [0; 1024];
            assert!(server.read(&mut request).await.expect("a request") > 0);
            server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n").await.expect("a header");
            let mut sent = 0;
            while server.write_all(&[b' '; 1024]).await.is_ok() {
                sent += 1024;
            }
            sent
        });
        let request = Request::get("/participation/v1/channels").body(Full::default()).expect("a request");
        let error = send(client, "o:9443", request).await.expect_err("too much");
        assert!(error.to_string().contains("length limit exceeded"), "{error}");
        let sent = endless.await.expect("the server");
        assert!(sent < 2 * MAX_ANSWER, "{sent} bytes were taken");
    }
}
