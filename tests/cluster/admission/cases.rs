//! Specs that the API server refuses or admits, each with the reason of the refusal.

pub const HOSPITAL: &str = "{mspId: MercyMSP}";
pub const ORDERER: &str = "{hospitalRef: {name: mercy}}";
pub const PEER: &str = "{hospitalRef: {name: mercy}, channels: [care]}";
pub const CHANNEL: &str = "{channelName: care, consensus: {type: Raft, orderers: [o1, o2, o3]}, members: [mercy]}";

pub const IDENTITY: &str = "{hospitalRef: {name: mercy}, attributes: {ehr.role: physician}}";
pub const CHAINCODE: &str =
    "{channelRef: {name: care}, collections: [{name: records}, {name: trial, members: [mercy], blockToLive: 9}]}";

pub const CONSENT: &str = "{channelRef: {name: care}, retention: {privateCollection: consents, blockToLive: 10}, overriding: [{type: permit, purpose: [{code: PUBHLTH}]}], \
    template: {type: permit, purpose: [{code: TREAT}], securityLabel: [{code: 'N'}], period: {start: 2026-01-01, end: '2027'}, \
    provision: [{type: permit, purpose: [{code: BTG}], provision: [{type: deny, provision: [{type: permit, provision: [{type: deny}]}]}]}]}}";

/// Kind, spec, field and part of the message of the refusal.
pub type Refusal = (&'static str, &'static str, &'static str, &'static str);

pub const REFUSED: &[Refusal] = &[
    ("Hospital", "{mspId: 'mercy msp'}", "spec.mspId", "should match"),
    ("Hospital", "{mspId: ''}", "spec.mspId", "at least 1"),
    ("Hospital", "{displayName: Mercy}", "spec.mspId", "Required"),
    (
        "Hospital",
        "{mspId: MercyMSP, pki: {leaf: {validity: 24h, renewBefore: 24h}}}",
        "spec.pki.leaf",
        "renewBefore must be shorter than validity",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, pki: {ca: {validity: 24h, renewBefore: 48h}}}",
        "spec.pki.ca",
        "renewBefore must be shorter than validity",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, pki: {leaf: {validity: 1y, renewBefore: 1h}}}",
        "spec.pki.leaf.validity",
        "should match",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, pki: {leaf: {validity: 1h, renewBefore: 0h}}}",
        "spec.pki.leaf.renewBefore",
        "longer than zero",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, signingCa: {secretRef: {name: ca}}, tlsCa: {secretRef: {name: ca}}}",
        "spec",
        "must be two different key pairs",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, signingCa: {secretRef: {name: ca, namespace: other}}}",
        "spec.signingCa.secretRef",
        "references stay within the namespace",
    ),
    ("Hospital", "{mspId: MercyMSP, deletionPolicy: Keep}", "spec.deletionPolicy", "supported values"),
    (
        "Orderer",
        "{hospitalRef: {name: mercy, namespace: other}}",
        "spec.hospitalRef",
        "references stay within the namespace",
    ),
    ("Orderer", "{}", "spec.hospitalRef", "Required"),
    (
        "Orderer",
        "{hospitalRef: {name: mercy}, externalEndpoint: mercy.example}",
        "spec.externalEndpoint",
        "should match",
    ),
    (
        "Peer",
        "{hospitalRef: {name: mercy, namespace: other}}",
        "spec.hospitalRef",
        "references stay within the namespace",
    ),
    ("Peer", "{hospitalRef: {name: mercy}, couchdb: {}}", "spec", "couchdb is only for stateDatabase: CouchDB"),
    ("Peer", "{hospitalRef: {name: mercy}, channels: [care, care]}", "spec.channels[1]", "Duplicate"),
    ("Peer", "{hospitalRef: {name: mercy}, channels: [Care]}", "spec.channels[0]", "should match"),
    ("Peer", "{hospitalRef: {name: mercy}, stateDatabase: Postgres}", "spec.stateDatabase", "supported values"),
    (
        "Channel",
        "{channelName: care, consensus: {type: BFT, orderers: [o1, o2, o3]}, members: [mercy]}",
        "spec.consensus",
        "BFT needs at least 4 orderers",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: BFT, orderers: [o1, o2, o3, o4], raft: {}}, members: [mercy]}",
        "spec.consensus",
        "raft options are only for consensus type Raft",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1], bft: {}}, members: [mercy]}",
        "spec.consensus",
        "bft options are only for consensus type BFT",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1], raft: {electionTick: 5, heartbeatTick: 5}}, members: [mercy]}",
        "spec.consensus.raft",
        "electionTick must be larger than heartbeatTick",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: BFT, orderers: [o1, o2, o3, o4], bft: {leaderHeartbeatTimeout: 1s}}, members: [mercy]}",
        "spec.consensus.bft",
        "leaderHeartbeatTimeout must be longer",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Solo, orderers: [o1]}, members: [mercy]}",
        "spec.consensus.type",
        "supported values",
    ),
    (
        "Channel",
        "{channelName: Care, consensus: {type: Raft, orderers: [o1]}, members: [mercy]}",
        "spec.channelName",
        "should match",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: []}, members: [mercy]}",
        "spec.consensus.orderers",
        "at least 1",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1, o1]}, members: [mercy]}",
        "spec.consensus.orderers[1]",
        "Duplicate",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1]}, members: []}",
        "spec.members",
        "at least 1",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1]}, members: [mercy, mercy]}",
        "spec.members[1]",
        "Duplicate",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1]}, members: [mercy], batch: {preferredMaxBytes: 4096, absoluteMaxBytes: 2048}}",
        "spec.batch",
        "preferredMaxBytes must not be larger",
    ),
    (
        "Channel",
        "{channelName: care, consensus: {type: Raft, orderers: [o1]}, members: [mercy], capabilities: {channel: '3.0'}}",
        "spec.capabilities.channel",
        "should match",
    ),
    (
        "Identity",
        "{hospitalRef: {name: mercy, namespace: other}}",
        "spec.hospitalRef",
        "references stay within the namespace",
    ),
    ("Identity", "{hospitalRef: {name: mercy}, type: peer}", "spec.type", "supported values"),
    (
        "Identity",
        "{hospitalRef: {name: mercy}, attributes: {'ehr role': physician}}",
        "spec.attributes",
        "the name of an attribute has letters",
    ),
    ("Identity", "{hospitalRef: {name: mercy}, attributes: {hf.Type: admin}}", "spec.attributes", "Fabric CA's own"),
    ("Identity", "{hospitalRef: {name: mercy}, secretName: Mercy}", "spec.secretName", "should match"),
    (
        "Identity",
        "{hospitalRef: {name: mercy}, certificate: {validity: 24h, renewBefore: 48h}}",
        "spec.certificate",
        "renewBefore must be shorter than validity",
    ),
    (
        "Chaincode",
        "{channelRef: {name: care, namespace: other}}",
        "spec.channelRef",
        "references stay within the namespace",
    ),
    ("Chaincode", "{channelRef: {name: care}, chaincodeName: '-ehr'}", "spec.chaincodeName", "should match"),
    ("Chaincode", "{channelRef: {name: care}, version: '1 0'}", "spec.version", "should match"),
    ("Chaincode", "{channelRef: {name: care}, endorsement: {}}", "spec.endorsement", "exactly one of allOf"),
    (
        "Chaincode",
        "{channelRef: {name: care}, endorsement: {allOf: [mercy], anyOf: [mercy]}}",
        "spec.endorsement",
        "exactly one of allOf",
    ),
    ("Chaincode", "{channelRef: {name: care}, endorsement: {allOf: []}}", "spec.endorsement.allOf", "at least 1"),
    (
        "Chaincode",
        "{channelRef: {name: care}, endorsement: {outOf: {count: 2, hospitals: [mercy]}}}",
        "spec.endorsement.outOf",
        "count must not be larger",
    ),
    ("Chaincode", "{channelRef: {name: care}, collections: [{name: _x}]}", "spec.collections[0].name", "should match"),
    (
        "Chaincode",
        "{channelRef: {name: care}, collections: [{name: a}, {name: a}]}",
        "spec.collections[1]",
        "Duplicate",
    ),
    (
        "Chaincode",
        "{channelRef: {name: care}, collections: [{name: a, requiredPeerCount: 4}]}",
        "spec.collections[0]",
        "requiredPeerCount must not be larger",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, purpose: [{code: TRAET}]}}",
        "spec.template.purpose[0].code",
        "should match",
    ),
    (
        "ConsentPolicy",
        "{overriding: [{type: deny, securityLabel: [{system: 'urn:x', code: R}]}]}",
        "spec.overriding[0].securityLabel[0].system",
        "supported values",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, provision: [{}]}}",
        "spec.template",
        "needs a type under fhirVersion R4",
    ),
    (
        "ConsentPolicy",
        "{fhirVersion: R5, template: {decision: permit, provision: [{type: deny}]}}",
        "spec.template",
        "must have none under R5",
    ),
    ("ConsentPolicy", "{template: {decision: permit}}", "spec", "template needs type under fhirVersion R4"),
    ("ConsentPolicy", "{fhirVersion: R5, overriding: [{type: deny}]}", "spec", "decision under R5"),
    (
        "ConsentPolicy",
        "{template: {type: permit, provision: [{type: deny, decision: deny}]}}",
        "spec.template.provision",
        "decision stands at the root only",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, period: {start: 2026-05-01, end: 2026-04}}}",
        "spec.template.period",
        "start must not be after end",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, dataPeriod: {}}}",
        "spec.template.dataPeriod",
        "needs a start or an end",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, provision: [{type: deny, provision: [{type: deny, provision: [{type: deny, provision: [{type: deny, provision: [{}]}]}]}]}]}}",
        "spec.template.provision[0].provision[0].provision[0].provision[0].provision",
        "at most 0 items",
    ),
    (
        "ConsentPolicy",
        "{template: {type: permit, actor: [{mspId: A, reference: Group/b}]}}",
        "spec.template.actor[0]",
        "named in one way",
    ),
    ("ConsentPolicy", "{template: {type: permit, actor: [{}]}}", "spec.template.actor[0]", "needs a role"),
    ("ConsentPolicy", "{breakGlass: {purposes: [GLASS]}}", "spec.breakGlass.purposes[0]", "supported values"),
    ("ConsentPolicy", "{retention: {auditYears: 5}}", "spec.retention.auditYears", "greater than or equal to 6"),
    ("ConsentPolicy", "{retention: {blockToLive: 5}}", "spec.retention", "set privateCollection as well"),
    ("ConsentPolicy", "{timeZone: '../etc'}", "spec.timeZone", "should match"),
    ("ConsentPolicy", "{untypedRoot: perhaps}", "spec.untypedRoot", "supported values"),
    ("ConsentPolicy", "{category: [{code: BILLS}]}", "spec.category[0]", "is no category of its code system"),
    ("ConsentPolicy", "{overriding: [{type: permit, purpose: []}]}", "spec.overriding[0].purpose", "at least 1 items"),
    ("ConsentPolicy", "{codeSystems: [{url: 'urn:x', codes: []}]}", "spec.codeSystems[0].codes", "at least 1 items"),
    ("ConsentPolicy", "{modules: [{code: {system: 'urn:x', code: A}}]}", "spec.modules[0]", "must say what it means"),
    (
        "ConsentPolicy",
        "{modules: [{element: action, code: {system: 'urn:x', code: A}, purpose: [{code: TREAT}]}]}",
        "spec.modules[0].element",
        "supported values",
    ),
    ("ConsentPolicy", "{citedPolicies: [{decision: deny}]}", "spec.citedPolicies[0]", "named by uri or by code"),
    (
        "ConsentPolicy",
        "{citedPolicies: [{uri: 'urn:x', code: {system: 'urn:x', code: A}, decision: deny}]}",
        "spec.citedPolicies[0]",
        "named by uri or by code",
    ),
    (
        "ConsentPolicy",
        "{citedPolicies: [{code: {code: A}, decision: deny}]}",
        "spec.citedPolicies[0]",
        "needs its system",
    ),
    (
        "ConsentPolicy",
        "{modules: [{code: {code: A}, action: [{code: access}]}]}",
        "spec.modules[0]",
        "needs its system",
    ),
    ("ConsentPolicy", "{actorRoles: [{role: {code: X}, as: reader}]}", "spec.actorRoles[0].as", "supported values"),
];

/// Kind, spec, merge patch, field and part of the message of the refusal.
pub type RefusedChange = (&'static str, &'static str, &'static str, &'static str, &'static str);

pub const REFUSED_CHANGES: &[RefusedChange] = &[
    ("Hospital", HOSPITAL, "{mspId: OtherMSP}", "spec.mspId", "mspId is immutable"),
    (
        "Hospital",
        HOSPITAL,
        "{signingCa: {secretRef: {name: ca}}}",
        "spec",
        "signingCa cannot be added or removed later",
    ),
    (
        "Hospital",
        "{mspId: MercyMSP, signingCa: {secretRef: {name: ca}}}",
        "{signingCa: null}",
        "spec",
        "signingCa cannot be added or removed later",
    ),
    ("Hospital", HOSPITAL, "{tlsCa: {secretRef: {name: ca}}}", "spec", "tlsCa cannot be added or removed later"),
    ("Orderer", ORDERER, "{hospitalRef: {name: other}}", "spec.hospitalRef", "hospitalRef is immutable"),
    ("Orderer", ORDERER, "{storage: {size: 5Gi}}", "spec.storage", "storage cannot shrink"),
    ("Orderer", ORDERER, "{storage: {storageClassName: fast}}", "spec.storage", "storageClassName is immutable"),
    ("Peer", PEER, "{hospitalRef: {name: other}}", "spec.hospitalRef", "hospitalRef is immutable"),
    ("Peer", PEER, "{stateDatabase: CouchDB}", "spec.stateDatabase", "stateDatabase is immutable"),
    ("Peer", PEER, "{storage: {size: 1Mi}}", "spec.storage", "storage cannot shrink"),
    (
        "Peer",
        "{hospitalRef: {name: mercy}, stateDatabase: CouchDB, couchdb: {storage: {size: 5Gi}}}",
        "{couchdb: {storage: {size: 4Gi}}}",
        "spec.couchdb.storage",
        "storage cannot shrink",
    ),
    ("Channel", CHANNEL, "{channelName: other}", "spec.channelName", "channelName is immutable"),
    (
        "Channel",
        CHANNEL,
        "{consensus: {type: BFT, orderers: [o1, o2, o3, o4]}}",
        "spec.consensus.type",
        "consensus type is immutable",
    ),
    ("Identity", IDENTITY, "{hospitalRef: {name: other}}", "spec.hospitalRef", "hospitalRef is immutable"),
    ("Identity", IDENTITY, "{type: admin}", "spec.type", "type is immutable"),
    ("Identity", IDENTITY, "{secretName: other}", "spec", "secretName is immutable"),
    ("Chaincode", CHAINCODE, "{channelRef: {name: other}}", "spec.channelRef", "channelRef is immutable"),
    ("Chaincode", CHAINCODE, "{chaincodeName: other}", "spec", "chaincodeName is immutable"),
    ("Chaincode", CHAINCODE, "{collections: [{name: records}]}", "spec.collections", "cannot be removed or renamed"),
    (
        "Chaincode",
        CHAINCODE,
        "{collections: [{name: records}, {name: trial, blockToLive: 10}]}",
        "spec.collections[1].blockToLive",
        "blockToLive is immutable",
    ),
    (
        "ConsentPolicy",
        CONSENT,
        "{retention: {privateCollection: other}}",
        "spec.retention",
        "privateCollection is immutable",
    ),
    ("ConsentPolicy", CONSENT, "{retention: {blockToLive: 11}}", "spec.retention", "blockToLive is immutable"),
    ("ConsentPolicy", CONSENT, "{retention: null}", "spec.retention", "privateCollection is immutable"),
];

/// Kind, spec and merge patch of a change that must be possible on a live network.
pub const ALLOWED_CHANGES: &[(&str, &str, &str)] = &[
    ("Hospital", HOSPITAL, "{displayName: Mercy General}"),
    ("Hospital", HOSPITAL, "{pki: {leaf: {validity: 48h, renewBefore: 24h}}}"),
    ("Hospital", "{mspId: MercyMSP, signingCa: {secretRef: {name: ca}}}", "{signingCa: {secretRef: {name: ca-2}}}"),
    ("Orderer", ORDERER, "{storage: {size: 20Gi}}"),
    ("Peer", PEER, "{channels: [care, research], anchor: false}"),
    ("Peer", "{hospitalRef: {name: mercy}, stateDatabase: CouchDB}", "{couchdb: {resources: {limits: {memory: 1Gi}}}}"),
    ("Channel", CHANNEL, "{members: [mercy, clinic], batch: {maxMessageCount: 10}}"),
    ("Channel", CHANNEL, "{consensus: {orderers: [o1, o2, o3, o4, o5]}}"),
    ("Identity", IDENTITY, "{attributes: {ehr.role: nurse}, certificate: {validity: 48h, renewBefore: 24h}}"),
    ("Chaincode", CHAINCODE, "{version: '2.0', endorsement: {anyOf: [mercy]}, image: {reference: 'r/contract:2'}}"),
    (
        "Chaincode",
        "{channelRef: {name: care}, collections: [{name: records}]}",
        "{collections: [{name: audit, requiredPeerCount: 1}, {name: records, members: [mercy]}]}",
    ),
    ("ConsentPolicy", CONSENT, "{basePolicy: basic-normal, combining: newest-wins, template: null}"),
    ("ConsentPolicy", "{}", "{retention: {privateCollection: consents, blockToLive: 10}}"),
];
