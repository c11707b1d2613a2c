//! Plans of single edits, and properties over random ones.

use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::config_rules::value;
use crate::config_tree::{ADMINS, APPLICATION, MSP, ORDERER, put_value};
use crate::config_update::apply;
use crate::definition::{
    ApplicationOrg, Batch, BftConsenter, BftOptions, Consensus, OrdererOrg, Policies, RaftConsenter, RaftOptions,
};
use crate::envelope::Stamp;
use crate::membership::Membership;
use crate::msp::MspDefinition;
use crate::proto::common::implicit_meta_policy::Rule;
use crate::proto::orderer::BatchTimeout;
use crate::testing::Ca;
use crate::{blocks, genesis};

/// An organization: its CA, the next one it may change to, its admin and its orderers' certificates.
struct Org {
    id: &'static str,
    ca: Ca,
    next_ca: Ca,
    admin: Vec<u8>,
    nodes: Vec<[String; 2]>,
}

static ORGS: LazyLock<Vec<Org>> = LazyLock::new(|| {
    let org = |id: &'static str| {
        let ca = Ca::new(id);
        let admin = ca.identity(id, "admin").serialized().to_vec();
        let nodes = (0..4).map(|_| [ca.issue("orderer").0, ca.issue("orderer").0]).collect();
        Org { id, next_ca: Ca::new(id), admin, nodes, ca }
    };
    ["HospitalA", "HospitalB", "HospitalC", "HospitalD"].map(org).into()
});

impl Org {
    fn msp(&self, renewed: bool) -> MspDefinition {
        let mut root_certs = vec![self.ca.pem()];
        root_certs.extend(renewed.then(|| self.next_ca.pem()));
        MspDefinition { id: self.id.into(), root_certs, tls_root_certs: vec![self.ca.pem()], ..Default::default() }
    }
}

/// What a definition is made of, small enough to be drawn at random.
#[derive(Clone, Debug)]
struct Draw {
    bft: bool,
    hospitals: Vec<usize>,
    /// Organization and number of each orderer, and whether its certificate is the renewed one.
    orderers: Vec<(usize, usize, bool)>,
    renewed: [bool; 4],
    anchors: [u8; 4],
    timeout: u64,
    rule: Rule,
    tick: u64,
    external: bool,
}

fn draw(bft: bool) -> impl Strategy<Value = Draw> {
    let nodes: Vec<(usize, usize)> = (0..4).flat_map(|org| (0..2).map(move |n| (org, n))).collect();
    let least = if bft { 4 } else { 1 };
    (
        subsequence(vec![0, 1, 2, 3], 1..=4),
        subsequence(nodes, least..=6),
        any::<[bool; 8]>(),
        any::<[bool; 4]>(),
        prop::array::uniform4(0..3_u8),
        (1..4_u64, 1..3_u64, any::<Index>(), any::<bool>()),
    )
        .prop_map(move |(hospitals, orderers, rotated, renewed, anchors, (timeout, tick, rule, external))| Draw {
            bft,
            hospitals,
            orderers: orderers.into_iter().map(|(org, n)| (org, n, rotated[org * 2 + n])).collect(),
            renewed,
            anchors,
            timeout,
            rule: *rule.get(&[Rule::Any, Rule::All, Rule::Majority]),
            tick,
            external,
        })
}

fn host(org: usize, n: usize) -> String {
    format!("orderer{n}.{}", ORGS[org].id.to_lowercase())
}

fn definition(draw: &Draw) -> ChannelDefinition {
    let mut orderer_orgs: Vec<OrdererOrg> = Vec::new();
    for (org, n, _) in &draw.orderers {
        let id = ORGS[*org].id;
        if !orderer_orgs.iter().any(|o| o.msp.id == id) {
            orderer_orgs.push(OrdererOrg { msp: ORGS[*org].msp(draw.renewed[*org]), endpoints: vec![] });
        }
        let known = orderer_orgs.iter_mut().find(|o| o.msp.id == id).expect("just pushed");
        known.endpoints.push(Endpoint::new(host(*org, *n), if draw.external { 443 } else { 7050 }));
    }
    let options = RaftOptions { tick_interval: Duration::from_millis(250 * draw.tick), ..Default::default() };
    let bft_options = BftOptions { request_forward_timeout: Duration::from_secs(draw.tick), ..Default::default() };
    let node = |(org, n, rotated): &(usize, usize, bool)| {
        let certificates = &ORGS[*org].nodes[n + 2 * usize::from(*rotated)];
        (Endpoint::new(host(*org, *n), 7050), ORGS[*org].id.to_owned(), certificates.clone())
    };
    let nodes = draw.orderers.iter().map(node);
    let consensus = if draw.bft {
        let consenters = nodes.map(|(endpoint, msp_id, [identity, tls_certificate])| BftConsenter {
            endpoint,
            msp_id,
            identity,
            tls_certificate,
        });
        Consensus::Bft { consenters: consenters.collect(), options: bft_options }
    } else {
        let consenters = nodes.map(|(endpoint, _, [_, tls_certificate])| RaftConsenter { endpoint, tls_certificate });
        Consensus::Raft { consenters: consenters.collect(), options }
    };
    let application_orgs = draw.hospitals.iter().map(|org| ApplicationOrg {
        msp: ORGS[*org].msp(draw.renewed[*org]),
        anchor_peers: (0..draw.anchors[*org]).map(|n| Endpoint::new(format!("peer{n}.{org}"), 7051)).collect(),
    });
    ChannelDefinition {
        channel_name: "records".into(),
        consensus,
        orderer_orgs,
        application_orgs: application_orgs.collect(),
        batch: Batch { timeout: Duration::from_secs(draw.timeout), ..Default::default() },
        policies: Policies { lifecycle_endorsement: draw.rule, ..Default::default() },
        capabilities: Default::default(),
    }
}

fn simple() -> Draw {
    Draw {
        bft: false,
        hospitals: vec![0, 1],
        orderers: vec![(0, 0, false), (0, 1, false), (1, 0, false)],
        renewed: [false; 4],
        anchors: [1; 4],
        timeout: 2,
        rule: Rule::Majority,
        tick: 2,
        external: false,
    }
}

fn start(channel: &ChannelDefinition) -> Config {
    let block = genesis::block(channel, &Stamp::now()).expect("genesis");
    blocks::config(&block).expect("configuration").1
}

/// Identities of the admins of these organizations, as the channel's own MSPs see them.
fn admins(config: &Config, orgs: &[usize]) -> Vec<Identity> {
    let members = Membership::of_channel(config.channel_group.as_ref().expect("group")).expect("members");
    orgs.iter().filter_map(|org| members.identity(&ORGS[*org].admin).ok()).collect()
}

fn take(config: &Config, step: &Step, orgs: &[usize]) -> Config {
    let before = config.channel_group.as_ref().expect("group");
    let after = apply("records", config, &step.update, &admins(config, orgs))
        .unwrap_or_else(|e| panic!("{}: {e}", step.description));
    check_change(before, after.channel_group.as_ref().expect("group"))
        .unwrap_or_else(|e| panic!("{}: {e}", step.description));
    after
}

fn descriptions(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|s| s.description.as_str()).collect()
}

/// From one draw's configuration to another's, by all steps, and none left.
fn reach(from: &Draw, to: &Draw) -> Config {
    let (from, to) = (definition(from), definition(to));
    let mut config = start(&from);
    for step in plan(&config, &to).expect("plan").steps {
        config = take(&config, &step, &[0, 1, 2, 3]);
    }
    let left = plan(&config, &to).expect("plan");
    assert_eq!(descriptions(&left), [""; 0]);
    // What it says is what a new channel of that definition would say, but for ids and versions.
    let (is, new) = (config.channel_group.clone().expect("group"), start(&to).channel_group.expect("group"));
    for section in [ORDERER, APPLICATION] {
        let orgs = |g: &ConfigGroup| g.groups[section].groups.keys().cloned().collect::<Vec<_>>();
        assert_eq!(orgs(&is), orgs(&new));
        for (name, org) in &new.groups[section].groups {
            assert_eq!(
                org.values.keys().collect::<Vec<_>>(),
                is.groups[section].groups[name].values.keys().collect::<Vec<_>>()
            );
        }
    }
    config
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..Default::default() })]

    #[test]
    fn every_raft_definition_is_reached_from_every_other(from in draw(false), to in draw(false)) {
        reach(&from, &to);
    }

    #[test]
    fn every_bft_definition_is_reached_from_every_other(from in draw(true), to in draw(true)) {
        reach(&from, &to);
    }
}

#[test]
fn the_same_definition_asks_for_nothing() {
    let config = start(&definition(&simple()));
    assert_eq!(plan(&config, &definition(&simple())).expect("plan").steps, []);
}

#[test]
fn other_bytes_of_the_same_meaning_ask_for_nothing() {
    let mut config = start(&definition(&simple()));
    let orderer = config.channel_group.as_mut().expect("group").groups.get_mut(ORDERER).expect("orderer");
    put_value(orderer, "BatchTimeout", &BatchTimeout { timeout: "2000ms".into() });
    assert_eq!(plan(&config, &definition(&simple())).expect("plan").steps, []);
}

#[test]
fn what_no_definition_speaks_about_is_left_alone() {
    let mut config = start(&definition(&simple()));
    let application = config.channel_group.as_mut().expect("group").groups.get_mut(APPLICATION).expect("application");
    put_value(application, "ACLs", &BatchTimeout { timeout: "not ours".into() });
    let to = Draw { hospitals: vec![0, 1, 2], ..simple() };
    let plan = plan(&config, &definition(&to)).expect("plan");
    assert_eq!(descriptions(&plan), ["add hospital HospitalC"]);
    let after = take(&config, &plan.steps[0], &[0, 1]).channel_group.expect("group");
    assert_eq!(value::<BatchTimeout>(&after.groups[APPLICATION], "ACLs").expect("kept").timeout, "not ours");
}

#[test]
fn each_change_is_one_sentence_and_asks_the_right_organizations() {
    let to = Draw {
        hospitals: vec![0, 1, 2],
        orderers: vec![(0, 0, false), (0, 1, true), (2, 0, false)],
        renewed: [false, true, false, false],
        anchors: [2, 1, 1, 1],
        timeout: 3,
        ..simple()
    };
    let config = start(&definition(&simple()));
    let plan = plan(&config, &definition(&to)).expect("plan");
    let descriptions: Vec<_> = plan
        .steps
        .iter()
        .map(|s| {
            let policies: Vec<_> = s.signers.policies.iter().map(|n| format!("{} of {}", n.needed, n.policy)).collect();
            format!("{}: {}", s.description, policies.join(" and "))
        })
        .collect();
    assert_eq!(
        descriptions,
        [
            "change the certificates that vouch for HospitalB: 1 of /Channel/Application/HospitalB/Admins and 1 of /Channel/Orderer/HospitalB/Admins",
            "let HospitalC run orderers: 2 of /Channel/Orderer/Admins",
            "change consenter orderer1.hospitala:7050: 2 of /Channel/Orderer/Admins",
            "add consenter orderer0.hospitalc:7050: 2 of /Channel/Orderer/Admins",
            "remove consenter orderer0.hospitalb:7050: 2 of /Channel/Orderer/Admins",
            "change how transactions are collected into blocks: 2 of /Channel/Orderer/Admins",
            "add hospital HospitalC: 2 of /Channel/Application/Admins",
            "change the anchor peers of HospitalA: 1 of /Channel/Application/HospitalA/Admins",
            "remove orderers' organization HospitalB: 2 of /Channel/Orderer/Admins",
        ]
    );
    let consenters: Vec<_> = plan.steps.iter().filter_map(|s| s.consenter.as_ref()).map(ToString::to_string).collect();
    assert_eq!(consenters, ["orderer1.hospitala:7050", "orderer0.hospitalc:7050", "orderer0.hospitalb:7050"]);
}

#[test]
fn a_consenter_that_does_not_answer_leaves_before_any_other_comes_or_goes() {
    let draw = |orderers: &[(usize, usize)]| Draw {
        orderers: orderers.iter().map(|(org, n)| (*org, *n, false)).collect(),
        ..simple()
    };
    let config = start(&definition(&draw(&[(0, 0), (0, 1), (1, 0)])));
    let to = definition(&draw(&[(0, 0), (1, 1)]));
    let admins = admins(&config, &[0, 1]);
    let first = |silent: &[Endpoint]| {
        let Next::Step(step) = next(&config, &to, &admins, silent).expect("next") else { panic!("a step") };
        step.consenter.map(|endpoint| endpoint.to_string())
    };
    assert_eq!(first(&[]).as_deref(), Some("orderer1.hospitalb:7050"), "it is added");
    let lost = Endpoint::new("orderer0.hospitalb", 7050);
    assert_eq!(first(&[lost]).as_deref(), Some("orderer0.hospitalb:7050"), "it is removed");
}

#[test]
fn a_missing_signature_is_named_and_does_not_hold_up_other_steps() {
    let to = Draw { hospitals: vec![0, 1, 2], anchors: [2, 1, 1, 1], ..simple() };
    let config = start(&definition(&simple()));
    let only_a = admins(&config, &[0]);
    let Next::Step(step) = next(&config, &definition(&to), &only_a, &[]).expect("next") else { panic!("a step") };
    assert_eq!(step.description, "change the anchor peers of HospitalA");
    let config = take(&config, &step, &[0]);
    let Next::SignaturesMissing(short) = next(&config, &definition(&to), &only_a, &[]).expect("next") else {
        panic!("short")
    };
    assert_eq!(
        short.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "to add hospital HospitalC: policy /Channel/Application/Admins needs 2, and a signature is missing from HospitalB"
        ]
    );
    let Next::Step(step) = next(&config, &definition(&to), &admins(&config, &[0, 1]), &[]).expect("next") else {
        panic!("step")
    };
    let config = take(&config, &step, &[0, 1]);
    assert_eq!(next(&config, &definition(&to), &only_a, &[]).expect("next"), Next::Converged);
}

#[test]
fn a_step_without_its_signatures_or_on_old_versions_is_refused() {
    let to = Draw { hospitals: vec![0, 1, 2], ..simple() };
    let config = start(&definition(&simple()));
    let step = &plan(&config, &definition(&to)).expect("plan").steps[0];
    let refusal = apply("records", &config, &step.update, &admins(&config, &[0])).expect_err("one of two").to_string();
    assert_eq!(
        refusal,
        "error authorizing update: error validating DeltaSet: policy for [Group]  /Channel/Application not satisfied: implicit policy evaluation failed - 1 sub-policies were satisfied, but this policy requires 2 of the 'Admins' sub-policies to be satisfied"
    );
    let after = take(&config, step, &[0, 1]);
    let refusal = apply("records", &after, &step.update, &admins(&after, &[0, 1, 2])).expect_err("again").to_string();
    assert!(refusal.contains("be at version 0, but it is currently at version 1"), "{refusal}");
}

#[test]
fn versions_cannot_be_skipped_and_new_elements_start_at_zero() {
    let config = start(&definition(&simple()));
    let plan = plan(&config, &definition(&Draw { timeout: 3, hospitals: vec![0, 1, 2], ..simple() })).expect("plan");
    let refusal = |update: &ConfigUpdate| {
        apply("records", &config, update, &admins(&config, &[0, 1])).expect_err("forged").to_string()
    };
    let mut batch = plan.steps[0].update.clone();
    let groups = &mut batch.write_set.as_mut().expect("write set").groups;
    groups.get_mut(ORDERER).expect("orderer").values.get_mut("BatchTimeout").expect("timeout").version = 7;
    assert!(refusal(&batch).contains("to version 7, but key is at version 0"), "{}", refusal(&batch));
    let mut hospital = plan.steps[1].update.clone();
    let groups = &mut hospital.write_set.as_mut().expect("write set").groups;
    let new = groups.get_mut(APPLICATION).expect("application").groups.get_mut("HospitalC").expect("new hospital");
    new.version = 1;
    assert!(refusal(&hospital).contains("to version 1, but key does not exist"), "{}", refusal(&hospital));
    let other = ConfigUpdate { channel_id: "other".into(), ..plan.steps[0].update.clone() };
    assert!(refusal(&other).contains("ConfigUpdate for channel 'other'"), "{}", refusal(&other));
}

#[test]
fn one_organization_in_both_groups_keeps_one_msp() {
    let config = reach(&simple(), &Draw { renewed: [true; 4], ..simple() });
    let group = config.channel_group.expect("group");
    let msp = |section: &str| group.groups[section].groups["HospitalA"].values[MSP].value.clone();
    assert_eq!(msp(ORDERER), msp(APPLICATION));
    assert_eq!(msp(ORDERER), prost::Message::encode_to_vec(&ORGS[0].msp(true).config()));
}

#[test]
fn a_renewed_certificate_with_the_same_key_asks_for_nothing_and_a_new_key_for_a_step() {
    let ca = &ORGS[0].ca;
    let (old, key) = ca.issue("orderer");
    let with = |certificate: &str| {
        let mut channel = definition(&simple());
        let Consensus::Raft { consenters, .. } = &mut channel.consensus else { panic!("raft") };
        consenters[0].tls_certificate = certificate.to_owned();
        channel
    };
    let config = start(&with(&old));
    let renewed = ca.renew(&key, "orderer");
    assert_ne!(renewed, old);
    assert_eq!(plan(&config, &with(&renewed)).expect("plan").steps, []);
    let step = ["change consenter orderer0.hospitala:7050"];
    assert_eq!(descriptions(&plan(&config, &with(&ca.issue("orderer").0)).expect("plan")), step);
    // The same key, vouched for by another CA: the old CA may be about to go.
    let moved = ORGS[0].next_ca.renew(&key, "orderer");
    assert_eq!(descriptions(&plan(&config, &with(&moved)).expect("plan")), step);
}

#[test]
fn consensus_cannot_change_its_type() {
    let bft =
        Draw { bft: true, orderers: vec![(0, 0, false), (0, 1, false), (1, 0, false), (1, 1, false)], ..simple() };
    let error = plan(&start(&definition(&simple())), &definition(&bft)).expect_err("refused").to_string();
    assert!(error.contains("consensus type is etcdraft and cannot become BFT"), "{error}");
}

#[test]
fn bft_consenters_keep_their_ids() {
    let bft = |orderers: &[(usize, usize)]| Draw {
        bft: true,
        orderers: orderers.iter().map(|(org, n)| (*org, *n, false)).collect(),
        ..simple()
    };
    let config = reach(&bft(&[(0, 0), (0, 1), (1, 0), (1, 1)]), &bft(&[(0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]));
    // An id that was given once is not given again.
    let six = definition(&bft(&[(0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]));
    let config = plan(&config, &six).expect("plan").steps.iter().fold(config, |c, step| take(&c, step, &[0, 1, 2, 3]));
    let group = config.channel_group.expect("group");
    let orderers: crate::proto::common::Orderers = value(&group.groups[ORDERER], "Orderers").expect("orderers");
    let ids: Vec<_> = orderers.consenter_mapping.iter().map(|c| (c.id, c.host.as_str())).collect();
    assert_eq!(
        ids,
        [
            (2, "orderer1.hospitala"),
            (3, "orderer0.hospitalb"),
            (4, "orderer1.hospitalb"),
            (5, "orderer0.hospitalc"),
            (6, "orderer1.hospitalc"),
            (7, "orderer0.hospitald"),
        ]
    );
    assert!(group.groups[ORDERER].policies.contains_key(ADMINS));
}
