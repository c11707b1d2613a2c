//! What Fabric and Go demand of certificates, over arbitrary dates; and every way in which a stored pair can be wrong.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use p256::ecdsa::Signature;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::renewal::{self, Wanted};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const WINDOW: Window = Window { validity: YEAR, renew_before: Duration::from_secs(90 * 24 * 3600) };

fn now() -> Timestamp {
    "2031-02-03T04:05:06Z".parse().expect("a timestamp")
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).expect("in range")
}

fn ca(common_name: &str) -> Authority {
    let name = AuthorityName { common_name: common_name.into(), organization: Some("St. Elsewhere".into()) };
    Authority::generate(&name, 10 * YEAR, now()).expect("a CA")
}

fn enrolment(role: Role) -> Leaf {
    Leaf { common_name: "ward-7".into(), organization: None, profile: Profile::enrolment(role) }
}

fn tls(names: &[&str]) -> Leaf {
    let names = SubjectAltNames::new(names.iter().copied());
    Leaf { common_name: "ward-7".into(), organization: None, profile: Profile::Tls { names } }
}

fn parsed(certificate: &Certificate) -> X509Certificate<'_> {
    X509Certificate::from_der(certificate.der()).expect("own certificate").1
}

fn has_low_s(certificate: &Certificate) -> bool {
    let signature = Signature::from_der(&parsed(certificate).signature_value.data).expect("ECDSA signature");
    signature.normalize_s().is_none()
}

#[test]
fn a_ca_has_what_the_msp_demands_of_one() {
    let ca = ca("elsewhere signing CA");
    let certificate = parsed(ca.certificate());
    let constraints = certificate.basic_constraints().expect("readable").expect("present");
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = certificate.key_usage().expect("readable").expect("present").value;
    assert!(usage.key_cert_sign() && usage.crl_sign());
    assert!(ca.certificate().subject_key_id().is_some());
    assert!(ca.certificate().is_issued_by(ca.certificate()));
    assert!(ca.certificate().not_before() < now().checked_sub(leaf::BACKDATE).expect("in range"));
}

#[test]
fn an_identity_states_one_role_and_no_extended_usage() {
    let ca = ca("elsewhere signing CA");
    for role in [Role::Client, Role::Peer, Role::Admin, Role::Orderer] {
        let certificate = ca.issue(&enrolment(role), &PrivateKey::generate(), YEAR, now()).expect("issued");
        assert_eq!(certificate.organizational_units(), [role.as_str()]);
        let certificate = parsed(&certificate);
        assert!(certificate.extended_key_usage().expect("readable").is_none());
        assert_eq!(
            certificate.key_usage().expect("readable").expect("present").value.flags,
            1,
            "digitalSignature only"
        );
        assert!(!certificate.is_ca());
    }
}

fn with_attributes(pairs: &[(&str, &str)]) -> Leaf {
    let attributes = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let profile = Profile::Enrolment { role: Role::Client, attributes: Attributes::new(attributes) };
    Leaf { profile, ..enrolment(Role::Client) }
}

/// Fabric CA: `lib/attrmgr`, `AttrOID` and `Attributes`; the shims read the extension's value as JSON text.
#[test]
fn attributes_stand_where_fabric_ca_puts_them() {
    let ca = ca("elsewhere signing CA");
    let leaf = with_attributes(&[("ehr.role", "physician"), ("ehr.groups", "ward-7,icu")]);
    let certificate = ca.issue(&leaf, &PrivateKey::generate(), YEAR, now()).expect("issued");
    let value = parsed(&certificate)
        .iter_extensions()
        .find(|extension| extension.oid.to_id_string() == "1.2.3.4.5.6.7.8.1")
        .map(|extension| (extension.critical, extension.value.to_vec()));
    let json = br#"{"attrs":{"ehr.groups":"ward-7,icu","ehr.role":"physician"}}"#.to_vec();
    assert_eq!(value, Some((false, json)));
    assert_eq!(certificate.attributes().get("ehr.role"), Some("physician"));
    assert_eq!(certificate.attributes().get("ehr.patient"), None);
    let plain = ca.issue(&enrolment(Role::Client), &PrivateKey::generate(), YEAR, now()).expect("issued");
    assert_eq!(plain.attributes(), &Attributes::default());
}

#[test]
fn other_attributes_make_another_certificate_and_are_not_told() {
    let ca = ca("elsewhere signing CA");
    let (old, new) = (with_attributes(&[("ehr.role", "nurse")]), with_attributes(&[("ehr.role", "physician")]));
    let key = PrivateKey::generate();
    let certificate = ca.issue(&old, &key, YEAR, now()).expect("issued");
    let reason = |leaf| {
        let wanted = Wanted { leaf, issuer: ca.certificate(), window: WINDOW, now: now() };
        renewal::leaf(&certificate, &key, &wanted)
    };
    assert_eq!(reason(&old), None);
    let changed = reason(&new).expect("a reason");
    assert_eq!(changed, RenewalReason::AttributesChanged);
    for text in [changed.to_string(), format!("{changed:?} {new:?} {certificate:?}")] {
        assert!(!text.contains("nurse") && !text.contains("physician"), "{text}");
    }
}

#[test]
fn a_leaf_names_its_ca_by_key_identifier() {
    let ca = ca("elsewhere signing CA");
    let certificate = ca.issue(&enrolment(Role::Peer), &PrivateKey::generate(), YEAR, now()).expect("issued");
    let authority = parsed(&certificate)
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        })
        .expect("an authorityKeyIdentifier");
    assert_eq!(Some(authority.as_slice()), ca.certificate().subject_key_id());
    assert!(certificate.subject_key_id().is_some());
}

#[test]
fn a_tls_certificate_serves_and_dials_under_every_name() {
    let ca = ca("elsewhere TLS CA");
    let names = ["ward-7", "ward-7.clinic.svc", "192.0.2.7", "2001:db8::7"];
    let certificate = ca.issue(&tls(&names), &PrivateKey::generate(), YEAR, now()).expect("issued");
    assert_eq!(certificate.names().iter().map(String::as_str).collect::<Vec<_>>(), {
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        sorted
    });
    let certificate = parsed(&certificate);
    let usage = certificate.extended_key_usage().expect("readable").expect("present").value;
    assert!(usage.server_auth && usage.client_auth);
}

#[test]
fn a_name_is_written_in_one_way_only() {
    assert_eq!(SubjectAltNames::new(["2001:0db8::0007"]), SubjectAltNames::new(["2001:db8::7"]));
}

/// A handshake in memory with both sides authenticated, as between two orderers.
#[test]
fn rustls_accepts_both_sides_of_a_mutual_handshake() {
    let clock = Timestamp::now();
    let name = AuthorityName { common_name: "elsewhere TLS CA".into(), organization: None };
    let ca = Authority::generate(&name, YEAR, clock).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(ca.certificate().der().to_vec())).expect("a root");
    let roots = Arc::new(roots);
    let pair = |name: &str| {
        let key = PrivateKey::generate();
        let certificate = ca.issue(&tls(&[name]), &key, YEAR, clock).expect("issued");
        let der = x509_parser::pem::parse_x509_pem(key.to_pem().as_bytes()).expect("PEM").1.contents;
        (vec![CertificateDer::from(certificate.der().to_vec())], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)))
    };
    let (chain, key) = pair("orderer-a.clinic.svc");
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("a server");
    let (chain, key) = pair("orderer-b.clinic.svc");
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("a client");
    let name = ServerName::try_from("orderer-a.clinic.svc").expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).expect("a client connection");
    let mut server = rustls::ServerConnection::new(Arc::new(server)).expect("a server connection");
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("written");
        server.read_tls(&mut wire.as_slice()).expect("read");
        server.process_new_packets().expect("the server accepts");
        let mut wire = Vec::new();
        server.write_tls(&mut wire).expect("written");
        client.read_tls(&mut wire.as_slice()).expect("read");
        client.process_new_packets().expect("the client accepts");
    }
    assert!(server.peer_certificates().is_some());
}

#[test]
fn two_certificates_of_one_key_have_different_serial_numbers() {
    let (ca, key) = (ca("elsewhere signing CA"), PrivateKey::generate());
    let issue = || ca.issue(&enrolment(Role::Orderer), &key, YEAR, now()).expect("issued");
    let (first, second) = (issue(), issue());
    assert_ne!(first.serial(), second.serial());
    assert_eq!(first.public_point(), second.public_point());
}

#[test]
fn a_ca_issued_again_keeps_every_old_leaf_valid() {
    let old = ca("elsewhere signing CA");
    let leaf = old.issue(&enrolment(Role::Peer), &PrivateKey::generate(), YEAR, now()).expect("issued");
    let new = old.reissue(20 * YEAR, later(now(), 9 * YEAR)).expect("issued again");
    assert!(leaf.is_issued_by(new.certificate()));
    assert!(new.certificate().not_before() <= leaf.not_before(), "Fabric judges at the leaf's start");
    assert_eq!(new.certificate().subject_key_id(), old.certificate().subject_key_id());
    assert_eq!(new.certificate().not_after(), later(now(), 29 * YEAR));
    assert_ne!(new.certificate().serial(), old.certificate().serial());
    let stored = Authority::parse(new.certificate().pem(), &new.key().to_pem());
    assert_eq!(stored.expect("a good pair").certificate(), new.certificate());
}

fn offset(time: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(time.as_second()).expect("in range")
}

/// A CA made by someone else, with `change` applied to it.
fn foreign(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "regional CA");
    change(&mut params);
    (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
}

#[test]
fn an_existing_ca_is_taken_as_it_is() {
    let (certificate, key) = foreign(|params| {
        params
            .distinguished_name
            .push(DnType::CountryName, rcgen::DnValue::PrintableString("CH".try_into().expect("text")));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    let ca = Authority::load(&certificate, &key, now()).expect("a good pair");
    let leaf = ca.issue(&enrolment(Role::Admin), &PrivateKey::generate(), YEAR, now()).expect("issued");
    assert!(leaf.is_issued_by(ca.certificate()));
    assert_eq!(ca.certificate().pem(), certificate);
    assert!(ca.reissue(YEAR, now()).is_err(), "its owner renews it");
}

#[test]
fn a_leaf_of_a_young_ca_does_not_start_before_it() {
    let (certificate, key) = foreign(|params| params.not_before = offset(later(now(), HOUR)));
    let ca = Authority::parse(&certificate, &key).expect("a good pair");
    let leaf = ca.issue(&enrolment(Role::Admin), &PrivateKey::generate(), YEAR, later(now(), HOUR + HOUR / 60));
    assert_eq!(leaf.expect("issued").not_before(), ca.certificate().not_before());
}

#[test]
fn an_intermediate_ca_is_not_turned_into_a_root() {
    let (parent, parent_key) = foreign(|_| {});
    let parent_key = rcgen::KeyPair::from_pem(&parent_key).expect("a key");
    let parent = rcgen::Issuer::from_ca_cert_pem(&parent, parent_key).expect("an issuer");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "hospital CA");
    let certificate = params.signed_by(&key, &parent).expect("signed").pem();
    let ca = Authority::load(&certificate, &key.serialize_pem(), now()).expect("a good pair");
    assert_eq!(ca.reissue(YEAR, now()).expect_err("refused"), KeyPairError::UnsupportedSubject.into());
}

#[test]
fn the_same_key_under_another_name_is_another_ca() {
    let (first, key) = foreign(|_| {});
    let key = rcgen::KeyPair::from_pem(&key).expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "another CA");
    let second = params.self_signed(&key).expect("signed").pem();
    let first = Authority::load(&first, &key.serialize_pem(), now()).expect("a good pair");
    let second = Authority::load(&second, &key.serialize_pem(), now()).expect("a good pair");
    let leaf = first.issue(&enrolment(Role::Admin), &PrivateKey::generate(), YEAR, now()).expect("issued");
    assert!(leaf.is_issued_by(first.certificate()) && !leaf.is_issued_by(second.certificate()));
}

#[test]
fn what_is_wrong_with_an_existing_ca_is_said_precisely() {
    let (good, key) = foreign(|_| {});
    let (leaf, leaf_key) = foreign(|params| params.is_ca = IsCa::ExplicitNoCa);
    let (mute, mute_key) = foreign(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let (old, old_key) = foreign(|params| params.not_after = time::OffsetDateTime::UNIX_EPOCH + 366 * 24 * HOUR);
    let (young, young_key) = foreign(|params| {
        params.not_before = time::OffsetDateTime::UNIX_EPOCH + 100 * YEAR;
        params.not_after = time::OffsetDateTime::UNIX_EPOCH + 101 * YEAR;
    });
    let load = |certificate: &str, key: &str| Authority::load(certificate, key, now()).expect_err("refused");
    assert_eq!(load(&good, &leaf_key), KeyPairError::KeyMismatch);
    assert_eq!(load(&leaf, &leaf_key), KeyPairError::NotACa);
    assert_eq!(load(&mute, &mute_key), KeyPairError::MayNotSign);
    assert_eq!(load(include_str!("testdata/repeated-dc-ca.pem"), &key), KeyPairError::UnsupportedSubject);
    assert_eq!(load(include_str!("testdata/no-ski-ca.pem"), &key), KeyPairError::NoSubjectKeyId);
    let rsa = CertificateError::UnsupportedAlgorithm { found: "RSA".into() };
    assert_eq!(load(include_str!("testdata/rsa-ca.pem"), &key), rsa.into());
    assert!(matches!(load(&old, &old_key), KeyPairError::Expired { .. }));
    assert!(matches!(load(&young, &young_key), KeyPairError::NotYetValid { .. }));
    assert_eq!(load("", &key), CertificateError::NotPem.into());
    assert_eq!(load(&format!("{good}{good}"), &key), CertificateError::MoreThanOne(2).into());
    assert_eq!(load(&good, ""), KeyError::NotPem.into());
}

fn reason(
    leaf: &Certificate,
    key: &PrivateKey,
    wanted: &Leaf,
    issuer: &Authority,
    now: Timestamp,
) -> Option<RenewalReason> {
    let wanted = Wanted { leaf: wanted, issuer: issuer.certificate(), window: WINDOW, now };
    renewal::leaf(leaf, key, &wanted)
}

#[test]
fn each_reason_to_renew_is_found_and_a_good_pair_has_none() {
    let (ca, key, wanted) = (ca("elsewhere TLS CA"), PrivateKey::generate(), tls(&["ward-7", "ward-7.clinic.svc"]));
    let leaf = ca.issue(&wanted, &key, YEAR, now()).expect("issued");
    let due = renewal::leaf_due(&leaf, ca.certificate(), WINDOW).expect("it can be renewed");
    let just_before = due.checked_sub(SignedDuration::from_secs(1)).expect("in range");
    assert_eq!(reason(&leaf, &key, &wanted, &ca, now()), None);
    assert_eq!(reason(&leaf, &key, &wanted, &ca, just_before), None);
    assert_eq!(reason(&leaf, &key, &wanted, &ca, due), Some(RenewalReason::EndsSoon));
    assert_eq!(reason(&leaf, &key, &wanted, &ca, leaf.not_after()), Some(RenewalReason::Expired));

    assert_eq!(reason(&leaf, &PrivateKey::generate(), &wanted, &ca, now()), Some(RenewalReason::KeyMismatch));
    assert_eq!(reason(&leaf, &key, &wanted, &self::ca("elsewhere TLS CA"), now()), Some(RenewalReason::IssuerChanged));
    assert_eq!(reason(&leaf, &key, &enrolment(Role::Peer), &ca, now()), Some(RenewalReason::SubjectChanged));
    let renamed = Leaf { common_name: "ward-8".into(), ..wanted.clone() };
    assert_eq!(reason(&leaf, &key, &renamed, &ca, now()), Some(RenewalReason::SubjectChanged));
    let moved = RenewalReason::NamesChanged {
        missing: vec!["ward-7.example.org".into()],
        surplus: vec!["ward-7.clinic.svc".into()],
    };
    assert_eq!(reason(&leaf, &key, &tls(&["ward-7", "ward-7.example.org"]), &ca, now()), Some(moved));
}

#[test]
fn an_organisation_that_is_renamed_renews_nothing() {
    let (ca, key) = (ca("elsewhere signing CA"), PrivateKey::generate());
    let leaf = ca.issue(&enrolment(Role::Admin), &key, YEAR, now()).expect("issued");
    let renamed = Leaf { organization: Some("Elsewhere General".into()), ..enrolment(Role::Admin) };
    assert_eq!(reason(&leaf, &key, &renamed, &ca, now()), None);
}

#[test]
fn a_ca_issued_again_does_not_renew_its_leaves() {
    let (ca, key) = (ca("elsewhere signing CA"), PrivateKey::generate());
    let leaf = ca.issue(&enrolment(Role::Admin), &key, YEAR, now()).expect("issued");
    let ca = ca.reissue(20 * YEAR, now()).expect("issued again");
    assert_eq!(reason(&leaf, &key, &enrolment(Role::Admin), &ca, now()), None);
}

#[test]
fn a_ca_becomes_due_at_the_start_of_its_window() {
    let ca = ca("elsewhere signing CA");
    let window = Window { validity: 10 * YEAR, renew_before: YEAR };
    assert_eq!(renewal::authority_due(ca.certificate(), window), later(now(), 9 * YEAR));
    assert_eq!(renewal::authority(ca.certificate(), window, later(now(), 9 * YEAR - HOUR)), None);
    assert_eq!(renewal::authority(ca.certificate(), window, later(now(), 9 * YEAR)), Some(RenewalReason::EndsSoon));
    assert_eq!(renewal::authority(ca.certificate(), window, later(now(), 10 * YEAR)), Some(RenewalReason::Expired));
}

#[test]
fn the_next_look_is_at_the_first_due_time() {
    let due = [later(now(), 3 * HOUR), later(now(), 2 * HOUR)];
    assert_eq!(renewal::next_wake_up(due, now()), Some(2 * HOUR));
    assert_eq!(renewal::next_wake_up(due, later(now(), 9 * HOUR)), Some(Duration::ZERO));
    assert_eq!(renewal::next_wake_up([], now()), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() })]

    /// Wherever the present lies in the life of a CA, and however long a leaf is asked to live.
    #[test]
    fn a_leaf_lies_within_its_ca_and_a_fresh_one_is_never_due(
        ca_hours in 2u64..200_000,
        age_percent in 0u64..100,
        leaf_hours in 2u64..200_000,
        window_percent in 1u64..100,
    ) {
        let name = AuthorityName { common_name: "elsewhere".into(), organization: None };
        let ca_validity = Duration::from_secs(ca_hours * 3600);
        let ca = Authority::generate(&name, ca_validity, now()).expect("a CA");
        let present = later(now(), Duration::from_secs(ca_hours * 3600 * age_percent / 100));
        let window = Window {
            validity: Duration::from_secs(leaf_hours * 3600),
            renew_before: Duration::from_secs(leaf_hours * 36 * window_percent),
        };
        let (key, wanted) = (PrivateKey::generate(), enrolment(Role::Peer));
        let leaf = ca.issue(&wanted, &key, window.validity, present).expect("issued");

        prop_assert!(ca.certificate().not_before() <= leaf.not_before());
        prop_assert!(leaf.not_before() < present && present < leaf.not_after());
        prop_assert!(leaf.not_after() <= ca.certificate().not_after());
        prop_assert!(leaf.not_after() <= later(present, window.validity));
        prop_assert!(has_low_s(&leaf) && has_low_s(ca.certificate()));
        prop_assert!(leaf.is_issued_by(ca.certificate()));

        let wanted = Wanted { leaf: &wanted, issuer: ca.certificate(), window, now: present };
        let read = Certificate::from_pem(leaf.pem()).expect("what was written");
        prop_assert_eq!(renewal::leaf(&read, &key, &wanted), None);
        // At the very end of the CA's life there is no point in renewing: the operator must not spin.
        if let Some(due) = renewal::leaf_due(&leaf, ca.certificate(), window) {
            let again = ca.issue(wanted.leaf, &key, window.validity, due).expect("issued");
            prop_assert!(again.not_after() > leaf.not_after());
        }
    }

    #[test]
    fn an_expired_ca_issues_nothing(hours_late in 0u64..1000) {
        let ca = ca("elsewhere");
        let present = later(ca.certificate().not_after(), Duration::from_secs(hours_late * 3600));
        let refused = ca.issue(&enrolment(Role::Peer), &PrivateKey::generate(), YEAR, present);
        let is_expired = matches!(refused, Err(PkiError::Authority(KeyPairError::Expired { .. })));
        prop_assert!(is_expired);
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused_by_name(name in "[é-ü]{1,20}\\.svc") {
        let refused = ca("elsewhere").issue(&tls(&[&name]), &PrivateKey::generate(), YEAR, now());
        let is_named = matches!(refused, Err(PkiError::Name { name: refused, .. }) if refused == name);
        prop_assert!(is_named);
    }
}
