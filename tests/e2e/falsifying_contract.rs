//! The contract as one hospital may have altered it: this test's own program, in an image.
//!
//! Everywhere but at that hospital it is the contract. There it stands between the peer and the contract, and makes
//! permissions of denials and a weaker policy of a stricter one, in what is written, answered and announced.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use ehrnet_fabric::proto::protos::chaincode_client::ChaincodeClient;
use ehrnet_fabric::proto::protos::chaincode_message::Type;
use ehrnet_fabric::proto::protos::chaincode_server::{Chaincode, ChaincodeServer};
use ehrnet_fabric::proto::protos::{ChaincodeMessage, PutState, Response as Answer, WriteBatchState};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// The argument that makes this program the contract.
pub const COMMAND: &str = "falsifying-contract";
/// The hospital whose contract answers falsely: its pods' names begin with this.
const FALSIFYING_HOSPITAL: &str = "ehr-lakeside-";
/// Where the contract is behind it.
const HONEST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9998);
/// What is made of what.
const FALSIFIED: [(&str, &str); 2] = [("\"DENY\"", "\"PERMIT\""), ("\"forbid\"", "\"allow\"")];

/// Serves as the environment says, which is that of any contract.
pub fn run() -> ExitCode {
    let mut contract = Command::new("/usr/local/bin/ehrnet-contract");
    if !setting("HOSTNAME").starts_with(FALSIFYING_HOSPITAL) {
        eprintln!("{}", contract.exec());
        return ExitCode::FAILURE;
    }
    contract.env("CHAINCODE_SERVER_ADDRESS", HONEST.to_string()).env("CHAINCODE_TLS_DISABLED", "true");
    let mut contract = contract.spawn().expect("the contract starts");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(serve());
    contract.kill().expect("the contract is ours");
    contract.wait().expect("the contract ends");
    ExitCode::SUCCESS
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

async fn serve() {
    while TcpStream::connect(HONEST).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let file = |name| std::fs::read(setting(name)).expect("a TLS file");
    let identity = Identity::from_pem(file("CHAINCODE_TLS_CERT"), file("CHAINCODE_TLS_KEY"));
    let clients = Certificate::from_pem(file("CHAINCODE_CLIENT_CA_CERT"));
    let tls = ServerTlsConfig::new().identity(identity).client_ca_root(clients);
    let mut server = Server::builder().tls_config(tls).expect("TLS");
    let address = setting("CHAINCODE_SERVER_ADDRESS").parse().expect("an address");
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
    let ended = async move { end.recv().await.unwrap_or_default() };
    server
        .add_service(ChaincodeServer::new(FalsifyingContract))
        .serve_with_shutdown(address, ended)
        .await
        .expect("serving");
}

struct FalsifyingContract;

#[tonic::async_trait]
impl Chaincode for FalsifyingContract {
    type ConnectStream = BoxStream<'static, Result<ChaincodeMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let contract = Endpoint::from_shared(format!("http://{HONEST}")).expect("an address").connect().await;
        let contract = contract.map_err(|error| Status::unavailable(error.to_string()))?;
        let asked = tokio_stream::StreamExt::map_while(request.into_inner(), Result::ok);
        let answers = ChaincodeClient::new(contract).connect(asked).await?.into_inner();
        Ok(Response::new(answers.map_ok(altered).boxed()))
    }
}

/// What the contract says, falsified.
fn altered(mut message: ChaincodeMessage) -> ChaincodeMessage {
    match message.r#type() {
        Type::PutState => {
            let mut put = PutState::decode(message.payload.as_slice()).expect("a write");
            put.value = falsified(put.value);
            message.payload = put.encode_to_vec();
        }
        Type::WriteBatchState => {
            let mut batch = WriteBatchState::decode(message.payload.as_slice()).expect("writes");
            for record in &mut batch.rec {
                record.value = falsified(std::mem::take(&mut record.value));
            }
            message.payload = batch.encode_to_vec();
        }
        Type::Completed => {
            let mut answer = Answer::decode(message.payload.as_slice()).expect("an answer");
            answer.payload = falsified(answer.payload);
            message.payload = answer.encode_to_vec();
            if let Some(event) = &mut message.chaincode_event {
                event.payload = falsified(std::mem::take(&mut event.payload));
            }
        }
        _ => {}
    }
    message
}

/// What is no text is no decision.
fn falsified(value: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(value) {
        Ok(text) => {
            FALSIFIED.iter().fold(text, |text, (honest, falsified)| text.replace(honest, falsified)).into_bytes()
        }
        Err(other) => other.into_bytes(),
    }
}
