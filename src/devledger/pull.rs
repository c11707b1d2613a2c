//! Follows a channel by the Deliver service of its orderers.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rustls::pki_types::CertificateDer;

use super::channel::bundle::Bundle;
use super::channel::certificate as certs;
use super::dial::{self, Callee, TlsIdentity};
use super::hosts::Hosts;
use super::ledger::ChannelLedger;
use super::stop::Stop;
use ehrnet_fabric::Endpoint;
use ehrnet_fabric::envelope::{self, Stamp};
use ehrnet_fabric::identity::SigningIdentity;
use ehrnet_fabric::proto::common::{Block, HeaderType, Status};
use ehrnet_fabric::proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use ehrnet_fabric::proto::orderer::seek_info::{SeekBehavior, SeekErrorResponse};
use ehrnet_fabric::proto::orderer::{SeekInfo, SeekPosition, SeekSpecified, deliver_response, seek_position};

/// Pause before the second attempt.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// How this node pulls.
pub struct Puller {
    /// Signs the requests.
    pub signer: Arc<SigningIdentity>,
    /// Own TLS certificate, for orderers that ask for one.
    pub identity: Option<TlsIdentity>,
    /// Name resolution.
    pub hosts: Hosts,
    /// Longest pause between attempts.
    pub max_retry: Duration,
    /// Whether blocks are wanted from an orderer without a leader: as in Fabric, other orderers copy them, peers turn to
    /// the next orderer.
    pub without_leader: SeekErrorResponse,
}

/// Whether to go on pulling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Yes.
    Continue,
    /// The caller has what it wants.
    Done,
}

/// An orderer's address and the CAs that vouch for it.
struct Source {
    host: String,
    port: u16,
    roots: Vec<CertificateDer<'static>>,
}

impl Puller {
    /// Pull the blocks that follow the ledger's last and hand each to `take`, until it is done or `stop` asks to end.
    /// Orderers are those of the configuration in force, or of `join` as long as `join` is newer; each failure moves on
    /// to the next, with a growing pause.
    pub async fn follow<F: Future<Output = Result<Next, String>>>(
        &self,
        ledger: &ChannelLedger,
        join: Option<(&Bundle, u64)>,
        mut stop: Stop,
        mut take: impl FnMut(Block) -> F,
    ) {
        let mut attempt = 0;
        let mut pause = FIRST_RETRY;
        while !stop.is_requested() {
            let joining = join.filter(|(_, number)| ledger.height() <= *number).map(|(bundle, _)| bundle);
            let bundle = ledger.bundle();
            let sources = joining.or(bundle.as_deref()).map(sources).unwrap_or_default();
            let before = ledger.height();
            if let Some(source) = sources.get(attempt % sources.len().max(1)) {
                tokio::select! {
                    () = stop.requested() => return,
                    pulled = self.pull(ledger, source, &mut take) => match pulled {
                        Ok(()) => return,
                        Err(reason) => tracing::info!(
                            channel = ledger.channel(),
                            orderer = format!("{}:{}", source.host, source.port),
                            reason,
                            "not pulling from this orderer"
                        ),
                    },
                }
            } else {
                tracing::warn!(channel = ledger.channel(), "the configuration names no orderer to pull from");
            }
            attempt += 1;
            if ledger.height() > before {
                pause = FIRST_RETRY;
            }
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 3 / 2).min(self.max_retry);
        }
    }

    async fn pull<F: Future<Output = Result<Next, String>>>(
        &self,
        ledger: &ChannelLedger,
        source: &Source,
        take: &mut impl FnMut(Block) -> F,
    ) -> Result<(), String> {
        let callee =
            Callee { host: source.host.clone(), port: source.port, roots: source.roots.clone(), expected: None };
        let connection = dial::connect(&self.hosts, callee, self.identity.as_ref()).await.map_err(|e| e.to_string())?;
        let mut client =
            AtomicBroadcastClient::new(connection).max_decoding_message_size(super::orderer::cluster::MAX_MESSAGE);
        let seek = self.seek(ledger);
        // The stream of requests must stay open, or the orderer ends the delivery.
        let requests = futures::StreamExt::chain(futures::stream::iter([seek]), futures::stream::pending());
        let mut responses = client.deliver(requests).await.map_err(|e| e.message().to_owned())?.into_inner();
        while let Some(response) = responses.message().await.map_err(|e| e.message().to_owned())? {
            match response.r#type {
                Some(deliver_response::Type::Block(block)) => {
                    if take(block).await? == Next::Done {
                        return Ok(());
                    }
                }
                Some(deliver_response::Type::Status(status)) => {
                    let name = Status::try_from(status).map_or("unknown", |status| status.as_str_name());
                    return Err(format!("it ended the delivery with status {name}"));
                }
                None => return Err("it sent an empty response".into()),
            }
        }
        Err("it closed the connection".into())
    }

    fn seek(&self, ledger: &ChannelLedger) -> ehrnet_fabric::proto::common::Envelope {
        let at = |number| Some(SeekPosition { r#type: Some(seek_position::Type::Specified(SeekSpecified { number })) });
        let seek = SeekInfo {
            start: at(ledger.height()),
            stop: at(u64::MAX),
            behavior: SeekBehavior::BlockUntilReady.into(),
            error_response: self.without_leader.into(),
            ..Default::default()
        };
        envelope::signed(
            &self.signer,
            HeaderType::DeliverSeekInfo,
            ledger.channel(),
            seek.encode_to_vec(),
            &Stamp::now(),
        )
    }
}

fn sources(bundle: &Bundle) -> Vec<Source> {
    let read = |(endpoint, roots): (&str, &[Vec<u8>])| {
        let Endpoint { host, port } = endpoint.parse().ok()?;
        let roots = roots.iter().filter_map(|pem| certs::der(pem)).map(CertificateDer::from).collect();
        Some(Source { host, port, roots })
    };
    bundle.orderer.endpoints().filter_map(read).collect()
}
