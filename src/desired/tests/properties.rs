//! What must hold for every object, whatever the spec says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::Resource;
use proptest::prelude::*;
use proptest::string::string_regex;
use regex::Regex;
use serde_json::{Value, json};

use super::fixtures::*;
use crate::*;
use ehrnet_api::common::ENDPOINT_PATTERN;
use ehrnet_api::{Hospital, Peer};
use ehrnet_fabric::Endpoint;
use ehrnet_pki::{Profile, Role, Window};

fn stateful_sets() -> Vec<StatefulSet> {
    let sets = [
        orderer::resources(&orderer_plan(), &material()),
        peer::resources(&peer_plan_of(json!({})), &material()),
        peer::resources(&full_peer_plan(), &material()),
    ];
    sets.into_iter().flat_map(|resources| resources.stateful_sets).collect()
}

fn contracts() -> Objects {
    let elm: Hospital = {
        let mut elm = willow();
        elm.metadata.name = Some("elm".into());
        elm
    };
    let full = json!({
        "image": {"reference": "mirror.example/contract:1", "pullPolicy": "Always", "pullSecrets": ["registry-c"]},
        "resources": {"limits": {"memory": "1Gi"}},
    });
    chaincode::resources(&[contract_service(), contract_service_of(full, &elm)])
}

fn pod_specs() -> Vec<PodSpec> {
    let sets = stateful_sets().into_iter().map(|set| set.spec.and_then(|spec| spec.template.spec));
    let deployments = contracts().deployments.into_iter().map(|set| set.spec.and_then(|spec| spec.template.spec));
    sets.chain(deployments).map(|spec| spec.expect("a pod spec")).collect()
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

/// Kubernetes: Pod Security Standards, profile `restricted`, and a read-only root file system besides.
#[test]
fn every_pod_is_restricted() {
    for pod in pod_specs() {
        for namespace in [pod.host_network, pod.host_pid, pod.host_ipc] {
            assert_ne!(namespace, Some(true));
        }
        assert_eq!(pod.security_context.as_ref().and_then(|context| context.run_as_non_root), Some(true));
        for container in containers(&pod) {
            let name = &container.name;
            let SecurityContext {
                allow_privilege_escalation,
                capabilities,
                privileged,
                proc_mount,
                read_only_root_filesystem,
                run_as_non_root,
                run_as_user,
                seccomp_profile,
                ..
            } = container.security_context.clone().expect("a security context");
            let capabilities = capabilities.expect("capabilities");
            assert_eq!(allow_privilege_escalation, Some(false), "{name}");
            assert_eq!((capabilities.drop, capabilities.add), (Some(vec!["ALL".to_owned()]), None), "{name}");
            assert_ne!(privileged, Some(true), "{name}");
            assert_eq!(proc_mount, None, "{name}");
            assert_eq!(read_only_root_filesystem, Some(true), "{name}");
            assert_eq!(run_as_non_root, Some(true), "{name}");
            assert!(run_as_user.is_some_and(|user| user > 0), "{name}");
            assert_eq!(seccomp_profile.map(|profile| profile.type_).as_deref(), Some("RuntimeDefault"), "{name}");
            assert!(container.ports.iter().flatten().all(|port| port.host_port.is_none()), "{name}");
        }
        for volume in pod.volumes.iter().flatten() {
            let sources =
                [volume.projected.is_some(), volume.empty_dir.is_some(), volume.persistent_volume_claim.is_some()];
            let fields = serde_json::to_value(volume).expect("serializes").as_object().map_or(0, serde_json::Map::len);
            assert_eq!(sources.iter().filter(|source| **source).count(), 1, "{}", volume.name);
            assert_eq!(fields, 2, "{} has one source of an allowed type", volume.name);
        }
    }
}

#[test]
fn no_pod_can_talk_to_kubernetes_or_be_configured_by_a_service() {
    for pod in pod_specs() {
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert_eq!(pod.enable_service_links, Some(false));
    }
    let accounts = orderer::resources(&orderer_plan(), &material()).service_accounts;
    assert!(accounts.iter().all(|account| account.automount_service_account_token == Some(false)));
}

/// Files of each Secret in a pod: (Secret, key, path).
fn secret_files(pod: &PodSpec) -> Vec<(String, String, String)> {
    let sources = pod.volumes.iter().flatten().filter_map(|volume| volume.projected.as_ref());
    let secrets =
        sources.flat_map(|projected| projected.sources.iter().flatten()).filter_map(|source| source.secret.as_ref());
    secrets
        .flat_map(|secret| {
            let items = secret.items.as_ref().expect("named files only");
            items.iter().map(|item| (secret.name.clone(), item.key.clone(), item.path.clone()))
        })
        .collect()
}

#[test]
fn each_key_is_mounted_once_and_the_operators_never() {
    for pod in pod_specs() {
        let files = secret_files(&pod);
        let once: BTreeSet<_> = files.iter().map(|(secret, key, _)| (secret, key)).collect();
        assert_eq!(once.len(), files.len());
        assert!(pod.volumes.iter().flatten().all(|volume| volume.secret.is_none()), "a whole Secret");
        let operator: Vec<_> = files.iter().filter(|(secret, ..)| secret == names::OPERATOR).collect();
        assert!(operator.iter().all(|(_, key, _)| key == names::CA_CRT), "{operator:?}");
        let keys = files.iter().filter(|(_, key, _)| key == names::TLS_KEY).count();
        let wanted = if pod.containers[0].name == chaincode::CONTAINER { 1 } else { 2 };
        assert_eq!(keys, wanted, "the TLS key, and of a node the identity's");
        for container in containers(&pod) {
            let mounts: BTreeSet<_> = container.volume_mounts.iter().flatten().map(|mount| &mount.name).collect();
            assert_eq!(mounts.len(), container.volume_mounts.iter().flatten().count());
            let sees_keys = mounts.iter().any(|name| matches!(name.as_str(), "msp" | "tls"));
            assert_eq!(sees_keys, container.name != "couchdb", "{}", container.name);
        }
    }
}

#[test]
fn the_environment_holds_no_key() {
    for pod in pod_specs() {
        for container in containers(&pod) {
            assert!(container.env_from.is_none());
            for variable in container.env.iter().flatten() {
                assert!(!variable.value.as_deref().unwrap_or_default().contains("-----BEGIN"), "{}", variable.name);
                let secret = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref());
                // Fabric and CouchDB take the database's password from nowhere else, nor Fabric the key for contracts.
                let known = ["archive-4-couchdb", "willow-chaincode"];
                assert!(secret.is_none_or(|secret| known.contains(&secret.name.as_str())), "{}", variable.name);
            }
        }
    }
}

#[test]
fn the_images_own_configuration_stays_visible() {
    for pod in pod_specs() {
        for mount in containers(&pod).flat_map(|container| container.volume_mounts.iter().flatten()) {
            assert!(!mount.mount_path.starts_with("/etc/hyperledger"), "{}", mount.mount_path);
            assert!(mount.sub_path.is_none(), "a file mounted by subPath is never updated");
        }
    }
}

#[test]
fn every_path_in_the_environment_is_mounted() {
    for pod in pod_specs() {
        let container = &pod.containers[0];
        let mounts: Vec<_> = container.volume_mounts.iter().flatten().map(|mount| mount.mount_path.as_str()).collect();
        let files: BTreeSet<_> = secret_files(&pod).into_iter().map(|(_, _, path)| path).collect();
        for variable in container.env.iter().flatten() {
            let value = variable.value.as_deref().unwrap_or_default().trim_matches(['[', ']']);
            if !value.starts_with('/') {
                continue;
            }
            let mount = mounts.iter().find(|mount| value.starts_with(**mount)).expect(value);
            if value.ends_with(".crt") || value.ends_with(".key") {
                let file = value.trim_start_matches(*mount).trim_start_matches('/');
                assert!(files.contains(file), "{} names {value}", variable.name);
            }
        }
    }
}

#[test]
fn a_command_comes_with_the_default_image_only() {
    let mut site = site();
    site.images.peer.command = vec!["/bin/node".into(), "peer".into()];
    let command = |peer: &Peer| {
        let plan = PeerPlan::new(peer, &willow(), &site, BTreeSet::new()).expect("a plan");
        let set = peer::resources(&plan, &material()).stateful_sets.remove(0);
        let pod = set.spec.and_then(|spec| spec.template.spec).expect("a pod");
        (pod.containers[0].image.clone(), pod.containers[0].command.clone())
    };
    let (image, default) = command(&peer(json!({})));
    assert_eq!((image.as_deref(), default), (Some("registry.example/peer:8"), Some(site.images.peer.command.clone())));
    let (image, own) = command(&peer(json!({"image": {"reference": "mirror.example/peer:1"}})));
    assert_eq!((image.as_deref(), own), (Some("mirror.example/peer:1"), None));
}

fn ends() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().expect("a time")
}

#[test]
fn new_certificates_restart_the_pod_and_change_nothing_else() {
    let started_with = |certificates: &Material| orderer::resources(&orderer_plan(), certificates).stateful_sets;
    let [mut old, new] = [material(), Material::of(["another certificate"]).ending(ends())]
        .map(|certificates| serde_json::to_value(started_with(&certificates)).expect("JSON"));
    assert_ne!(old, new);
    let annotation = "/0/spec/template/metadata/annotations/ehrnet.dev~1material";
    *old.pointer_mut(annotation).expect("the annotation") = new.pointer(annotation).expect("the annotation").clone();
    assert_eq!(old, new);
}

#[test]
fn material_depends_on_each_certificate_and_their_order() {
    let digests =
        [Material::of(["ab", "c"]), Material::of(["a", "bc"]), Material::of(["c", "ab"]), Material::of(["abc"])];
    assert_eq!(digests.iter().map(Material::annotations).collect::<BTreeSet<_>>().len(), digests.len());
    assert_eq!(digests[0], Material::of(["ab", "c"]));
}

fn is_owned(meta: &ObjectMeta) -> bool {
    meta.owner_references.iter().flatten().any(|owner| owner.controller == Some(true))
}

#[test]
fn ledgers_and_keys_outlive_their_resource_unless_told_otherwise() {
    let keys = &*KEYS;
    for (policy, owned) in [("Retain", false), ("Delete", true)] {
        let node = peer_plan_of(json!({"stateDatabase": "CouchDB", "deletionPolicy": policy}));
        let hospital = hospital(json!({"mspId": "WillowHealthMSP", "deletionPolicy": policy}));
        let hospital = HospitalPlan::new(&hospital).expect("a plan");
        let objects = peer::resources(&node, &material());
        let (certificate, key) = &keys.identity;
        let signing = keys.signing.certificate();
        let mut lasting: Vec<ObjectMeta> = objects.volume_claims.into_iter().map(|claim| claim.metadata).collect();
        assert_eq!(lasting.len(), 2);
        lasting.extend([
            secret::node_identity(&node.node, certificate, key, signing).metadata,
            secret::node_tls(&node.node, certificate, key, signing).metadata,
            secret::couchdb(&node.node, "x").metadata,
            secret::signing_ca(&hospital, &keys.signing).metadata,
            secret::tls_ca(&hospital, &keys.tls).metadata,
            secret::admin(&hospital, certificate, key, signing).metadata,
        ]);
        for meta in lasting {
            assert_eq!(is_owned(&meta), owned, "{policy}: {:?}", meta.name);
            assert_eq!(meta.owner_references.is_some(), owned);
        }
        assert!(objects.stateful_sets.iter().all(|set| is_owned(&set.metadata)), "what can be made again is owned");
    }
    assert!(!is_owned(&config_map::genesis(&channel(), b"a block").metadata), "the ledger began with it");
}

#[test]
fn what_was_made_for_a_resource_says_so() {
    let keys = &*KEYS;
    let claims = peer::resources(&full_peer_plan(), &material()).volume_claims;
    assert_eq!(names::made_for(&claims[0]), Some(("Peer", "archive-4".to_owned())));
    assert_eq!(names::made_for(&config_map::genesis(&channel(), b"")), Some(("Channel", "trial".to_owned())));
    let secret = secret::signing_ca(&hospital_plan(), &keys.signing);
    assert_eq!(names::made_for(&secret), Some(("Hospital", "willow".to_owned())));
    let shared = secret::operator("north-clinic", &keys.operator, &keys.client.0, &keys.client.1);
    assert_eq!(names::made_for(&shared), None, "shared by a namespace");
    let mut foreign = secret;
    foreign.metadata.labels.get_or_insert_default().insert(names::MANAGED_BY.into(), "Helm".into());
    assert_eq!(names::made_for(&foreign), None);
}

fn matches(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The eviction API refuses a pod that two budgets select.
#[test]
fn every_pod_is_in_exactly_one_disruption_budget() {
    let budgets = [disruption_budget::orderers("north-clinic"), disruption_budget::peers(&hospital_plan())];
    let selectors: Vec<_> = budgets
        .into_iter()
        .map(|budget| budget.spec.and_then(|spec| spec.selector?.match_labels).expect("a selector"))
        .collect();
    for set in stateful_sets() {
        let labels = set.spec.and_then(|spec| spec.template.metadata?.labels).expect("labels");
        assert_eq!(selectors.iter().filter(|selector| matches(selector, &labels)).count(), 1, "{labels:?}");
    }
}

#[test]
fn a_service_and_a_stateful_set_select_their_own_pod_only() {
    let mut neighbour = peer_plan_of(json!({}));
    neighbour.node.parent.name = "archive-5".into();
    let mut sets = stateful_sets();
    sets.extend(peer::resources(&neighbour, &material()).stateful_sets);
    let plans = [orderer_plan().node.parent, full_peer_plan().node.parent, neighbour.node.parent];
    for parent in plans {
        let selected = sets.iter().filter(|set| {
            let labels = set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.as_ref());
            matches(&parent.selector(), labels.expect("labels"))
        });
        assert!(selected.clone().count() > 0);
        assert!(selected.into_iter().all(|set| set.metadata.name.as_ref() == Some(&parent.name)));
    }
}

/// The schema admits 40 characters; Kubernetes admits 63 in a label or the name of a Service.
#[test]
fn the_longest_names_fit() {
    let long = format!("p{}", "o".repeat(39));
    for name in [
        names::signing_ca(&long),
        names::tls_ca(&long),
        names::admin(&long),
        names::msp(&long),
        names::connection(&long),
        names::peers(&long),
        names::node_identity(&long),
        names::node_tls(&long),
        names::node_ledger(&long),
        names::node_couchdb(&long),
        names::genesis(&long),
        names::consent_policy(&long),
        names::identity(&long),
        names::chaincode_client(&long),
        names::contract(&long[..20], &long),
        names::contract_account(&long[..20]),
    ] {
        assert!(name.len() <= 63, "{name}");
    }
    let mut plan = full_peer_plan().node;
    plan.parent.name = long;
    assert!(plan.tls_leaf().common_name.len() <= 64 && hospital_plan().admin_leaf().common_name.len() <= 64);
}

#[test]
fn a_node_is_certified_for_every_name_it_is_reached_by() {
    let Profile::Tls { names } = full_peer_plan().node.tls_leaf().profile else { panic!("a TLS certificate") };
    let wanted = [
        "archive-4",
        "archive-4.north-clinic",
        "archive-4.north-clinic.svc",
        "archive-4.north-clinic.svc.cluster.example",
        "ledger.willow.example",
    ];
    assert_eq!(names.names().iter().map(String::as_str).collect::<Vec<_>>(), wanted);
}

#[test]
fn an_external_endpoint_is_a_host_and_a_port() {
    let wrong = peer(json!({"externalEndpoint": "ledger.example:99999"}));
    assert!(matches!(PeerPlan::new(&wrong, &willow(), &site(), BTreeSet::new()), Err(PlanError::Endpoint(_))));
}

proptest! {
    #[test]
    fn the_schema_admits_what_the_parser_reads(
        text in string_regex(ENDPOINT_PATTERN.trim_matches(['^', '$'])).expect("a pattern").prop_union(
            string_regex("[aZ0_.-]{0,3}:{0,2}[+0]?(6553[0-9]|[0-9]{0,6})\n?").expect("a pattern")),
    ) {
        let admitted = Regex::new(ENDPOINT_PATTERN).expect("a pattern").is_match(&text);
        prop_assert_eq!(text.parse::<Endpoint>().is_ok(), admitted);
    }
}

#[test]
fn a_resource_that_no_cluster_returned_is_not_planned() {
    let mut peer = peer(json!({}));
    peer.meta_mut().uid = None;
    assert_eq!(PeerPlan::new(&peer, &willow(), &site(), BTreeSet::new()).err(), Some(PlanError::NotFromCluster));
}

#[test]
fn equal_input_gives_equal_bytes() {
    let text = |plan: &PeerPlan| format!("{:?}", peer::resources(plan, &material()));
    assert_eq!(text(&full_peer_plan()), text(&full_peer_plan()));
    let bundle = || connection::bundle(&hospital_plan(), &identities(), &reachable());
    assert_eq!(bundle(), bundle());
}

#[test]
fn a_hospital_without_nodes_has_a_bundle_without_addresses() {
    let bundle = connection::bundle(&hospital_plan(), &identities(), &connection::Reachable::default());
    let keys: Vec<_> = bundle.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
    assert!(!keys.contains(&"PEER_ENDPOINT") && !keys.contains(&"orderer-tls-cas.pem"));
    assert!(keys.contains(&"connection.yaml") && keys.contains(&"admin.id"));
}

/// The files of an MSP folder, as keys of a client bundle.
const MSP_KEYS: [&str; 5] = [
    "msp.config.yaml",
    "msp.cacerts.ca.pem",
    "msp.tlscacerts.ca.pem",
    "msp.signcerts.cert.pem",
    "msp.keystore.key.pem",
];

#[test]
fn a_bundle_has_every_file_of_an_msp_folder() {
    let bundle = connection::bundle(&hospital_plan(), &identities(), &reachable());
    let data = bundle.data.expect("data");
    assert!(MSP_KEYS.iter().all(|key| data.contains_key(*key)));
    let wallet: Value = serde_json::from_slice(&data["admin.id"].0).expect("JSON");
    assert_eq!(wallet["credentials"]["privateKey"].as_str(), Some(KEYS.admin.1.to_pem().as_str()));
    assert_eq!(wallet["credentials"]["certificate"].as_str(), Some(KEYS.admin.0.pem()));
}

#[test]
fn an_identity_is_what_its_declaration_says() {
    let plan = identity_plan();
    let Profile::Enrolment { role, attributes } = &plan.leaf.profile else { panic!("an enrolment") };
    assert_eq!((*role, attributes.get("ehr.role")), (Role::Client, Some("registrar")));
    assert_eq!((plan.leaf.common_name.as_str(), plan.secret_name.as_str()), ("front-desk", "front-desk-id"));
    assert_eq!(plan.leaf.organization.as_deref(), Some("Willow Health Trust"));
    assert_eq!(plan.window, hospital_plan().leaf_window, "the hospital's unless it has its own");
    let own = json!({
        "type": "admin", "secretName": "elsewhere", "certificate": {"validity": "48h", "renewBefore": "12h"}
    });
    let plan = IdentityPlan::new(&identity(own), &willow()).expect("a plan");
    assert_eq!((plan.leaf.role(), plan.secret_name.as_str()), (Some(Role::Admin), "elsewhere"));
    let hour = std::time::Duration::from_secs(3600);
    assert_eq!(plan.window, Window { validity: 48 * hour, renew_before: 12 * hour });
}

#[test]
fn an_identitys_bundle_is_complete_in_itself() {
    let data = identity_secret(&identity_plan()).data.expect("data");
    let (certificate, key) = &KEYS.clerk;
    for (file, content) in [
        ("tls.crt", certificate.pem()),
        ("tls.key", key.to_pem().as_str()),
        ("msp.signcerts.cert.pem", certificate.pem()),
        ("msp.keystore.key.pem", key.to_pem().as_str()),
        ("pseudonym.key", PSEUDONYM_KEY),
    ] {
        assert_eq!(data[file].0, content.as_bytes(), "{file}");
    }
    assert!(MSP_KEYS.iter().all(|key| data.contains_key(*key)));
    assert!(data.contains_key("front-desk.id") && !data.contains_key("admin.id"));
    assert!(!format!("{:?}", identity_plan()).contains("registrar"), "attributes are shown in no log");
}

#[test]
fn each_hospital_has_a_contract_of_its_own() {
    let Objects { service_accounts, services, network_policies, deployments, .. } = contracts();
    assert_eq!(service_accounts.len(), 1, "they never talk to Kubernetes");
    assert_eq!((services.len(), network_policies.len(), deployments.len()), (2, 2, 2));
    let labels =
        deployments.iter().map(|d| d.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.clone()));
    let labels: Vec<_> = labels.map(|labels| labels.expect("labels")).collect();
    for service in services {
        let selector = service.spec.and_then(|spec| spec.selector).expect("a selector");
        assert_eq!(labels.iter().filter(|labels| matches(&selector, labels)).count(), 1);
    }
}

/// Fabric: the id of a package is a hash of it, and pods register under it.
#[test]
fn an_image_or_version_makes_no_other_package() {
    let [tls_ca, client] = certificates();
    let package = |plan: &ContractPlan| {
        let connection = chaincode::connection(plan, &tls_ca, &client);
        ehrnet_fabric::package::Package::ccaas("ehr", &connection, &BTreeMap::new()).expect("a package").id
    };
    let other = json!({"version": "2.0", "image": {"reference": "mirror.example/contract:2"}});
    assert_eq!(package(&contract_service().0), package(&contract_service_of(other, &willow()).0));
    let connection = chaincode::connection(&contract_service().0, &tls_ca, &client);
    assert!(connection.tls_required && connection.client_auth_required);
    assert_eq!(connection.client_key, "{{.client_key}}", "no key in what every admin of a peer can read");
    let Profile::Tls { names } = contract_service().0.tls_leaf().profile else { panic!("a TLS certificate") };
    let host = connection.address.strip_suffix(":9999").expect("the port");
    assert!(names.names().contains(host), "{host}");
}
