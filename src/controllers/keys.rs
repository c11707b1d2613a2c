//! What to do about a stored key pair: keep it, issue a certificate, put back what was there, or say that it is lost.
//!
//! Pure. Invariant: a key that the network knows is never replaced in passing. What was deleted or damaged by hand is
//! put back from memory while this process remembers it; a lost CA key, or the key of a consenter, is reported instead
//! of replaced, because a new one would be a stranger to every channel.

use ehrnet_pki::renewal::{self, Wanted};
use ehrnet_pki::{Authority, Certificate, PrivateKey, RenewalReason, Window};

/// A certificate and its key, as PEM texts.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: zeroize::Zeroizing<String>,
}

impl Pair {
    /// A certificate and its key.
    pub fn of(certificate: &Certificate, key: &PrivateKey) -> Self {
        Self { certificate: certificate.pem().to_owned(), key: key.to_pem() }
    }

    /// What a Secret without a pair holds.
    pub fn empty() -> Self {
        Self { certificate: String::new(), key: String::new().into() }
    }
}

/// Whether a key may be replaced by a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaceable {
    /// Nobody knows the key itself: the certificate carries all the trust.
    Yes,
    /// The key, once used, is known to others.
    No,
}

/// What to do about a leaf.
#[derive(Debug)]
pub enum LeafAction {
    /// It is good.
    Keep(Box<Certificate>, PrivateKey),
    /// Issue a certificate for this key.
    Issue {
        /// The key that exists, or a new one.
        key: PrivateKey,
        /// What was wrong with the certificate that exists; nothing when there is none.
        why: Option<RenewalReason>,
    },
    /// Put back the pair that was there before.
    Restore(Pair),
    /// The key is gone for good.
    Lost(String),
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Decides about a leaf. `remembered` is the last good pair that this process saw; `existed` says that there was one,
/// whether this process saw it or not.
pub fn leaf(
    stored: Option<&Pair>,
    remembered: Option<&Pair>,
    existed: bool,
    replaceable: Replaceable,
    wanted: &Wanted<'_>,
) -> LeafAction {
    let damage = match stored {
        Some(pair) => match judge(pair, wanted) {
            Judgement::Good(certificate, key) => return LeafAction::Keep(certificate, key),
            Judgement::Due(key, why) => return LeafAction::Issue { key, why: Some(why) },
            Judgement::Damaged(why) => Some(why),
        },
        None => None,
    };
    match remembered.map(|pair| (pair, judge(pair, wanted))) {
        Some((pair, Judgement::Good(..))) => return LeafAction::Restore(pair.clone()),
        Some((_, Judgement::Due(key, why))) => return LeafAction::Issue { key, why: Some(why) },
        Some((_, Judgement::Damaged(_))) | None => {}
    }
    let used = existed || damage.is_some();
    if used && replaceable == Replaceable::No {
        let cause = damage.map_or_else(|| "it was deleted".to_owned(), |why| why.to_string());
        return LeafAction::Lost(cause);
    }
    LeafAction::Issue { key: PrivateKey::generate(), why: damage }
}

enum Judgement {
    Good(Box<Certificate>, PrivateKey),
    Due(PrivateKey, RenewalReason),
    Damaged(RenewalReason),
}

fn judge(pair: &Pair, wanted: &Wanted<'_>) -> Judgement {
    let key = match PrivateKey::from_pem(&pair.key) {
        Ok(key) => key,
        Err(error) => return Judgement::Damaged(RenewalReason::KeyUnreadable(error.to_string())),
    };
    let certificate = match Certificate::from_pem(&pair.certificate) {
        Ok(certificate) => certificate,
        Err(error) => return Judgement::Damaged(RenewalReason::CertificateUnreadable(error.to_string())),
    };
    match renewal::leaf(&certificate, &key, wanted) {
        None => Judgement::Good(Box::new(certificate), key),
        Some(why) if why.is_damage() => Judgement::Damaged(why),
        Some(why) => Judgement::Due(key, why),
    }
}

/// What to do about a CA that the operator made.
#[derive(Debug)]
pub enum CaAction {
    /// It is good.
    Keep(Authority),
    /// Issue its certificate again, with the same key.
    Reissue(Authority),
    /// Make one: there was none before.
    Create,
    /// Put back the pair that was there before.
    Restore(Pair),
    /// The key is gone for good.
    Lost(String),
}

/// Decides about a CA that the operator made. `pinned` is the key that others know (`Certificate::key_id`): another one
/// counts as damage.
pub fn authority(
    stored: Option<&Pair>,
    remembered: Option<&Pair>,
    existed: bool,
    pinned: Option<&str>,
    window: Window,
    now: jiff::Timestamp,
) -> CaAction {
    let parse = |pair: &Pair| {
        let ca = Authority::parse(&pair.certificate, &pair.key).map_err(|error| error.to_string())?;
        match pinned {
            Some(pinned) if ca.certificate().key_id() != pinned => Err("it holds another key".to_owned()),
            _ => Ok(ca),
        }
    };
    let judged = |ca: Authority| match renewal::authority(ca.certificate(), window, now) {
        None => CaAction::Keep(ca),
        Some(_) => CaAction::Reissue(ca),
    };
    let damage = match stored.map(parse) {
        Some(Ok(ca)) => return judged(ca),
        Some(Err(error)) => Some(error),
        None => None,
    };
    if let Some(pair) = remembered.filter(|pair| parse(pair).is_ok()) {
        return CaAction::Restore(pair.clone());
    }
    match damage {
        Some(error) => CaAction::Lost(error),
        None if existed => CaAction::Lost("it was deleted".to_owned()),
        None => CaAction::Create,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use ehrnet_pki::{AuthorityName, Leaf, Profile, Role};

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a timestamp")
    }

    fn window() -> Window {
        Window { validity: YEAR, renew_before: YEAR / 4 }
    }

    fn ca() -> Authority {
        let name = AuthorityName { common_name: "elm CA".into(), organization: None };
        Authority::generate(&name, YEAR * 10, now()).expect("a CA")
    }

    fn wanted_leaf() -> Leaf {
        Leaf { common_name: "elm-1".into(), organization: None, profile: Profile::enrolment(Role::Orderer) }
    }

    fn pair(ca: &Authority, at: Timestamp) -> Pair {
        let key = PrivateKey::generate();
        let certificate = ca.issue(&wanted_leaf(), &key, YEAR, at).expect("a leaf");
        Pair { certificate: certificate.pem().to_owned(), key: key.to_pem() }
    }

    fn decide(
        ca: &Authority,
        stored: Option<&Pair>,
        remembered: Option<&Pair>,
        existed: bool,
        replaceable: Replaceable,
        at: Timestamp,
    ) -> LeafAction {
        let wanted = Wanted { leaf: &wanted_leaf(), issuer: ca.certificate(), window: window(), now: at };
        leaf(stored, remembered, existed, replaceable, &wanted)
    }

    #[test]
    fn renewal_keeps_the_key_and_comes_before_the_end() {
        let (ca, later) = (ca(), now() + YEAR * 4 / 5);
        let stored = pair(&ca, now());
        assert!(matches!(decide(&ca, Some(&stored), None, true, Replaceable::No, now()), LeafAction::Keep(..)));
        let LeafAction::Issue { key, why } = decide(&ca, Some(&stored), None, true, Replaceable::No, later) else {
            panic!("a certificate within its window must be renewed");
        };
        assert_eq!(key.to_pem(), stored.key);
        assert_eq!(why, Some(RenewalReason::EndsSoon));
    }

    #[test]
    fn what_was_deleted_or_damaged_comes_back_from_memory() {
        let ca = ca();
        let good = pair(&ca, now());
        let mut damaged = good.clone();
        damaged.key = "rubbish".to_owned().into();
        for stored in [None, Some(&damaged)] {
            let action = decide(&ca, stored, Some(&good), true, Replaceable::No, now());
            assert!(matches!(action, LeafAction::Restore(pair) if pair.key == good.key));
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let (ca, rubbish) = (ca(), || "rubbish".to_owned());
        let good = pair(&ca, now());
        let why = |stored: Pair| match decide(&ca, Some(&stored), None, true, Replaceable::Yes, now()) {
            LeafAction::Issue { why: Some(why), .. } => why,
            other => panic!("{other:?}"),
        };
        let key = why(Pair { key: rubbish().into(), ..good.clone() });
        assert!(matches!(key, RenewalReason::KeyUnreadable(_)), "{key}");
        let certificate = why(Pair { certificate: rubbish(), ..good.clone() });
        assert!(matches!(certificate, RenewalReason::CertificateUnreadable(_)), "{certificate}");
        let other = why(Pair { key: pair(&ca, now()).key, ..good });
        assert_eq!(other, RenewalReason::KeyMismatch);
    }

    #[test]
    fn a_key_that_others_know_is_never_replaced() {
        let ca = ca();
        assert!(matches!(decide(&ca, None, None, true, Replaceable::No, now()), LeafAction::Lost(_)));
        assert!(matches!(decide(&ca, None, None, false, Replaceable::No, now()), LeafAction::Issue { why: None, .. }));
        assert!(matches!(decide(&ca, None, None, true, Replaceable::Yes, now()), LeafAction::Issue { .. }));
        let mut damaged = pair(&ca, now());
        damaged.certificate = "rubbish".into();
        assert!(matches!(decide(&ca, Some(&damaged), None, false, Replaceable::No, now()), LeafAction::Lost(_)));
    }

    #[test]
    fn a_ca_is_made_once_and_then_only_issued_again() {
        let made = ca();
        let stored = Pair { certificate: made.certificate().pem().to_owned(), key: made.key().to_pem() };
        let long = Window { validity: YEAR * 10, renew_before: YEAR };
        assert!(matches!(authority(None, None, false, None, long, now()), CaAction::Create));
        assert!(matches!(authority(None, None, true, None, long, now()), CaAction::Lost(_)));
        assert!(matches!(authority(None, Some(&stored), true, None, long, now()), CaAction::Restore(_)));
        assert!(matches!(authority(Some(&stored), None, true, None, long, now()), CaAction::Keep(_)));
        let (own, other) = (made.certificate().key_id(), ca().certificate().key_id());
        assert!(matches!(authority(Some(&stored), None, true, Some(&own), long, now()), CaAction::Keep(_)));
        assert!(matches!(authority(Some(&stored), None, true, Some(&other), long, now()), CaAction::Lost(_)));
        let late = now() + YEAR * 19 / 2;
        assert!(matches!(authority(Some(&stored), None, true, None, long, late), CaAction::Reissue(_)));
    }
}
