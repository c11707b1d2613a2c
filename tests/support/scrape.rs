//! What a node says of itself to whoever measures it.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// `GET /metrics` over a connection that was opened for it. The end of the connection is not waited for: one that is
/// forwarded through the API server may have none.
pub async fn metrics(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> hyper::Result<String> {
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get("/metrics").header("host", "node").body(Empty::<Bytes>::new());
    let answer = client.send_request(request.expect("a request")).await?;
    let text = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The line by which a Raft orderer says that it leads a channel.
pub fn leads(channel: &str) -> String {
    format!("consensus_etcdraft_is_leader{{channel=\"{channel}\"}} 1")
}
