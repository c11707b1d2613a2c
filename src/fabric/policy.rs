//! Policies as a channel's configuration holds them.
//!
//! The trap: orderers compare BFT's block validation policy byte for byte with their own, so the encoding here must be
//! the canonical one: fields in the order of their numbers, rules and identities in the order of the consenters.

use prost::Message;

use super::proto::common::implicit_meta_policy::Rule;
use super::proto::common::msp_principal::Classification;
use super::proto::common::msp_role::MspRoleType;
use super::proto::common::policy::PolicyType;
use super::proto::common::signature_policy::{NOutOf, Type};
use super::proto::common::{
    Consenter, ImplicitMetaPolicy, MspPrincipal, MspRole, Policy, SignaturePolicy, SignaturePolicyEnvelope,
};
use super::proto::msp::SerializedIdentity;

/// `sub_policy` of any, all or most of the sub-groups.
pub fn implicit_meta(rule: Rule, sub_policy: &str) -> Policy {
    let meta = ImplicitMetaPolicy { sub_policy: sub_policy.into(), rule: rule.into() };
    Policy { r#type: PolicyType::ImplicitMeta.into(), value: meta.encode_to_vec() }
}

/// One signature of an identity of `msp_id` with one of `roles`.
pub fn any_role(msp_id: &str, roles: &[MspRoleType]) -> Policy {
    let identities = roles.iter().map(|role| role_principal(msp_id, *role)).collect();
    signature(&n_out_of(1, identities))
}

/// A signature policy.
pub fn signature(envelope: &SignaturePolicyEnvelope) -> Policy {
    Policy { r#type: PolicyType::Signature.into(), value: envelope.encode_to_vec() }
}

/// `n` of the principals must sign, in the form Fabric's own tools write.
pub fn n_out_of(n: usize, identities: Vec<MspPrincipal>) -> SignaturePolicyEnvelope {
    let rules = (0..identities.len()).map(|i| SignaturePolicy { r#type: Some(Type::SignedBy(i as i32)) }).collect();
    let rule = SignaturePolicy { r#type: Some(Type::NOutOf(NOutOf { n: n as i32, rules })) };
    SignaturePolicyEnvelope { version: 0, rule: Some(rule), identities }
}

/// Identities of `msp_id` with `role`.
pub fn role_principal(msp_id: &str, role: MspRoleType) -> MspPrincipal {
    let role = MspRole { msp_identifier: msp_id.into(), role: role.into() };
    MspPrincipal { principal_classification: Classification::Role.into(), principal: role.encode_to_vec() }
}

/// BFT's block validation policy: signatures of a quorum of exactly these consenters.
pub fn bft_block_validation(consenters: &[Consenter]) -> Policy {
    let identities = consenters.iter().map(|c| {
        let identity = SerializedIdentity { mspid: c.msp_id.clone(), id_bytes: c.identity.clone() };
        MspPrincipal { principal_classification: Classification::Identity.into(), principal: identity.encode_to_vec() }
    });
    signature(&n_out_of(bft_quorum(consenters.len()), identities.collect()))
}

/// How many of `n` BFT consenters must agree: ⌈(n+f+1)/2⌉, where f = ⌊(n-1)/3⌋ may be faulty.
pub fn bft_quorum(n: usize) -> usize {
    let f = n.saturating_sub(1) / 3;
    (n + f + 1).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bft_quorums_always_share_an_honest_consenter() {
        for n in 1..40 {
            let f = (n - 1) / 3;
            let q = bft_quorum(n);
            assert!(2 * q - n > f, "n={n}: two quorums of {q} may share only faulty consenters");
            assert!(q <= n - f, "n={n}: {f} silent consenters stop the channel");
        }
        assert_eq!((bft_quorum(4), bft_quorum(7), bft_quorum(10)), (3, 5, 7));
    }
}
