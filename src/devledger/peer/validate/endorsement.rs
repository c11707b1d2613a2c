//! Whether a transaction has the endorsements that its writes need: of the keys' own policies, of collections, of the
//! chaincode (Fabric: `core/common/validation/statebased`).

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::transaction::Endorsed;
use crate::channel::SignedData;
use crate::channel::bundle::Bundle;
use crate::peer::lifecycle::definition::{Committed, Definition};
use crate::peer::lifecycle::rules::reference;
use crate::peer::lifecycle::{self, implicit_org};
use crate::peer::rwset::Namespace;
use crate::peer::state::world::State;
use ehrnet_fabric::authorization::{evaluate, evaluate_signature_policy};
use ehrnet_fabric::membership::Identity;
use ehrnet_fabric::policy::{n_out_of, role_principal};
use ehrnet_fabric::proto::common::SignaturePolicyEnvelope;
use ehrnet_fabric::proto::common::msp_role::MspRoleType;
use ehrnet_fabric::proto::protos::TxValidationCode as Code;
use ehrnet_fabric::proto::protos::{ApplicationPolicy, MetaDataKeys, application_policy};

/// Keys whose policies valid transactions of the block have changed: chaincode, collection, key or its hash.
#[derive(Debug, Default)]
pub struct Changed(BTreeSet<(String, String, Vec<u8>)>);

/// The endorsement policies in force on a channel.
pub struct Policies<'a> {
    /// The channel's configuration.
    pub bundle: &'a Bundle,
    /// The state before the block.
    pub state: &'a State,
}

/// The evaluation of one transaction in one namespace.
struct Check<'a> {
    policies: &'a Policies<'a>,
    changed: &'a Changed,
    signers: &'a [Identity],
    namespace: &'a str,
    definition: &'a Definition,
    /// Collections ("" for the chaincode) whose policy was found satisfied.
    satisfied: BTreeSet<String>,
    /// Some policy was.
    any: bool,
}

impl Changed {
    /// Note the policies that a valid transaction changes in a namespace.
    pub fn add(&mut self, namespace: &Namespace) {
        for write in &namespace.kv.metadata_writes {
            self.0.insert((namespace.name.clone(), String::new(), write.key.clone().into_bytes()));
        }
        for collection in &namespace.collections {
            for write in &collection.set.metadata_writes {
                self.0.insert((namespace.name.clone(), collection.name.clone(), write.key_hash.clone()));
            }
        }
    }
}

impl Policies<'_> {
    /// Judge a transaction in every namespace that it writes to, and in the one that it called.
    ///
    /// # Errors
    /// Fabric's verdict.
    pub fn check(&self, transaction: &Endorsed, changed: &mut Changed) -> Result<(), Code> {
        let signers = self.bundle.signers(&signatures(transaction));
        let written = transaction.set.namespaces.iter().filter(|namespace| namespace.writes());
        let mut names: BTreeSet<&str> = written.map(|namespace| namespace.name.as_str()).collect();
        names.insert(&transaction.chaincode);
        let mut verdict = Ok(());
        for name in names {
            let definition = self.definition(name).ok_or(Code::InvalidChaincode)?;
            let namespace = transaction.set.namespaces.iter().find(|namespace| namespace.name == name);
            let mut check = Check {
                policies: self,
                changed,
                signers: &signers,
                namespace: name,
                definition: &definition,
                satisfied: BTreeSet::new(),
                any: false,
            };
            match check.run(namespace) {
                Ok(()) => namespace.into_iter().for_each(|namespace| changed.add(namespace)),
                Err(reason) => {
                    tracing::warn!(tx = transaction.tx_id, chaincode = name, reason, "endorsement policy failure");
                    verdict = Err(Code::EndorsementPolicyFailure);
                }
            }
        }
        verdict
    }

    /// The definition whose policies hold in a namespace; `None` if there is none or it names no policy.
    fn definition(&self, name: &str) -> Option<Definition> {
        if name == lifecycle::NAMESPACE {
            let mut definition = Definition::default();
            definition.validation.validation_parameter = self.lifecycle_policy().encode_to_vec();
            return Some(definition);
        }
        let definition = Definition::read(&mut Committed(self.state), name).ok()??;
        let validation = &definition.validation;
        let complete = !validation.validation_plugin.is_empty() && !validation.validation_parameter.is_empty();
        complete.then_some(definition)
    }

    /// The channel's policy for definitions; without one, a member of most organisations.
    fn lifecycle_policy(&self) -> ApplicationPolicy {
        const PATH: &str = "/Channel/Application/LifecycleEndorsement";
        if self.bundle.has_policy(PATH) {
            return reference(PATH);
        }
        let orgs = self.bundle.application_orgs();
        let members = orgs.iter().map(|org| role_principal(org, MspRoleType::Member)).collect();
        signature_policy(n_out_of(orgs.len() / 2 + 1, members))
    }

    /// Policy of an implicit collection: its organisation's.
    fn implicit_policy(&self, msp_id: &str) -> Result<ApplicationPolicy, String> {
        let org = self.bundle.application.iter().flatten().find(|org| org.msp_id == msp_id);
        let org = org.ok_or_else(|| format!("no org found in channel with MSPID '{msp_id}'"))?;
        let path = format!("/Channel/Application/{}/Endorsement", org.name);
        Ok(match self.bundle.has_policy(&path) {
            true => reference(&path),
            false => signature_policy(n_out_of(1, vec![role_principal(msp_id, MspRoleType::Member)])),
        })
    }

    fn evaluate(&self, policy: &ApplicationPolicy, signers: &[Identity]) -> Result<(), String> {
        match &policy.r#type {
            Some(application_policy::Type::SignaturePolicy(policy)) => evaluate_signature_policy(policy, signers),
            Some(application_policy::Type::ChannelConfigPolicyReference(path)) => {
                evaluate(self.bundle.root(), path, signers)
            }
            None => Err("unsupported policy type".into()),
        }
    }
}

impl Check<'_> {
    fn run(&mut self, namespace: Option<&Namespace>) -> Result<(), String> {
        if let Some(namespace) = namespace {
            let keys = namespace.kv.writes.iter().map(|write| &write.key);
            for key in keys.chain(namespace.kv.metadata_writes.iter().map(|write| &write.key)) {
                let metadata = self.policies.state.get(self.namespace, key).map(|entry| &entry.metadata);
                self.key("", key.as_bytes(), metadata)?;
            }
            for hashed in &namespace.collections {
                let collection = (namespace.name.clone(), hashed.name.clone());
                let keys = hashed.set.hashed_writes.iter().map(|write| &write.key_hash);
                for key in keys.chain(hashed.set.metadata_writes.iter().map(|write| &write.key_hash)) {
                    let entry = self.policies.state.hashed(&collection, key);
                    self.key(&hashed.name, key, entry.map(|entry| &entry.metadata))?;
                }
            }
        }
        // A transaction that writes nothing needs the chaincode's endorsement all the same.
        if self.any { Ok(()) } else { self.chaincode() }
    }

    /// A key's own policy stands for all others.
    fn key(
        &mut self,
        collection: &str,
        key: &[u8],
        metadata: Option<&BTreeMap<String, Vec<u8>>>,
    ) -> Result<(), String> {
        let place = (self.namespace.to_owned(), collection.to_owned(), key.to_vec());
        if self.changed.0.contains(&place) {
            return Err(format!(
                "validation parameters for key in collection '{collection}' have been changed in this block"
            ));
        }
        let own = metadata.and_then(|metadata| metadata.get(MetaDataKeys::ValidationParameter.as_str_name()));
        let Some(own) = own.filter(|policy| !policy.is_empty()) else { return self.collection(collection) };
        let policy = SignaturePolicyEnvelope::decode(own.as_slice()).map_err(|e| format!("key's policy: {e}"))?;
        evaluate_signature_policy(&policy, self.signers).map_err(|e| format!("validation of key failed: {e}"))?;
        self.any = true;
        Ok(())
    }

    /// A collection's policy, or the chaincode's if it has none.
    fn collection(&mut self, name: &str) -> Result<(), String> {
        if name.is_empty() {
            return self.chaincode();
        }
        if self.satisfied.contains(name) {
            return Ok(());
        }
        let policy = match implicit_org(name) {
            Some(org) => self.policies.implicit_policy(org)?,
            None => {
                let config = self.definition.collection(name).ok_or_else(|| format!("no such collection '{name}'"))?;
                match config.endorsement_policy {
                    Some(policy) => policy,
                    None => self.chaincode_policy()?,
                }
            }
        };
        self.policies.evaluate(&policy, self.signers).map_err(|e| {
            format!("validation of endorsement policy for collection {name} chaincode {} failed: {e}", self.namespace)
        })?;
        self.satisfied.insert(name.to_owned());
        self.any = true;
        Ok(())
    }

    fn chaincode(&mut self) -> Result<(), String> {
        if self.satisfied.contains("") {
            return Ok(());
        }
        let policy = self.chaincode_policy()?;
        self.policies
            .evaluate(&policy, self.signers)
            .map_err(|e| format!("validation of endorsement policy for chaincode {} failed: {e}", self.namespace))?;
        self.satisfied.insert(String::new());
        self.any = true;
        Ok(())
    }

    fn chaincode_policy(&self) -> Result<ApplicationPolicy, String> {
        let bytes = self.definition.validation.validation_parameter.as_slice();
        ApplicationPolicy::decode(bytes).map_err(|e| format!("failed to unmarshal ApplicationPolicy bytes: {e}"))
    }
}

fn signature_policy(policy: SignaturePolicyEnvelope) -> ApplicationPolicy {
    ApplicationPolicy { r#type: Some(application_policy::Type::SignaturePolicy(policy)) }
}

/// Each endorser signs the response followed by its own identity.
fn signatures(transaction: &Endorsed) -> Vec<SignedData> {
    let signed = transaction.endorsements.iter().map(|endorsement| SignedData {
        data: [transaction.response.as_slice(), &endorsement.endorser].concat(),
        identity: endorsement.endorser.clone(),
        signature: endorsement.signature.clone(),
    });
    signed.collect()
}
