//! Snapshots of whole objects, of every kind that the operator makes.

use insta::assert_yaml_snapshot;
use serde_json::{Value, json};

use super::fixtures::*;
use crate::*;

#[test]
fn orderer() {
    assert_objects("orderer", orderer::resources(&orderer_plan(), &material()));
}

#[test]
fn peer_with_everything() {
    assert_objects("peer_with_everything", peer::resources(&full_peer_plan(), &material()));
}

#[test]
fn peer_by_default() {
    let Objects { stateful_sets, network_policies, .. } = peer::resources(&peer_plan_of(json!({})), &material());
    assert_yaml_snapshot!("peer_by_default", (stateful_sets, network_policies));
}

#[test]
fn hospital() {
    let plan = hospital_plan();
    let [signing, tls] = certificates();
    assert_yaml_snapshot!("hospital_msp", config_map::msp(&plan, &signing, &tls));
    assert_yaml_snapshot!("hospital_peers_budget", disruption_budget::peers(&plan));
    assert_yaml_snapshot!("connection_profile", connection::profile(&plan, &tls, &reachable()));
}

#[test]
fn client_bundle() {
    let bundle = connection::bundle(&hospital_plan(), &identities(), &reachable());
    let data = bundle.data.as_ref().expect("data");
    let yaml: Value = serde_yaml::from_slice(&data["connection.yaml"].0).expect("YAML");
    let json: Value = serde_json::from_slice(&data["connection.json"].0).expect("JSON");
    assert_eq!(yaml, json);
    assert_eq!(json, connection::profile(&hospital_plan(), identities().tls_ca, &reachable()));
    // Their content is the snapshot `connection_profile`.
    let mut bundle = described(&bundle);
    bundle["data"]["connection.yaml"].take();
    bundle["data"]["connection.json"].take();
    assert_yaml_snapshot!("client_bundle", bundle);
}

#[test]
fn identity() {
    let mut secret = described(&identity_secret(&identity_plan()));
    // The same as in the hospital's bundle.
    secret["data"]["connection.yaml"].take();
    secret["data"]["connection.json"].take();
    assert_yaml_snapshot!("identity_secret", secret);
    assert_yaml_snapshot!("secret_pseudonym", described(&secret::pseudonym("north-clinic", PSEUDONYM_KEY)));
}

#[test]
fn contract() {
    let [tls_ca, client] = certificates();
    let (plan, release) = contract_service();
    assert_yaml_snapshot!("contract_connection", chaincode::connection(&plan, &tls_ca, &client));
    let Objects { service_accounts, services, network_policies, deployments, .. } =
        chaincode::resources(&[(plan, release)]);
    assert_yaml_snapshot!("contract", (service_accounts, services, network_policies, deployments));
}

#[test]
fn contract_keys() {
    let (keys, plan) = (&*KEYS, hospital_plan());
    let (certificate, key) = &keys.node_tls;
    let issuer = keys.tls.certificate();
    let client = secret::chaincode_client(&plan, certificate, key, issuer);
    assert_yaml_snapshot!("secret_chaincode_client", described(&client));
    let config: Value = serde_json::from_slice(&client.data.expect("data")["builder.json"].0).expect("JSON");
    assert_eq!(config["client_key"].as_str(), Some(key.to_pem().as_str()), "line by line");
    let contract = secret::contract_tls(&contract_service().0, certificate, key, issuer);
    assert_yaml_snapshot!("secret_contract_tls", described(&contract));
}

#[test]
fn key_pairs() {
    let (keys, plan, node) = (&*KEYS, hospital_plan(), orderer_plan().node);
    let (signing, tls) = (keys.signing.certificate(), keys.tls.certificate());
    assert_yaml_snapshot!("secret_signing_ca", described(&secret::signing_ca(&plan, &keys.signing)));
    assert_yaml_snapshot!("secret_tls_ca", described(&secret::tls_ca(&plan, &keys.tls)));
    assert_yaml_snapshot!("secret_admin", described(&secret::admin(&plan, &keys.admin.0, &keys.admin.1, signing)));
    let (certificate, key) = &keys.identity;
    assert_yaml_snapshot!("secret_node_identity", described(&secret::node_identity(&node, certificate, key, signing)));
    let (certificate, key) = &keys.node_tls;
    assert_yaml_snapshot!("secret_node_tls", described(&secret::node_tls(&node, certificate, key, tls)));
    let (certificate, key) = &keys.client;
    let operator = secret::operator("north-clinic", &keys.operator, certificate, key);
    assert_yaml_snapshot!("secret_operator", described(&operator));
    assert_yaml_snapshot!("secret_couchdb", described(&secret::couchdb(&full_peer_plan().node, "correct horse")));
}

#[test]
fn config_maps() {
    assert_yaml_snapshot!("genesis", config_map::genesis(&channel(), b"a block"));
    let parent = orderer_plan().node.parent;
    assert_yaml_snapshot!("consent_policy", config_map::consent_policy(&parent, r#"{"rule":"permit"}"#, "0123abcd"));
}

fn assert_objects(name: &str, resources: Objects) {
    let Objects {
        service_accounts,
        config_maps,
        secrets,
        services,
        network_policies,
        disruption_budgets,
        volume_claims,
        stateful_sets,
        deployments,
    } = resources;
    assert!(config_maps.is_empty() && secrets.is_empty() && deployments.is_empty());
    assert_yaml_snapshot!(format!("{name}_disruption_budgets"), disruption_budgets);
    assert_yaml_snapshot!(format!("{name}_service_account"), service_accounts);
    assert_yaml_snapshot!(format!("{name}_service"), services);
    assert_yaml_snapshot!(format!("{name}_network_policy"), network_policies);
    assert_yaml_snapshot!(format!("{name}_volume_claims"), volume_claims);
    assert_yaml_snapshot!(format!("{name}_stateful_set"), stateful_sets);
}
