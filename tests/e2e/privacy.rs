//! Nothing private is on the chain, in Kubernetes, or in what the network says of itself (C5, C12).
//!
//! Private texts go in at every way in, as a hospital's systems send them. Two hospitals keep them in collections; a third
//! one is on the channel and is no member. The texts may then be in files of private data at the two members and nowhere
//! else, and after the erasure of a record not even there.

use std::collections::BTreeSet;

use ehrnet_client::ClientError;
use ehrnet_client::records::Body;
use ehrnet_demo::people::ContractClient;
use ehrnet_messages::hash;
use ehrnet_messages::*;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use rand::Rng;
use rand::distr::Alphanumeric;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::LedgerKind;
use crate::declared::{hospital, identity, kind_of, name_of, peer, two_hospitals};
use crate::scene::Scene;
use crate::search::{Found, Search};
use crate::wire::Wire;

/// Peers whose hospitals are members of the collections.
const MEMBERS: [&str; 2] = ["mercy-peer", "lakeside-peer"];
/// What a path of a member's volume has in it where private data lies: the embedded ledger, then Fabric, whose state
/// database holds public and private state together.
const PRIVATE: [&str; 5] = ["/private", "/transient/", "/pvtdataStore/", "/stateLeveldb/", "/transientstore/"];

/// Private texts; the index of each is its name.
struct Private(Vec<(&'static str, String)>);

/// What is not sent, or not kept by the contract.
const KEPT_BACK: [&str; 6] = [
    "patient identifier",
    "body of a record",
    "digest of a record",
    "patient in a consent",
    "name in a consent",
    "narrative of a consent",
];
/// What is private of the record that is erased.
const OF_RECORD: [&str; 5] = ["storage", "salt of a record", "clinical code", "system of a code", "display of a code"];
const OTHERS: [&str; 17] = [
    "salt of a consent",
    "signed document",
    "performer",
    "actor of a consent",
    "display of an actor",
    "denied code",
    "system of a denied code",
    "denied instance",
    "display of a purpose",
    "salt of a request",
    "justification of a request",
    "justification of break-glass",
    "salt of a review",
    "notes of a review",
    "recipient",
    "address of a recipient",
    "description of a disclosure",
];

impl Private {
    fn new() -> Self {
        let text = |what: &'static str| match what {
            _ if what.starts_with("salt") => random(32),
            // Nothing that a file format shortens, and nothing that is there by chance.
            _ => rand::rng().sample_iter(Alphanumeric).take(24).map(|c| char::from(c).to_ascii_lowercase()).collect(),
        };
        let mut texts: Vec<_> =
            KEPT_BACK.into_iter().chain(OF_RECORD).chain(OTHERS).map(|what| (what, text(what))).collect();
        let body = texts.iter().find(|(what, _)| *what == "body of a record").expect("a body").1.clone();
        for (what, text) in &mut texts {
            match *what {
                "digest of a record" => *text = Body::Document(note(&body)).digest().expect("a digest"),
                "signed document" => *text = hex::encode(Sha256::digest(&*text)),
                _ => {}
            }
        }
        Self(texts)
    }

    fn get(&self, what: &str) -> String {
        self.0.iter().find(|(known, _)| *known == what).unwrap_or_else(|| panic!("{what}")).1.clone()
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, text)| text.as_str())
    }

    /// The names of texts that were found.
    fn names<'a>(&'a self, found: impl IntoIterator<Item = &'a usize>) -> BTreeSet<&'static str> {
        found.into_iter().filter_map(|n| self.0.get(*n)).map(|(what, _)| *what).collect()
    }

    /// Which of them are in a text.
    fn within(&self, text: &str) -> BTreeSet<&'static str> {
        self.0.iter().filter(|(_, private)| text.contains(private)).map(|(what, _)| *what).collect()
    }
}

fn random(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    rand::rng().fill(random.as_mut_slice());
    hex::encode(random)
}

fn note(text: &str) -> Value {
    json!({"resourceType": "DocumentReference", "description": text})
}

/// The sample, and a hospital on its channel that is no member of the contract's collections.
fn with_an_outsider() -> Vec<Value> {
    let mut network = two_hospitals();
    let insiders = ["mercy", "lakeside"];
    for object in &mut network {
        match kind_of(object) {
            "Channel" => object["spec"]["members"] = json!([insiders[0], insiders[1], "harbor"]),
            "Chaincode" => {
                let of_insiders = |name| json!({"name": name, "members": insiders});
                object["spec"]["collections"] = json!(collection::ALL.map(of_insiders));
            }
            _ => {}
        }
    }
    network.extend([hospital("harbor"), peer("harbor-peer", "harbor", &["care"])]);
    network
}

/// Everybody's client of the contract.
struct Cast {
    patient_key: String,
    registrar: ContractClient,
    patient: ContractClient,
    physician: ContractClient,
    officer: ContractClient,
    /// A privacy officer of the hospital that is no member.
    outsider: ContractClient,
}

impl Cast {
    async fn of(scene: &Scene, private: &Private) -> Self {
        let key = ehrnet_demo::people::bundle(&scene.client, &scene.namespace, "mercy-connection").await;
        let key = key.expect("the hospital's bundle").pseudonym_key().expect("a key");
        let patient_key = hash::pseudonym(&key, &private.get("patient identifier"));
        let role = |role: &str| json!({ attribute::ROLE: role });
        let people = [
            identity("registrar", "mercy", role(role::REGISTRAR)),
            identity("patient", "mercy", json!({attribute::ROLE: role::PATIENT, attribute::PATIENT: patient_key})),
            identity(
                "physician",
                "lakeside",
                json!({attribute::ROLE: role::PHYSICIAN, attribute::BREAK_GLASS: "true"}),
            ),
            identity("officer", "mercy", role(role::PRIVACY_OFFICER)),
            identity("outsider", "harbor", role(role::PRIVACY_OFFICER)),
        ];
        scene.admit(&people).await;
        let [registrar, patient, physician, officer, outsider] =
            people.each_ref().map(|person| scene.contract_client(name_of(person)));
        Self {
            patient_key,
            registrar: registrar.await,
            patient: patient.await,
            physician: physician.await,
            officer: officer.await,
            outsider: outsider.await,
        }
    }
}

/// 28 private texts are found where their collections' members keep them, and nowhere else.
pub async fn nothing_private_leaves_its_collection(scene: Scene) {
    let network = with_an_outsider();
    scene.apply(&network).await;
    scene.ready(&network).await;
    let private = Private::new();
    let cast = Cast::of(&scene, &private).await;
    let broken = everything_private_goes_in(&scene, &cast, &private).await;
    refusals_do_not_repeat_what_came_in(&cast, &private).await;
    outsiders_read_the_hash_and_nothing_else(&scene, &cast, &private, &broken).await;

    let search = Search::new(private.texts());
    level(&scene).await;
    let found = search.in_volumes(&scene).await;
    if !found.is_empty() {
        let sent = private.0.len() - KEPT_BACK.len();
        for member in MEMBERS {
            let held = found.iter().filter(|(place, _)| place.starts_with(member)).flat_map(|(_, texts)| texts);
            assert_eq!(
                private.names(held).len(),
                sent,
                "{member} holds what was sent: {}",
                described(&private, &found)
            );
        }
    }
    is_erased(&scene, &cast).await;
    everywhere_else_is_clean(&scene, &cast, &private).await;
}

/// Every function that takes something private; returns the transaction that broke the glass.
async fn everything_private_goes_in(scene: &Scene, cast: &Cast, private: &Private) -> String {
    let text = |what: &str| private.get(what);
    let patient = || cast.patient_key.clone();
    cast.registrar
        .contract
        .call(&record("r-1", &cast.patient_key), Some(&record_secret(private)))
        .await
        .expect("registered");
    let put = PutConsent { patient: patient(), consent: "c-1".into(), seq: 1 };
    cast.patient.contract.call(&put, Some(&consent_secret(private))).await.expect("a consent");
    let ask = |purpose: &str| RequestAccess {
        patient: patient(),
        record: Some("r-1".into()),
        purpose: purpose.into(),
        ..RequestAccess::default()
    };
    let why = |what: &str| AccessSecret { salt: text("salt of a request"), justification: Some(text(what)) };
    let why_treat = why("justification of a request");
    cast.physician.contract.call(&ask("TREAT"), Some(&why_treat)).await.expect("an answer");
    let broken = cast.physician.contract.call(&ask("BTG"), Some(&why("justification of break-glass"))).await;
    let broken = broken.expect("an answer");
    assert!(broken.justification_hash.is_some(), "the glass was broken: {broken:?}");
    level(scene).await;
    let review = BreakGlassReview { tx_id: broken.tx_id.clone(), outcome: ReviewOutcome::Justified };
    let notes = ReviewSecret { salt: text("salt of a review"), notes: Some(text("notes of a review")) };
    cast.officer.contract.call(&review, Some(&notes)).await.expect("reviewed");
    let recipient = Recipient {
        name: text("recipient"),
        address: Some(text("address of a recipient")),
        description: Some(text("description of a disclosure")),
    };
    let purpose = serde_json::from_value(json!({"code": "HPAYMT"})).expect("a code");
    let disclosure = RecordDisclosure { patient: patient(), record: Some("r-1".into()), purpose };
    let secret = DisclosureSecret { salt: random(32), recipient };
    cast.physician.contract.call(&disclosure, Some(&secret)).await.expect("recorded");
    broken.tx_id
}

fn record(id: &str, patient: &str) -> RegisterRecord {
    RegisterRecord {
        record: id.into(),
        patient: patient.into(),
        version: 1,
        class: serde_json::from_value(json!({"code": "DocumentReference"})).expect("a code"),
        confidentiality: "R".into(),
        sensitivity: Vec::new(),
        authored_on: None,
        manifest: None,
    }
}

fn record_secret(private: &Private) -> RecordSecret {
    let code = json!([{
        "system": private.get("system of a code"), "code": private.get("clinical code"), "display": private.get("display of a code"),
    }]);
    RecordSecret {
        salt: private.get("salt of a record"),
        digest: private.get("digest of a record"),
        storage: format!("https://fhir.mercy.example/{}", private.get("storage")),
        codes: Some(serde_json::from_value(code).expect("codes")),
        manifest_root: None,
    }
}

fn consent_secret(private: &Private) -> ConsentSecret {
    let text = |what: &str| private.get(what);
    let denied = json!([{"coding": [{"system": text("system of a denied code"), "code": text("denied code")}]}]);
    let instance = json!([{"meaning": "instance", "reference": {"reference": text("denied instance")}}]);
    let actor = format!("Practitioner/{}", text("actor of a consent"));
    let resource = json!({
        "resourceType": "Consent", "status": "active", "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"code": "59284-0"}]}],
        "patient": {"reference": format!("Patient/{}", text("patient in a consent")), "display": text("name in a consent")},
        "text": {"div": text("narrative of a consent")},
        "provision": {
            "type": "permit", "purpose": [{"code": "TREAT", "display": text("display of a purpose")}],
            "actor": [{"reference": {"reference": actor, "display": text("display of an actor")}}],
            "provision": [{"type": "deny", "code": denied}, {"type": "deny", "data": instance}],
        },
    });
    ConsentSecret {
        salt: text("salt of a consent"),
        resource,
        source_hash: Some(text("signed document")),
        performer: Some(text("performer")),
    }
}

/// Calls that are refused, each with everything private in it: neither answers nor logs (see the search) repeat it.
async fn refusals_do_not_repeat_what_came_in(cast: &Cast, private: &Private) {
    let put = PutConsent { patient: cast.patient_key.clone(), consent: "c-2".into(), seq: 1 };
    let mut contradictory = consent_secret(private);
    contradictory.resource["provision"]["type"] = json!(private.get("narrative of a consent"));
    let mut unsalted = record_secret(private);
    unsalted.salt.truncate(62);
    let refusals = [
        cast.physician.contract.call(&put, Some(&consent_secret(private))).await.map(drop),
        cast.patient.contract.call(&put, Some(&contradictory)).await.map(drop),
        cast.registrar.contract.call(&record("r-2", &cast.patient_key), Some(&unsalted)).await.map(drop),
        cast.officer.contract.call(&record("r-2", &cast.patient_key), Some(&record_secret(private))).await.map(drop),
    ];
    for refusal in refusals {
        let refusal = refusal.expect_err("it must be refused");
        assert!(refusal.is_refusal(), "{refusal}");
        assert_eq!(private.within(&refusal.to_string()), BTreeSet::new());
    }
}

/// C12. Neither their own peer, which does not have the data, nor one of a member's gives it to them.
async fn outsiders_read_the_hash_and_nothing_else(scene: &Scene, cast: &Cast, private: &Private, broken: &str) {
    let mut at_a_members = scene.bundle("registrar").await;
    at_a_members.identity = scene.bundle("outsider").await.identity;
    let at_a_members = scene.contract_client_with(at_a_members).await;
    for client in [&cast.outsider, &at_a_members] {
        let of = AuditSubject::Patient(cast.patient_key.clone());
        let query = QueryAudit { of, from: None, until: None, page: Page::default() };
        let consents = GetConsents { patient: cast.patient_key.clone(), page: Page::default() };
        let verify =
            VerifyRecord { record: "r-1".into(), digest: Some(private.get("digest of a record")), manifest_root: None };
        for answer in [
            as_text(client.contract.call(&query, None).await),
            as_text(client.contract.call(&consents, None).await),
            as_text(client.contract.call(&GetDecision { tx_id: broken.into() }, None).await),
            as_text(client.contract.call(&verify, None).await),
        ] {
            let refusal = answer.expect_err("what is private is not theirs");
            let words = "tx creator does not have read access permission on privatedata";
            assert!(refusal.contains(words), "{refusal}");
            assert_eq!(private.within(&refusal), BTreeSet::new());
        }
        let view = client.contract.call(&GetRecord { record: "r-1".into(), decision: None }, None).await;
        let view = view.expect("the public part");
        let [salt, digest] =
            ["salt of a record", "digest of a record"].map(|what| hex::decode(private.get(what)).expect("hex"));
        assert_eq!(view.record.hash, hash::salted(&salt.try_into().expect("32 bytes"), &digest));
        assert_eq!(view.storage, None);
    }
}

fn as_text<T: serde::Serialize>(answer: Result<T, ClientError>) -> Result<String, String> {
    answer.map(|answer| serde_json::to_string(&answer).expect("JSON")).map_err(|error| error.to_string())
}

/// Nobody reads what is private of an erased record, at any peer.
async fn is_erased(scene: &Scene, cast: &Cast) {
    let erase = EraseRecord { record: "r-1".into(), reason: ErasureReason::Objection, request: "q-1".into() };
    cast.registrar.contract.call(&erase, None).await.expect("erased");
    level(scene).await;
    let get = GetRecord { record: "r-1".into(), decision: None };
    let view = cast.registrar.contract.call(&get, None).await.expect("a tombstone");
    assert!(view.record.erased.is_some() && view.storage.is_none(), "{view:?}");
}

/// The search, with one text that is public on purpose: it must be found, and it alone.
async fn everywhere_else_is_clean(scene: &Scene, cast: &Cast, private: &Private) {
    let planted = format!("planted-{}", random(12));
    cast.registrar
        .contract
        .call(&record(&planted, &cast.patient_key), Some(&record_secret(&Private::new())))
        .await
        .expect("registered");
    let map = serde_json::from_value(json!({"metadata": {"name": planted}})).expect("a ConfigMap");
    scene.api::<ConfigMap>().create(&PostParams::default(), &map).await.expect("created");
    level(scene).await;
    let found = Search::new(private.texts().chain([planted.as_str()])).everywhere(scene).await;
    let (public, secret): (Found, Found) =
        (with(&found, |n| n == private.0.len()), with(&found, |n| n < private.0.len()));

    assert!(public.contains_key(&format!("ConfigMap {}/{planted}", scene.namespace)), "{public:?}");
    let is_local = scene.cluster.audit_log().is_some();
    for node in ["orderer-1", "orderer-2", "orderer-3", "mercy-peer", "lakeside-peer", "harbor-peer"] {
        let blocks = format!("{node}-ledger/");
        assert!(!is_local || public.keys().any(|place| place.starts_with(&blocks)), "the blocks of {node}: {public:?}");
    }
    for (place, texts) in &secret {
        let is_private = MEMBERS.iter().any(|member| place.starts_with(&format!("{member}-ledger/")))
            && PRIVATE.iter().any(|part| place.contains(part));
        assert!(is_private, "{place} holds {:?}", private.names(texts));
        println!("private data: {place}");
    }
    let held = private.names(secret.values().flatten());
    assert!(KEPT_BACK.iter().all(|what| !held.contains(what)), "{held:?}");
    // Fabric takes what is purged off the disk some blocks later (`ledger.pvtdataStore.purgeInterval`).
    if scene.cluster.ledger == LedgerKind::Embedded {
        assert!(
            OF_RECORD.iter().all(|what| !held.contains(what)),
            "the record was erased: {}",
            described(private, &secret)
        );
    }
    assert!(!is_local || OTHERS.iter().all(|what| held.contains(what)), "{held:?}");
}

/// The part of what was found that is about some of the texts.
fn with(found: &Found, wanted: impl Fn(usize) -> bool) -> Found {
    let part =
        found.iter().map(|(place, texts)| (place.clone(), texts.iter().copied().filter(|n| wanted(*n)).collect()));
    part.filter(|(_, texts): &(_, BTreeSet<usize>)| !texts.is_empty()).collect()
}

fn described(private: &Private, found: &Found) -> String {
    let lines = found.iter().map(|(place, texts)| format!("\n{place}: {:?}", private.names(texts)));
    lines.collect()
}

/// Waits until every peer has the same blocks.
async fn level(scene: &Scene) {
    let wire = Wire::new(scene);
    let mut peers = Vec::new();
    for identity in ["registrar", "physician", "outsider"] {
        peers.push(wire.peer(scene.bundle(identity).await));
    }
    crate::scene::eventually("all peers have the same blocks", async || {
        let mut heights = BTreeSet::new();
        for peer in &peers {
            heights.insert(peer.chain_info("care").await.map_or(0, |info| info.height));
        }
        heights.len() == 1 && !heights.contains(&0)
    })
    .await;
}
