use ehrnet::api::*;
use ehrnet::desired::*;
use ehrnet::pki::*;
use serde_json::{from_value, json, to_value};
fn main() {
    let now = jiff::Timestamp::now();
    let hospital: Hospital = from_value(json!({"apiVersion":"ehrnet.dev/v1alpha1","kind":"Hospital","metadata":{"name":"elm","namespace":"clinic","uid":"u1"},"spec":{"mspId":"ElmMSP","displayName":"Elm Hospital"}})).unwrap();
    let orderer: Orderer = from_value(json!({"apiVersion":"ehrnet.dev/v1alpha1","kind":"Orderer","metadata":{"name":"ord1","namespace":"clinic","uid":"u2"},"spec":{"hospitalRef":{"name":"elm"}}})).unwrap();
    let peer: Peer = from_value(json!({"apiVersion":"ehrnet.dev/v1alpha1","kind":"Peer","metadata":{"name":"peer1","namespace":"clinic","uid":"u3"},"spec":{"hospitalRef":{"name":"elm"}}})).unwrap();
    let img =
        |r: &str, c: &[&str]| DefaultImage { reference: r.into(), command: c.iter().map(|s| s.to_string()).collect() };
    let site = Site {
        images: NodeImages {
            orderer: img("o", &["orderer"]),
            peer: img("p", &["peer", "node", "start"]),
            couchdb: img("c", &[]),
        },
        cluster_domain: "cluster.local".into(),
        operator_namespace: Some("ops".into()),
    };
    let hp = HospitalPlan::new(&hospital).unwrap();
    let ca = Authority::create(&hp.signing_ca_name(), hp.ca_window.validity, now).unwrap();
    let tlsca = Authority::create(&hp.tls_ca_name(), hp.ca_window.validity, now).unwrap();
    let opca = Authority::create(&secret::operator_ca_name(), hp.ca_window.validity, now).unwrap();
    let mut objs = vec![to_value(config_map::msp(&hp, ca.certificate(), tlsca.certificate())).unwrap()];
    let issue = |ca: &Authority, leaf: &Leaf| {
        let k = PrivateKey::generate();
        let c = ca.issue(leaf, &k, hp.leaf_window.validity, now).unwrap();
        (c, k)
    };
    let (c, k) = issue(&ca, &hp.admin_leaf());
    objs.push(to_value(secret::admin(&hp, &c, &k, ca.certificate())).unwrap());
    objs.push(to_value(secret::signing_ca(&hp, &ca)).unwrap());
    objs.push(to_value(secret::tls_ca(&hp, &tlsca)).unwrap());
    let (c, k) = issue(&opca, &secret::operator_leaf());
    objs.push(to_value(secret::operator("clinic", &opca, &c, &k)).unwrap());
    let op = OrdererPlan::new(&orderer, &hospital, &site).unwrap();
    let pp = PeerPlan::new(&peer, &hospital, &site).unwrap();
    for n in [&op.node, &pp.node] {
        let (c, k) = issue(&ca, &n.identity_leaf());
        objs.push(to_value(secret::node_identity(n, &c, &k, ca.certificate())).unwrap());
        let (c, k) = issue(&tlsca, &n.tls_leaf());
        objs.push(to_value(secret::node_tls(n, &c, &k, tlsca.certificate())).unwrap());
    }
    for r in [orderer::resources(&op), peer::resources(&pp)] {
        let o = r.objects;
        objs.extend(o.services.iter().map(|s| to_value(s).unwrap()));
        objs.extend(o.stateful_sets.iter().map(|s| to_value(s).unwrap()));
        objs.extend(o.network_policies.iter().map(|s| to_value(s).unwrap()));
    }
    println!("{}", serde_json::to_string_pretty(&objs).unwrap());
}
