//! What holds for every function: nothing private in public, the same answer everywhere, and bounds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::world::*;
use crate::stub::Write;
use crate::{Call, ContractError};
use ehrnet_messages::*;

impl Ran {
    /// Keys that it writes; those of collections after the collection's name.
    pub fn writes(&self) -> Vec<String> {
        let key = |write: &Write| match write {
            Write::Put { key, .. } | Write::Delete { key } => key.clone(),
            Write::PutPrivate { collection, key, .. } | Write::Purge { collection, key } => {
                format!("{collection}/{key}")
            }
        };
        self.effects.writes.iter().map(key).collect()
    }

    /// Everything of it that stands in the block for everybody.
    fn public(&self) -> String {
        let mut public = String::from_utf8_lossy(&self.payload).into_owned();
        for write in &self.effects.writes {
            match write {
                Write::Put { key, value } => {
                    public.push_str(key);
                    public.push_str(&String::from_utf8_lossy(value));
                }
                Write::PutPrivate { key, .. } | Write::Delete { key } | Write::Purge { key, .. } => {
                    public.push_str(key)
                }
            }
        }
        if let Some((_, event)) = &self.effects.event {
            public.push_str(&String::from_utf8_lossy(event));
        }
        public
    }
}

/// Private texts, one for every place that can take one.
fn canaries() -> Vec<String> {
    (1..=20).map(|n| format!("canary-{n:02}-x")).collect()
}

/// Every submitted function, with everything private that it can be given, and how each is called.
fn everything(world: &mut World, canary: &[String]) -> Vec<Call> {
    let physician =
        world.person(MERCY, "dr-x", &[(attribute::ROLE, role::PHYSICIAN), (attribute::BREAK_GLASS, "true")]);
    let (registrar, officer) =
        (world.staff(MERCY, "records", role::REGISTRAR), world.staff(MERCY, "po", role::PRIVACY_OFFICER));
    let (subject, admin) = (world.patient(1), world.admin(MERCY));
    let mut calls = Vec::new();
    let policy = canonical(json!({"breakGlass": {"mode": "allow"}}));
    let elsewhere = world.admin(ELSEWHERE);
    let approve =
        ApprovePolicy { name: "base".into(), digest: digest(json!({"breakGlass": {"mode": "allow"}})), replaces: 0 };
    calls.push(world.call(&elsewhere, &approve, None));
    calls.push(world.call(&admin, &PutPolicy { name: "base".into(), policy, replaces: 0 }, None));
    let (argument, mut secret) = record(1, "r1", "R");
    secret.storage = format!("s3://{}/{}", canary[0], canary[1]);
    secret.codes = Some(vec![
        code(&canary[2]),
        ehrnet_consent::vocabulary::Coding { system: Some(canary[3].clone()), ..code(&canary[4]) },
    ]);
    calls.push(world.call(&registrar, &argument, Some(&secret)));
    let mut resource = fhir(json!({
        "type": "permit", "purpose": [{"code": "TREAT", "display": canary[5]}],
        "actor": [{"reference": {"reference": format!("Practitioner/{}", canary[6]), "display": canary[7]}}],
        "provision": [{"type": "deny", "code": [{"coding": [{"system": canary[8], "code": canary[9]}]}]},
                      {"type": "deny", "data": [{"meaning": "instance", "reference": {"reference": canary[10]}}]}],
    }));
    resource["patient"] = json!({"reference": format!("Patient/{}", canary[11]), "display": canary[12]});
    resource["text"] = json!({"div": canary[13]});
    let secret = ConsentSecret { performer: Some(canary[14].clone()), ..consent_secret(1, resource) };
    calls.push(world.call(&subject, &PutConsent { patient: patient(1), consent: "c1".into(), seq: 1 }, Some(&secret)));
    let secret = AccessSecret { salt: salt(2), justification: Some(canary[15].clone()) };
    for purpose in ["TREAT", "HPAYMT", "BTG"] {
        calls.push(world.call(&physician, &access(1, None, purpose), Some(&secret)));
    }
    let tx_id = calls.last().expect("the emergency").tx_id.clone();
    let notes = ReviewSecret { salt: salt(3), notes: Some(canary[16].clone()) };
    calls.push(world.call(&officer, &BreakGlassReview { tx_id, outcome: ReviewOutcome::Justified }, Some(&notes)));
    let recipient = Recipient {
        name: canary[17].clone(),
        address: Some(canary[18].clone()),
        description: Some(canary[19].clone()),
    };
    let purpose = serde_json::from_value(json!({"code": "HPAYMT"})).expect("a code");
    let argument = RecordDisclosure { patient: patient(1), record: Some("r1".into()), purpose };
    calls.push(world.call(&physician, &argument, Some(&DisclosureSecret { salt: salt(4), recipient })));
    calls.push(world.call(&subject, &RevokeConsent { patient: patient(1), consent: "c1".into(), seq: 2 }, None));
    let erase = EraseRecord { record: "r1".into(), reason: ErasureReason::Objection, request: "q".into() };
    calls.push(world.call(&registrar, &erase, None));
    let approve = ApprovePolicy { name: "base".into(), digest: String::new(), replaces: 1 };
    calls.push(world.call(&elsewhere, &approve, None));
    calls.push(world.call(&admin, &WithdrawPolicy { name: "base".into(), replaces: 1 }, None));
    calls
}

/// C5.
#[test]
fn none_of_twenty_private_texts_is_in_anything_public() {
    let mut world = World::new();
    let canaries = canaries();
    for call in everything(&mut world, &canaries) {
        world.run(&call).unwrap_or_else(|error| panic!("{:?}: {error}", call.function()));
        let public = world.committed.last().expect("committed").public();
        let found = canaries.iter().find(|canary| public.contains(*canary));
        assert_eq!(found, None, "{:?}: {public}", call.function());
    }
    let kept: String = world.committed.iter().flat_map(|ran| &ran.effects.writes).fold(String::new(), |kept, write| {
        let Write::PutPrivate { value, .. } = write else { return kept };
        kept + &String::from_utf8_lossy(value)
    });
    // What is no canary of the members either: the patient's own id, names and narrative.
    let expected: Vec<bool> = (0..20).map(|n| ![11, 12, 13].contains(&n)).collect();
    assert_eq!(canaries.iter().map(|canary| kept.contains(canary)).collect::<Vec<_>>(), expected);
}

/// Every error, provoked by spoiling every field of everything private.
#[test]
fn no_error_repeats_what_came_in_private() {
    let mut world = World::new();
    let canaries = canaries();
    let calls = everything(&mut world, &canaries);
    let mut errors: Vec<ContractError> = Vec::new();
    for call in &calls {
        for (entry, secret) in &call.transient {
            let secret: Value = serde_json::from_slice(secret).expect("JSON");
            for pointer in pointers(&secret, "") {
                for spoiled in
                    [json!(["canary-00-x"]), json!("canary-00-x \"quoted\""), json!({"spoiled": 7}), Value::Null]
                {
                    let mut secret = secret.clone();
                    *secret.pointer_mut(&pointer).expect("a field") = spoiled;
                    let transient = BTreeMap::from([(entry.clone(), secret.to_string().into_bytes())]);
                    let call = Call {
                        transient,
                        args: call.args.clone(),
                        tx_id: call.tx_id.clone(),
                        caller: call.caller.clone(),
                        at: call.at,
                    };
                    errors.extend(world.simulate(&call).err());
                }
            }
        }
        world.run(call).expect("as it was meant");
    }
    assert!(errors.len() > 100, "{}", errors.len());
    for error in errors {
        assert!(!error.message.contains("canary"), "{error}");
    }
}

fn pointers(value: &Value, path: &str) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (format!("{path}/{name}"), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, value)| (format!("{path}/{i}"), value)).collect(),
        _ => Vec::new(),
    };
    below.iter().flat_map(|(path, value)| std::iter::once(path.clone()).chain(pointers(value, path))).collect()
}

/// Hospitals that run the same contract on the same state give the same bytes.
#[test]
fn the_same_call_twice_is_the_same_to_the_byte() {
    let mut world = World::new();
    for call in everything(&mut world, &canaries()) {
        let (one, other) = (world.simulate(&call).expect("once"), world.simulate(&call).expect("twice"));
        assert!(one.effects == other.effects && one.payload == other.payload && one.reads == other.reads);
        world.commit(one);
    }
}

/// Keys of private data are logged by peers when they are purged.
#[test]
fn no_key_has_more_than_pseudonyms_ids_times_and_numbers() {
    let mut world = World::new();
    for call in everything(&mut world, &canaries()) {
        world.run(&call).expect("an answer");
    }
    let keys = world.committed.iter().flat_map(Ran::writes);
    assert!(keys.clone().count() > 30);
    for key in keys {
        assert!(!key.contains("dr-x") && !key.contains("Practitioner") && !key.contains(MERCY), "{key:?}");
    }
}

#[test]
fn transient_input_is_bounded_known_and_needed() {
    let mut world = World::new();
    let physician = world.staff(MERCY, "dr-x", role::PHYSICIAN);
    let secret = AccessSecret { salt: salt(1), justification: Some("x".repeat(5_000)) };
    let error = world.submit(&physician, &access(1, None, "BTG"), Some(&secret)).expect_err("long");
    assert!(error.message.contains("justification may have 4096 bytes"), "{error}");
    let secret = AccessSecret { salt: salt(1), justification: Some("x".repeat(MAX_TRANSIENT)) };
    let error = world.submit(&physician, &access(1, None, "BTG"), Some(&secret)).expect_err("too long");
    assert!(error.status == 400 && error.message.contains("at most 262144 are allowed"), "{error}");
    let error = world.submit(&physician, &access(1, None, "BTG"), None).expect_err("none");
    assert_eq!(error.message, "RequestAccess needs the transient entry `access`");
    let secret = AccessSecret { salt: "00".repeat(31), justification: None };
    assert!(
        world.submit(&physician, &access(1, None, "BTG"), Some(&secret)).expect_err("salt").message.contains("salt")
    );
    let secret = AccessSecret { salt: salt(1), justification: None };
    let mut call = world.call(&physician, &access(1, None, "TREAT"), Some(&secret));
    call.transient.insert("extra".into(), b"{}".to_vec());
    assert_eq!(
        world.run(&call).expect_err("unknown").message,
        "RequestAccess takes only `access` of the transient entries"
    );
    call.transient.remove("extra");
    for args in
        [vec![], vec![b"RequestAccess".to_vec()], vec![b"Nothing".to_vec(), b"{}".to_vec()], vec![vec![0xff], vec![]]]
    {
        call.args = args;
        assert!(world.run(&call).is_err());
    }
}

#[test]
fn what_is_no_certificate_calls_nothing() {
    use crate::caller::Caller;
    for creator in [b"nonsense".to_vec(), Vec::new()] {
        assert_eq!(Caller::from_creator(&creator).expect_err("nobody").status, 403);
    }
}
