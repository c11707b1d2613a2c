//! Misbehaviour on request, for tests of whoever talks to the ledger.
//!
//! `EHRNET_DEVLEDGER_FAULTS` names a YAML or JSON file; it is looked at before every operation and read again when it
//! changed. Each rule matches by operation and channel and plays one action, at most `times` times:
//!
//! ```yaml
//! - {operation: join, channel: ehr, action: {refuse: {status: 500, message: disk full}}, times: 1}
//! - {operation: broadcast, action: noLeader}
//! - {operation: info, action: {delay: 800}}
//! - {operation: submit, action: dropReply}
//! - {operation: connect, action: wrongCertificate}
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

/// What a rule can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// TLS handshake, on any listener.
    Connect,
    /// `GET` of the channel list.
    List,
    /// `GET` of one channel.
    Info,
    /// `POST` of a config block.
    Join,
    /// `DELETE` of a channel.
    Remove,
    /// `PUT` of a config update.
    Update,
    /// `GET` of a block.
    FetchBlock,
    /// One envelope on `AtomicBroadcast/Broadcast`.
    Broadcast,
    /// One seek request on a Deliver stream.
    Deliver,
    /// One message between consenters.
    Consensus,
    /// `Endorser/ProcessProposal`.
    Propose,
    /// One request between peers for private data, or to keep some.
    PrivateData,
    /// A gateway's `Evaluate`.
    Evaluate,
    /// A gateway's `Endorse`.
    Endorse,
    /// A gateway's `Submit`.
    Submit,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Wait that many milliseconds, then go on.
    Delay(u64),
    /// Answer as an orderer without a leader does.
    NoLeader,
    /// Answer with this HTTP status (REST) or message (gRPC) instead of acting.
    Refuse {
        /// HTTP status code.
        status: u16,
        /// Error text.
        message: String,
    },
    /// Act, but break the connection before answering.
    DropReply,
    /// Present a certificate that no CA of the network issued.
    WrongCertificate,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    operation: Operation,
    channel: Option<String>,
    // YAML would want tags (`!delay 5`) otherwise.
    #[serde(with = "serde_yaml::with::singleton_map")]
    action: Action,
    times: Option<u32>,
}

/// The faults that the caller of [`Faults::inject`] has to play.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Injection {
    /// Answer so instead of acting.
    pub refusal: Option<Refusal>,
    /// Act, then break the connection.
    pub drop_reply: bool,
    /// Use the wrong certificate.
    pub wrong_certificate: bool,
}

/// An answer given without acting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Error text.
    pub message: String,
}

/// The rules in force.
#[derive(Debug, Clone)]
pub struct Faults(Option<Arc<Mutex<Loaded>>>);

#[derive(Debug)]
struct Loaded {
    file: PathBuf,
    seen: Option<(SystemTime, u64)>,
    rules: Vec<Rule>,
}

impl Faults {
    /// Play the rules of `file`, or none.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self(file.map(|file| Arc::new(Mutex::new(Loaded { file, seen: None, rules: Vec::new() }))))
    }

    /// Wait out the delays that match and tell what else to play.
    pub async fn inject(&self, operation: Operation, channel: &str) -> Injection {
        let (injection, delay) = self.decide(operation, channel);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        injection
    }

    /// As [`Self::inject`], without waiting; for places that cannot.
    pub fn decide(&self, operation: Operation, channel: &str) -> (Injection, Duration) {
        let mut injection = Injection::default();
        let mut delay = Duration::ZERO;
        let Some(loaded) = &self.0 else { return (injection, delay) };
        for action in loaded.lock().unwrap_or_else(PoisonError::into_inner).matching(operation, channel) {
            tracing::warn!(?operation, channel, ?action, "playing a fault");
            match action {
                Action::Delay(millis) => delay += Duration::from_millis(millis),
                Action::NoLeader => {
                    injection.refusal = Some(Refusal { status: 503, message: "no Raft leader".into() });
                }
                Action::Refuse { status, message } => injection.refusal = Some(Refusal { status, message }),
                Action::DropReply => injection.drop_reply = true,
                Action::WrongCertificate => injection.wrong_certificate = true,
            }
        }
        (injection, delay)
    }
}

impl Loaded {
    fn matching(&mut self, operation: Operation, channel: &str) -> Vec<Action> {
        self.reload();
        let mut actions = Vec::new();
        for rule in &mut self.rules {
            let meant = rule.operation == operation && rule.channel.as_ref().is_none_or(|c| c == channel);
            if meant && rule.times != Some(0) {
                rule.times = rule.times.map(|n| n - 1);
                actions.push(rule.action.clone());
            }
        }
        actions
    }

    /// An absent file is an empty one; a wrong one is reported and changes nothing.
    fn reload(&mut self) {
        let state = std::fs::metadata(&self.file).and_then(|m| Ok((m.modified()?, m.len()))).ok();
        if state == self.seen {
            return;
        }
        self.seen = state;
        let text = match std::fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) => {
                tracing::info!(file = %self.file.display(), %error, "no faults to play");
                self.rules.clear();
                return;
            }
        };
        match serde_yaml::from_str(&text) {
            Ok(rules) => self.rules = rules,
            Err(error) => tracing::error!(file = %self.file.display(), %error, "cannot read the faults to play"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rules_match_by_operation_and_channel_and_wear_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("faults");
        let faults = Faults::new(Some(file.clone()));
        assert_eq!(faults.decide(Operation::Join, "a").0, Injection::default());
        let rules =
            "- {operation: join, channel: a, action: dropReply, times: 1}\n- {operation: join, action: {delay: 5}}";
        std::fs::write(&file, rules).unwrap();
        assert_eq!(faults.decide(Operation::Info, "a"), (Injection::default(), Duration::ZERO));
        assert_eq!(faults.decide(Operation::Join, "b"), (Injection::default(), Duration::from_millis(5)));
        assert!(faults.decide(Operation::Join, "a").0.drop_reply);
        assert!(!faults.decide(Operation::Join, "a").0.drop_reply);
    }

    #[test]
    fn no_leader_and_refusals_answer_instead_of_acting() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("faults");
        let rules = r#"[{"operation":"broadcast","action":"noLeader"},
                        {"operation":"join","action":{"refuse":{"status":500,"message":"disk full"}}}]"#;
        std::fs::write(&file, rules).unwrap();
        let faults = Faults::new(Some(file));
        let refused = |op| faults.decide(op, "c").0.refusal.unwrap();
        assert_eq!(refused(Operation::Broadcast), Refusal { status: 503, message: "no Raft leader".into() });
        assert_eq!(refused(Operation::Join), Refusal { status: 500, message: "disk full".into() });
    }
}
