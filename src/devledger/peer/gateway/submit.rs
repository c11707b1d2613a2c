//! `Submit`: to orderers, as the channel's consensus needs it (Fabric: `gateway/submit.go`).

use futures::stream::{self, FuturesUnordered, StreamExt};
use rand::seq::SliceRandom;
use rustls::pki_types::CertificateDer;
use tonic::{Code, Status};

use super::candidates::in_go;
use super::{BROADCAST_LIMIT, Gateway};
use crate::channel::bundle::OrdererConfig;
use crate::channel::certificate;
use crate::orderer::cluster::MAX_MESSAGE;
use ehrnet_fabric::Endpoint;
use ehrnet_fabric::gateway::status;
use ehrnet_fabric::policy::bft_quorum;
use ehrnet_fabric::proto::common::{Envelope, Status as BroadcastStatus};
use ehrnet_fabric::proto::gateway::{ErrorDetail, SubmitRequest, SubmitResponse};
use ehrnet_fabric::proto::orderer::BroadcastResponse;
use ehrnet_fabric::proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;

/// What an orderer answers that was sent a transaction by another client before.
const KNOWN: &str = "failed to submit request: request already exists";

/// An orderer of a channel.
struct Orderer {
    msp_id: String,
    host: String,
    port: u16,
    roots: Vec<CertificateDer<'static>>,
}

impl Orderer {
    fn detail(&self, message: String) -> ErrorDetail {
        ErrorDetail { address: format!("{}:{}", self.host, self.port), msp_id: self.msp_id.clone(), message }
    }
}

impl Gateway {
    pub(super) async fn submitted(&self, request: SubmitRequest) -> Result<SubmitResponse, Status> {
        let transaction = request.prepared_transaction;
        let transaction = transaction.ok_or_else(|| Status::invalid_argument("a prepared transaction is required"))?;
        if transaction.signature.is_empty() {
            return Err(Status::invalid_argument("prepared transaction must be signed"));
        }
        let config = &self.bundle(&request.channel_id)?.orderer;
        let orderers = orderers(config);
        if orderers.is_empty() {
            return Err(Status::unavailable("no orderer nodes available"));
        }
        if config.consensus.r#type == "BFT" {
            self.to_all(orderers, &transaction).await
        } else {
            self.to_one(orderers, &transaction).await
        }
    }

    /// A quorum has to accept, since one orderer may answer falsely.
    async fn to_all(&self, orderers: Vec<Orderer>, transaction: &Envelope) -> Result<SubmitResponse, Status> {
        let (total, quorum) = (orderers.len(), bft_quorum(orderers.len()));
        let send = |orderer| async { self.accepted(orderer, transaction).await };
        let mut answers: FuturesUnordered<_> = orderers.into_iter().map(send).collect();
        let (mut accepted, mut details) = (0, Vec::new());
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(()) => accepted += 1,
                Err(detail) => details.push(detail),
            }
            if accepted >= quorum {
                return Ok(SubmitResponse {});
            }
            if details.len() > total - quorum {
                break;
            }
        }
        let message =
            "insufficient number of orderers could successfully process transaction to satisfy quorum requirement";
        Err(status(Code::Unavailable, message, details))
    }

    async fn accepted(&self, orderer: Orderer, transaction: &Envelope) -> Result<(), ErrorDetail> {
        match self.broadcast(&orderer, transaction).await {
            Ok(answer) if answer.status() == BroadcastStatus::Success => Ok(()),
            Ok(answer) if answer.status() == BroadcastStatus::ServiceUnavailable && answer.info == KNOWN => Ok(()),
            Ok(answer) => Err(orderer.detail(unsuccessful(&answer))),
            Err(reason) => Err(orderer.detail(reason)),
        }
    }

    /// Any orderer will do, since each passes transactions on.
    async fn to_one(&self, mut orderers: Vec<Orderer>, transaction: &Envelope) -> Result<SubmitResponse, Status> {
        orderers.shuffle(&mut rand::rng());
        let mut details = Vec::new();
        for orderer in orderers {
            match self.broadcast(&orderer, transaction).await {
                Ok(answer) if answer.status() == BroadcastStatus::Success => return Ok(SubmitResponse {}),
                // The transaction is wrong, whoever is asked.
                Ok(answer) if (400..500).contains(&answer.status) => {
                    return Err(Status::aborted(unsuccessful(&answer)));
                }
                Ok(answer) => tracing::warn!(orderer = orderer.host, reason = unsuccessful(&answer), "not accepted"),
                Err(reason) => details.push(orderer.detail(reason)),
            }
        }
        Err(status(Code::Unavailable, "no orderers could successfully process transaction", details))
    }

    async fn broadcast(&self, orderer: &Orderer, transaction: &Envelope) -> Result<BroadcastResponse, String> {
        let send = async {
            let channel = self.connections().to(&orderer.host, orderer.port, &orderer.roots).await?;
            let mut client = AtomicBroadcastClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            let answers = client.broadcast(stream::iter([transaction.clone()])).await;
            let answer = answers.map_err(|e| in_go(&e))?.into_inner().message().await.map_err(|e| in_go(&e))?;
            answer.ok_or_else(|| "EOF".to_owned())
        };
        let answer = tokio::time::timeout(BROADCAST_LIMIT, send).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {BROADCAST_LIMIT:?}")));
        answer.inspect_err(|_| self.connections().forget(&orderer.host, orderer.port))
    }
}

fn orderers(config: &OrdererConfig) -> Vec<Orderer> {
    let organisations = config.organizations.iter();
    let of_organisation = organisations.flat_map(|org| {
        let roots: Vec<_> =
            org.tls_roots.iter().filter_map(|pem| certificate::der(pem)).map(CertificateDer::from).collect();
        org.endpoints.iter().filter_map(move |endpoint| {
            let Endpoint { host, port } = endpoint.parse().ok()?;
            Some(Orderer { msp_id: org.msp_id.clone(), host, port, roots: roots.clone() })
        })
    });
    of_organisation.collect()
}

fn unsuccessful(answer: &BroadcastResponse) -> String {
    let name = answer.status().as_str_name();
    format!("received unsuccessful response from orderer: status={name}, info={}", answer.info)
}
