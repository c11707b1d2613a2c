//! Options that all subcommands share which call the contract, and how their answers are printed.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::CommandError;
use ehrnet_client::contract::ConnectOptions;
use ehrnet_client::{Bundle, Contract, Endpoint};
use ehrnet_consent::vocabulary::Coding;
use ehrnet_messages::hash;

/// Which contract, as whom, and how the answer is printed.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// Folder with the client bundle of a hospital or an identity: the keys of its Secret as files.
    #[arg(long, value_name = "DIR", env = "EHRNET_BUNDLE")]
    bundle: PathBuf,
    /// Connect to this address instead of the peer's own, for example a forwarded port; the certificate must still be
    /// the peer's.
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<Endpoint>,
    /// Channel; not needed where the hospital has only one.
    #[arg(long)]
    channel: Option<String>,
    /// Name of the contract on the channel, if it is not `ehr`.
    #[arg(long)]
    chaincode: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgs {
    /// For people, or the contract's whole answer as JSON.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// The whole answer.
    Json,
}

impl ClientArgs {
    /// The bundle.
    pub fn bundle(&self) -> Result<Bundle, CommandError> {
        Ok(Bundle::read(&self.bundle)?)
    }

    /// The contract that the bundle leads to.
    pub fn open(&self, bundle: Bundle) -> Result<Contract, CommandError> {
        let options = ConnectOptions {
            peer: self.peer.clone(),
            channel: self.channel.clone(),
            chaincode: self.chaincode.clone(),
        };
        Ok(Contract::open(bundle, options)?)
    }
}

impl OutputArgs {
    /// Prints an answer: `lines` for people, or all of it as JSON.
    pub fn print(&self, answer: &impl Serialize, lines: impl IntoIterator<Item = String>) -> Result<(), CommandError> {
        let mut out = std::io::stdout().lock();
        match self.output {
            Output::Table => lines.into_iter().try_for_each(|line| writeln!(out, "{line}"))?,
            Output::Json => {
                let text = serde_json::to_string_pretty(answer).map_err(std::io::Error::from)?;
                writeln!(out, "{text}")?;
            }
        }
        Ok(())
    }
}

/// Whose data.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct PatientArgs {
    /// The patient's id at the hospital; the ledger sees its pseudonym only. Not needed with the patient's own bundle.
    #[arg(long, value_name = "ID")]
    patient: Option<String>,
    /// The patient's pseudonym.
    #[arg(long, value_name = "HEX")]
    pseudonym: Option<String>,
}

impl PatientArgs {
    /// The pseudonym: of who is named, or of the patient whose bundle it is.
    pub fn resolve(&self, bundle: &Bundle) -> Result<String, CommandError> {
        match (&self.patient, &self.pseudonym) {
            (Some(id), _) => Ok(hash::pseudonym(&*bundle.pseudonym_key()?, id)),
            (None, Some(pseudonym)) => Ok(pseudonym.clone()),
            (None, None) => Ok(bundle.own_patient()?),
        }
    }
}

/// `code`, or `system|code` as FHIR's searches write it.
pub fn coding(text: &str) -> Result<Coding, String> {
    let (system, code) = text.rsplit_once('|').map_or((None, text), |(system, code)| (Some(system.to_owned()), code));
    if code.is_empty() {
        return Err("must be a code, or system|code".into());
    }
    Ok(Coding { system, code: code.to_owned(), display: None })
}

/// The same, as a request for access has it.
pub fn code_value(text: &str) -> Result<Value, String> {
    let Coding { system, code, .. } = coding(text)?;
    Ok(match system {
        Some(system) => json!({"system": system, "code": code}),
        None => code.into(),
    })
}

/// One of the words that a type of the contract has.
pub fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(text)).map_err(|error| error.to_string())
}

/// The first characters of a hash: enough to tell two apart at a glance.
pub fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}
