//! A ledger in memory with Fabric's rules, and people with real certificates who call the contract on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use prost::Message;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::keys::Range;
use crate::stub::{ChaincodeStub, Effects, Entry, StubError, Write};
use crate::{Call, ContractError, invoke};
use ehrnet_consent::validate;
use ehrnet_consent::vocabulary::PolicySpec;
use ehrnet_fabric::proto::msp::SerializedIdentity;
use ehrnet_messages::Members;
use ehrnet_messages::*;
use ehrnet_pki::{Attributes, Authority, AuthorityName, Leaf, PrivateKey, Profile, Role};

const DECADE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// State of a peer.
#[derive(Clone, Default)]
pub struct State {
    pub public: BTreeMap<String, Vec<u8>>,
    pub private: BTreeMap<(String, String), Vec<u8>>,
}

impl State {
    fn apply(&mut self, effects: &Effects) {
        for write in effects.writes.clone() {
            match write {
                Write::Put { key, value } => drop(self.public.insert(key, value)),
                Write::PutPrivate { collection, key, value } => {
                    drop(self.private.insert((collection.to_owned(), key), value));
                }
                Write::Delete { key } => drop(self.public.remove(&key)),
                Write::Purge { collection, key } => drop(self.private.remove(&(collection.to_owned(), key))),
            }
        }
    }
}

/// What a transaction read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reads {
    pub keys: BTreeSet<String>,
    pub ranges: Vec<Range>,
    pub paged: bool,
}

/// A simulation: reads go to the state and are kept.
struct Simulation<'a> {
    state: &'a State,
    reads: Reads,
}

#[async_trait]
impl ChaincodeStub for Simulation<'_> {
    async fn get(&mut self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StubError> {
        self.reads.keys.extend(keys.iter().cloned());
        Ok(keys.iter().map(|key| self.state.public.get(key).cloned()).collect())
    }

    async fn get_private(&mut self, collection: &str, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StubError> {
        let name = |key: &String| (collection.to_owned(), key.clone());
        self.reads.keys.extend(keys.iter().map(|key| format!("{collection}/{key}")));
        Ok(keys.iter().map(|key| self.state.private.get(&name(key)).cloned()).collect())
    }

    async fn range(&mut self, range: &Range) -> Result<Vec<Entry>, StubError> {
        self.reads.ranges.push(range.clone());
        let entries = self.state.public.range(range.start.clone()..range.end.clone());
        Ok(entries.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn page(&mut self, range: &Range, size: u16) -> Result<(Vec<Entry>, Option<String>), StubError> {
        self.reads.paged = true;
        let mut entries = self.range(range).await?;
        let next = entries.get(usize::from(size)).map(|(key, _)| key.clone());
        entries.truncate(usize::from(size));
        Ok((entries, next))
    }
}

/// A call that ended well.
pub struct Ran {
    pub payload: Vec<u8>,
    pub effects: Effects,
    pub reads: Reads,
}

/// A channel with its patients, people and clock.
pub struct World {
    pub state: State,
    pub clock: Timestamp,
    pub committed: Vec<Ran>,
    pub members: Members,
    ca: Authority,
    calls: u32,
}

pub const MERCY: &str = "MercyMSP";
pub const ELSEWHERE: &str = "ElsewhereMSP";

/// Pseudonym number `n`.
pub fn patient(n: u8) -> String {
    hex::encode([n; 32])
}

/// A salt, never the same for two numbers.
pub fn salt(n: u8) -> String {
    hex::encode([0xa0 ^ n; 32])
}

impl World {
    pub fn new() -> Self {
        let name = AuthorityName { common_name: "ca".into(), organization: None };
        let clock: Timestamp = "2026-03-01T12:00:00Z".parse().expect("time");
        let ca = Authority::generate(&name, DECADE, clock).expect("CA");
        Self {
            state: State::default(),
            clock,
            committed: Vec::new(),
            members: [MERCY, ELSEWHERE].into_iter().collect(),
            ca,
            calls: 0,
        }
    }

    /// A world with a policy in force that adds nothing to what the patients' consents say.
    pub fn governed() -> Self {
        let mut world = Self::new();
        world.policy("law", 0, json!({"scope": "patient-privacy"})).expect("a policy");
        world.committed.clear();
        world
    }

    /// Somebody with a certificate.
    pub fn person(&self, msp_id: &str, name: &str, attributes: &[(&str, &str)]) -> Caller {
        self.certified(msp_id, name, Role::Client, attributes)
    }

    pub fn admin(&self, msp_id: &str) -> Caller {
        self.certified(msp_id, "admin", Role::Admin, &[])
    }

    /// Staff of a hospital in a role.
    pub fn staff(&self, msp_id: &str, name: &str, role: &str) -> Caller {
        self.person(msp_id, name, &[(attribute::ROLE, role)])
    }

    pub fn patient(&self, n: u8) -> Caller {
        self.person(MERCY, &patient(n), &[(attribute::ROLE, role::PATIENT), (attribute::PATIENT, &patient(n))])
    }

    pub fn creator(&self, msp_id: &str, name: &str, ou: Role, attributes: &[(&str, &str)]) -> Vec<u8> {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let profile = Profile::Enrolment { role: ou, attributes: Attributes::new(attributes) };
        let leaf = Leaf { common_name: name.into(), organization: None, profile };
        let certificate = self.ca.issue(&leaf, &PrivateKey::generate(), DECADE, self.clock).expect("certificate");
        SerializedIdentity { mspid: msp_id.into(), id_bytes: certificate.pem().as_bytes().to_vec() }.encode_to_vec()
    }

    fn certified(&self, msp_id: &str, name: &str, ou: Role, attributes: &[(&str, &str)]) -> Caller {
        Caller::from_creator(&self.creator(msp_id, name, ou, attributes)).expect("a caller")
    }

    pub fn wait(&mut self, hours: i64) {
        self.clock = self.clock.checked_add(SignedDuration::from_hours(hours)).expect("in range");
    }

    /// A call that comes in now.
    pub fn call<F: Function>(&mut self, caller: &Caller, argument: &F, secret: Option<&F::Transient>) -> Call {
        self.calls += 1;
        let entry = |secret: &F::Transient| {
            (F::TRANSIENT.expect("takes one").to_owned(), serde_json::to_vec(secret).expect("JSON"))
        };
        Call {
            tx_id: format!("{:064x}", self.calls),
            at: self.clock,
            caller: caller.clone(),
            args: argument.arguments().expect("JSON"),
            transient: secret.map(entry).into_iter().collect(),
        }
    }

    /// Runs a call without committing it.
    pub fn simulate(&self, call: &Call) -> Result<Ran, ContractError> {
        let mut simulation = Simulation { state: &self.state, reads: Reads::default() };
        // Nothing in memory waits.
        let (payload, effects) = invoke(call, &self.members, &mut simulation).now_or_never().expect("ready")?;
        let reads = simulation.reads;
        assert!(!reads.paged || effects.writes.is_empty(), "Fabric refuses writes after a page");
        Ok(Ran { payload, effects, reads })
    }

    pub fn commit(&mut self, ran: Ran) {
        self.state.apply(&ran.effects);
        self.committed.push(ran);
    }

    /// Runs and commits.
    pub fn run(&mut self, call: &Call) -> Result<Vec<u8>, ContractError> {
        let ran = self.simulate(call)?;
        let payload = ran.payload.clone();
        self.commit(ran);
        Ok(payload)
    }

    pub fn submit<F: Function>(
        &mut self,
        caller: &Caller,
        argument: &F,
        secret: Option<&F::Transient>,
    ) -> Result<F::Output, ContractError> {
        assert!(F::SUBMIT, "{} is evaluated", F::NAME);
        self.clock = self.clock.checked_add(SignedDuration::from_secs(1)).expect("in range");
        let call = self.call(caller, argument, secret);
        self.run(&call).map(|payload| serde_json::from_slice(&payload).expect("the output"))
    }

    pub fn evaluate<F: Function>(&mut self, caller: &Caller, argument: &F) -> Result<F::Output, ContractError> {
        assert!(!F::SUBMIT, "{} is submitted", F::NAME);
        let call = self.call(caller, argument, None);
        let ran = self.simulate(&call)?;
        assert!(ran.effects == Effects::default(), "{} changes nothing", F::NAME);
        Ok(serde_json::from_slice(&ran.payload).expect("the output"))
    }

    /// A record of patient `n`, registered by Mercy.
    pub fn register(&mut self, n: u8, id: &str, confidentiality: &str) -> Record {
        let registrar = self.staff(MERCY, "records", role::REGISTRAR);
        let (argument, secret) = record(n, id, confidentiality);
        self.submit(&registrar, &argument, Some(&secret)).expect("registered")
    }

    /// A consent of patient `n`.
    pub fn consent(&mut self, n: u8, id: &str, seq: u64, resource: Value) -> ConsentVersion {
        let caller = self.patient(n);
        let argument = PutConsent { patient: patient(n), consent: id.into(), seq };
        self.submit(&caller, &argument, Some(&consent_secret(n, resource))).expect("put")
    }

    pub fn revoke(&mut self, n: u8, id: &str, seq: u64) -> ConsentVersion {
        let caller = self.patient(n);
        self.submit(&caller, &RevokeConsent { patient: patient(n), consent: id.into(), seq }, None).expect("revoked")
    }

    /// Agreement of a hospital's administrator to a policy, or to the withdrawal of one.
    pub fn approve(&mut self, msp: &str, name: &str, replaces: u64, digest: &str) -> PolicyApproval {
        let admin = self.admin(msp);
        let approve = ApprovePolicy { name: name.into(), digest: digest.into(), replaces };
        self.submit(&admin, &approve, None).expect("approved")
    }

    /// A policy, put by Mercy's administrator with the agreement of the other hospital.
    pub fn policy(&mut self, name: &str, replaces: u64, spec: Value) -> Result<PolicyVersion, ContractError> {
        self.approve(ELSEWHERE, name, replaces, &digest(spec.clone()));
        let admin = self.admin(MERCY);
        self.submit(&admin, &PutPolicy { name: name.into(), policy: canonical(spec), replaces }, None)
    }

    pub fn request(&mut self, caller: &Caller, argument: &RequestAccess) -> AuditEntry {
        let secret = AccessSecret { salt: salt(7), justification: None };
        self.submit(caller, argument, Some(&secret)).expect("an answer")
    }

    pub fn decision(&mut self, caller: &Caller, tx_id: &str) -> HeldDecision {
        self.evaluate(caller, &GetDecision { tx_id: tx_id.into() }).expect("a decision")
    }
}

/// A record as it is registered.
pub fn record(n: u8, id: &str, confidentiality: &str) -> (RegisterRecord, RecordSecret) {
    let argument = RegisterRecord {
        record: id.into(),
        patient: patient(n),
        version: 1,
        class: code("Observation"),
        confidentiality: confidentiality.into(),
        sensitivity: Vec::new(),
        authored_on: Some("2026-02-01".into()),
        manifest: None,
    };
    let secret = RecordSecret {
        salt: salt(n),
        digest: hex::encode([n; 32]),
        storage: format!("s3://mercy/{id}"),
        codes: Some(Vec::new()),
        manifest_root: None,
    };
    (argument, secret)
}

pub fn code(code: &str) -> ehrnet_consent::vocabulary::Coding {
    ehrnet_consent::vocabulary::Coding { system: None, code: code.into(), display: None }
}

pub fn consent_secret(n: u8, resource: Value) -> ConsentSecret {
    ConsentSecret { salt: salt(n), resource, source_hash: None, performer: None }
}

/// A Consent (R4) whose root is `provision`.
pub fn fhir(provision: Value) -> Value {
    json!({
        "resourceType": "Consent", "status": "active", "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"code": "59284-0"}]}], "patient": {"reference": "Patient/4711"}, "provision": provision,
    })
}

/// Permits one purpose to everybody.
pub fn permits(purpose: &str) -> Value {
    fhir(json!({"type": "permit", "purpose": [{"code": purpose}]}))
}

pub fn access(n: u8, record: Option<&str>, purpose: &str) -> RequestAccess {
    RequestAccess {
        patient: patient(n),
        record: record.map(str::to_owned),
        action: Some("access".into()),
        purpose: purpose.into(),
        ..RequestAccess::default()
    }
}

/// Digest of a policy.
pub fn digest(spec: Value) -> String {
    let spec: PolicySpec = serde_json::from_value(spec).expect("a spec");
    validate(&spec).expect("a policy").digest()
}

/// A policy in canonical form.
pub fn canonical(spec: Value) -> Value {
    let spec: PolicySpec = serde_json::from_value(spec).expect("a spec");
    serde_json::from_str(validate(&spec).expect("a policy").canonical_json()).expect("JSON")
}
