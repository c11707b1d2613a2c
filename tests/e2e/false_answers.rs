//! A hospital's contract that answers falsely does not get its result committed (C2).

use ehrnet_client::{ClientError, access};
use ehrnet_fabric::LedgerError;
use ehrnet_fabric::proposal::Call;
use ehrnet_fabric::proto::protos::TxValidationCode;
use ehrnet_messages::*;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::cluster::FALSIFYING_IMAGE;
use crate::declared::{identity, two_hospitals};
use crate::scene::{Scene, condition, is_ready};
use crate::wire::Wire;

/// Lakeside's contract permits what is denied. Nobody's access is decided by it; Lakeside's endorsement alone is no
/// transaction; the policy's status says who disagrees; and with the contract put right, all goes on.
pub async fn a_contract_that_answers_falsely_commits_nothing(scene: Scene) {
    let network = two_hospitals();
    scene.apply(&network).await;
    scene.ready(&network).await;
    let physician = identity("physician", "lakeside", json!({attribute::ROLE: role::PHYSICIAN}));
    let officer = identity("officer", "mercy", json!({attribute::ROLE: role::PRIVACY_OFFICER}));
    scene.admit(&[physician, officer]).await;
    let (physician, officer) = (scene.contract_client("physician").await, scene.contract_client("officer").await);
    let of_patient =
        QueryAudit { of: AuditSubject::Patient(patient()), from: None, until: None, page: Page::default() };
    let audit = async || officer.contract.call(&of_patient, None).await.expect("the audit").entries;
    let honest = access::request(&physician.contract, &ask(), None).await.expect("an answer");
    assert_eq!(serde_json::to_value(honest.decision).expect("JSON"), "DENY");
    assert_eq!(audit().await.len(), 1);

    roll_out(&scene, json!(FALSIFYING_IMAGE)).await;
    let error = access::request(&physician.contract, &ask(), None).await.expect_err("two hospitals disagree");
    assert!(matches!(error, ClientError::Disagreement { .. }), "{error}");
    // Reported by Lakeside's own peer: the other is the one that differs.
    assert!(error.to_string().contains("MercyMSP"), "{error}");
    assert_eq!(audit().await.len(), 1, "nothing was recorded");

    // By hand: the proposal to the peer of that hospital alone, and its answer to the orderers.
    let gateway = Wire::new(&scene).gateway(scene.bundle("physician").await);
    let mut call = Call::new("care", CHAINCODE_NAME, ask().arguments().expect("JSON"));
    let secret = AccessSecret { salt: "0a".repeat(32), justification: None };
    call.transient.insert("access".into(), serde_json::to_vec(&secret).expect("JSON"));
    let endorsed = gateway.endorse(&call, &["LakesideMSP".into()]).await.expect("that peer endorses");
    let falsified: AuditEntry = serde_json::from_slice(&endorsed.result).expect("an entry");
    assert_eq!(serde_json::to_value(falsified.decision).expect("JSON"), "PERMIT");
    gateway.send(&endorsed).await.expect("ordered");
    let committed = gateway.committed(endorsed).await;
    let Err(LedgerError::Rejected { code, tx_id, .. }) = committed else { panic!("{committed:?}") };
    assert_eq!(code, TxValidationCode::EndorsementPolicyFailure);
    assert_eq!(audit().await.len(), 1, "the transaction is in a block and changed nothing");
    let held = physician.contract.call(&GetDecision { tx_id }, None).await;
    assert!(held.is_err(), "there is no such decision: {held:?}");

    scene.change("ConsentPolicy", "treatment", json!({"spec": {"breakGlass": {"mode": "forbid"}}})).await;
    let disagree = |policy: Option<&DynamicObject>| {
        let anchored = policy.and_then(|policy| condition(policy, "Anchored"));
        anchored.is_some_and(|anchored| anchored["reason"] == "EndorsersDisagree" && anchored["status"] == "False")
    };
    scene.until(&scene.of_kind("ConsentPolicy"), "treatment", "refused", disagree).await;

    roll_out(&scene, Value::Null).await;
    scene.one_ready("ConsentPolicy", "treatment").await;
    let honest = access::request(&physician.contract, &ask(), None).await.expect("an answer");
    assert_eq!(serde_json::to_value(honest.decision).expect("JSON"), "DENY");
    assert_eq!(audit().await.len(), 2);
}

fn patient() -> String {
    "5a".repeat(32)
}

fn ask() -> RequestAccess {
    RequestAccess { patient: patient(), purpose: "TREAT".into(), ..RequestAccess::default() }
}

/// Gives both hospitals' services another image, and waits until they run it.
async fn roll_out(scene: &Scene, image: Value) {
    let changed = scene.change("Chaincode", "ehr", json!({"spec": {"image": {"reference": image}}})).await;
    let generation = changed.metadata.generation;
    let rolled_out = move |contract: Option<&DynamicObject>| {
        contract.is_some_and(|contract| is_ready(contract) && contract.metadata.generation == generation)
    };
    scene.until(&scene.of_kind("Chaincode"), "ehr", "rolled out", rolled_out).await;
}
