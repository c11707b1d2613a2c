//! What the policies and consents mention: from it come the values that requests are made of.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::conditions::DEVICE;
use crate::code::Code;
use crate::evaluate::BREAK_GLASS_ATTRIBUTE;
use crate::reference::ACTOR_TYPES;
use crate::time::Period;
use crate::tree::{ActorRule, DataRule, Node, Who};
use crate::vocabulary::code_systems::{CodedElement, OPEN_SYSTEMS};
use crate::vocabulary::{CodeSystemSpec, Identifier, systems};

/// A value that nothing mentions.
pub const ANY_OTHER: &str = "any-other";
/// A system that nobody knows.
const UNKNOWN_SYSTEM: &str = "urn:example:any-other";
/// A server that nothing mentions.
const UNKNOWN_SERVER: &str = "https://any-other.example/fhir";

/// Codes with the systems that they are written with.
type Codes = BTreeSet<(Option<String>, String)>;

/// What requesters may be known by.
#[derive(Debug)]
pub struct Names {
    /// `Type/id`.
    pub ids: Vec<String>,
    /// The same of groups.
    pub groups: Vec<String>,
    /// MSP identifiers.
    pub msps: Vec<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Business identifiers.
    pub identifiers: Vec<Value>,
    /// Values of attributes, by their names.
    pub attributes: BTreeMap<String, Vec<String>>,
}

/// Everything that is mentioned.
#[derive(Debug, Default)]
pub struct Mentions {
    /// Purposes.
    pub purposes: Codes,
    /// Actions.
    pub actions: Codes,
    /// Kinds of records and documents.
    pub classes: Codes,
    /// Contents.
    pub codes: Codes,
    /// Labels.
    pub labels: Codes,
    /// Who asks.
    pub actors: Vec<ActorRule>,
    /// Records and authors.
    pub data: Vec<DataRule>,
    /// When records were written.
    pub data_periods: Vec<Period>,
    /// When rules hold.
    pub periods: Vec<Period>,
    /// Code systems that a policy declares, under all their names.
    pub systems: BTreeSet<String>,
    /// Codes that a policy declares, of which a mentioned one may be another spelling.
    declared: BTreeSet<String>,
}

fn add<T: Clone + PartialEq>(entries: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !entries.contains(one) {
            entries.push(one.clone());
        }
    }
}

fn written(codes: &[Code]) -> impl Iterator<Item = (Option<String>, String)> {
    codes.iter().map(|code| (code.system.clone(), code.code.clone()))
}

impl Mentions {
    /// What a provision mentions, with all below it.
    pub fn gather(&mut self, node: &Node) {
        let elements = &node.elements;
        let entries =
            |list: &Option<std::sync::Arc<[Code]>>| written(list.as_deref().unwrap_or_default()).collect::<Vec<_>>();
        self.purposes.extend(entries(&elements.purpose));
        self.actions.extend(entries(&elements.action));
        self.classes.extend(entries(&elements.class));
        self.classes.extend(entries(&elements.document_type));
        self.codes.extend(entries(&elements.code));
        self.labels.extend(elements.labels.iter().flat_map(|labels| written(&labels.codes)));
        for actors in elements.actor.iter().chain(&elements.grantee) {
            add(&mut self.actors, actors);
        }
        for data in elements.data.iter().chain(&elements.author) {
            add(&mut self.data, data);
        }
        add(&mut self.data_periods, elements.data_period.as_deref().map_or(&[], std::slice::from_ref));
        add(&mut self.periods, elements.period.as_deref().map_or(&[], std::slice::from_ref));
        node.children.iter().for_each(|child| self.gather(child));
    }

    /// The code systems that a policy declares.
    pub fn declare(&mut self, declared: &[CodeSystemSpec]) {
        for system in declared {
            self.systems.insert(system.url.clone());
            self.systems.extend(system.aliases.iter().cloned());
            self.declared.extend(system.codes.iter().cloned());
        }
    }

    /// Every way to name one of these codes that could make a difference, the plainest first.
    pub fn spellings(&self, codes: &Codes) -> Vec<Value> {
        let coding = |system: &str, code: &str| json!({"system": system, "code": code});
        let mut spellings: Vec<Value> = Vec::new();
        spellings.extend(
            codes.iter().map(|(system, code)| system.as_ref().map_or(json!(code), |system| coding(system, code))),
        );
        let closed = || CodedElement::ALL.iter().flat_map(|element| element.closed_systems());
        let known =
            systems::ALIASES.iter().map(|(system, _)| *system).chain(OPEN_SYSTEMS.iter().map(|(system, _)| *system));
        let mut systems: BTreeSet<&str> = known.chain(closed().map(|(system, _)| *system)).collect();
        systems.extend(self.systems.iter().map(String::as_str));
        systems.extend(codes.iter().filter_map(|(system, _)| system.as_deref()));
        let texts: BTreeSet<&str> = codes.iter().map(|(_, code)| code.as_str()).collect();
        let listed =
            closed().flat_map(|(_, codes)| codes.iter().copied()).chain(self.declared.iter().map(String::as_str));
        let folded: BTreeSet<String> = texts.iter().map(|text| text.to_ascii_lowercase()).collect();
        let alike = listed.filter(|code| folded.contains(&code.to_ascii_lowercase()));
        let mut all: BTreeSet<String> = texts.iter().copied().chain(alike).map(str::to_owned).collect();
        all.extend(texts.iter().flat_map(|text| [text.to_ascii_lowercase(), text.to_ascii_uppercase()]));
        for text in &all {
            spellings.push(json!(text));
            spellings.extend(systems.iter().map(|system| coding(system, text)));
            spellings.push(coding(UNKNOWN_SYSTEM, text));
        }
        spellings
    }

    /// A label that is no code that anybody defined.
    pub fn undefined_label() -> Value {
        json!({"system": UNKNOWN_SYSTEM, "code": ANY_OTHER})
    }

    /// The ways to name this record, or who wrote it: with and without the server, and as another type with the same id.
    pub fn references<'r>(reference: &'r str, key: &'r str, types: &[&str]) -> Vec<String> {
        let id = key.rsplit('/').next().unwrap_or(key);
        let mut names = vec![reference.to_owned(), key.to_owned(), format!("{UNKNOWN_SERVER}/{key}")];
        let server = reference.strip_suffix(key).unwrap_or_default();
        // Upper and lower case of a server are no difference to a denial.
        names.push(format!("{}{key}", server.to_ascii_uppercase()));
        for kind in types {
            names.push(format!("{kind}/{id}"));
            names.push(format!("{UNKNOWN_SERVER}/{kind}/{id}"));
            names.push(format!("{server}{kind}/{id}"));
        }
        names
    }

    /// Everybody who could have written a record, of whom policies name `organizations` and their MSPs.
    pub fn authors(&self, organizations: impl Iterator<Item = String>) -> Vec<Value> {
        let mut names: Vec<String> = Vec::new();
        let mut msps: Vec<String> = Vec::new();
        for rule in &self.data {
            let Ok(target) = &rule.target else { continue };
            names.extend(Self::references(&rule.reference, &target.key, ACTOR_TYPES));
            msps.extend(target.key.rsplit('/').next().map(str::to_owned));
            msps.extend(rule.msp_id.clone());
        }
        for name in organizations {
            names.push(format!("{UNKNOWN_SERVER}/{name}"));
            names.push(name);
        }
        let in_any_case = |name: String| [name.to_ascii_lowercase(), name.to_ascii_uppercase(), name];
        names.extend(msps.into_iter().flat_map(in_any_case));
        let others = ["Organization", "Practitioner"].map(|kind| format!("{kind}/{ANY_OTHER}"));
        names.into_iter().chain(others).chain([ANY_OTHER.to_owned()]).map(Value::from).collect()
    }

    /// Every record that could make a difference.
    pub fn records(&self) -> Vec<Value> {
        let mut names: Vec<String> = vec![format!("Observation/{ANY_OTHER}")];
        let kinds: BTreeSet<&str> =
            self.data.iter().filter_map(|rule| Some(rule.target.as_ref().ok()?.key.split_once('/')?.0)).collect();
        // A type that FHIR has, and one that it has not.
        let kinds: Vec<&str> = kinds.into_iter().chain(["Observation", "Condition", "AnyOther"]).collect();
        for rule in &self.data {
            if let Ok(target) = &rule.target {
                names.extend(Self::references(&rule.reference, &target.key, &kinds));
            }
        }
        names.into_iter().map(Value::from).collect()
    }

    /// Everything that a requester may be known by.
    pub fn requesters<'g>(&self, groups: impl Iterator<Item = &'g str>) -> Names {
        let other = |kind: &str| format!("{kind}/{ANY_OTHER}");
        let mut names = Names {
            ids: vec![other("Practitioner"), other("Device")],
            groups: groups.map(str::to_owned).collect(),
            msps: vec!["AnyOtherMSP".to_owned()],
            roles: vec![ANY_OTHER.to_owned(), DEVICE.to_owned()],
            identifiers: Vec::new(),
            attributes: BTreeMap::from([(BREAK_GLASS_ATTRIBUTE.to_owned(), vec!["true".to_owned()])]),
        };
        names.ids.extend(ACTOR_TYPES.iter().map(|kind| other(kind)));
        let in_any_case = |name: &str| [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()];
        let mut identifiers = Vec::new();
        for rule in &self.actors {
            match &rule.who {
                Who::Reference { key, msp_id } => {
                    // A name without a type is an MSP's or a role, and to a denial anybody's.
                    let (kind, id) = key.split_once('/').unwrap_or(("Group", key));
                    names.ids.extend(in_any_case(id).map(|id| format!("{kind}/{id}")));
                    names.groups.extend(in_any_case(id).map(|id| format!("{kind}/{id}")));
                    names.msps.extend(in_any_case(id));
                    names.roles.push(id.to_ascii_lowercase());
                    names.msps.extend(msp_id.iter().flat_map(|msp_id| in_any_case(msp_id)));
                }
                Who::Msp(msp_id) => names.msps.extend(in_any_case(msp_id)),
                Who::Attribute(one) => names.attributes.entry(one.name.clone()).or_default().push(one.value.clone()),
                Who::Identifier(identifier) => identifiers.push(identifier),
                Who::AnyoneInRole | Who::Nobody(_) => {}
            }
            let role = rule.role.iter().flat_map(|role| [role.code.clone(), role.code.to_ascii_lowercase()]);
            names.roles.extend(role);
        }
        names.groups.push(other("Device"));
        names.identifiers = self.identifiers(identifiers.into_iter());
        names
    }

    /// Business identifiers, under all names of declared systems.
    fn identifiers<'a>(&self, mentioned: impl Iterator<Item = &'a Identifier>) -> Vec<Value> {
        let of = |identifier: &'a Identifier| {
            // To a denial the case of a system makes no difference.
            let own = &identifier.system;
            let own = [own.clone(), own.to_ascii_lowercase(), own.to_ascii_uppercase()];
            let systems: Vec<String> = own.into_iter().chain(self.systems.iter().cloned()).collect();
            systems.into_iter().map(|system| json!({"system": system, "value": identifier.value}))
        };
        mentioned.flat_map(of).collect()
    }

    /// Days, months, years and moments, one of each kind that the periods tell apart.
    pub fn written(&self, zones: [&TimeZone; 2], now: Timestamp) -> Vec<Value> {
        let mut texts = vec![day(now, zones[0])];
        for moment in self.data_periods.iter().flat_map(|period| moments(period, Timestamp::MIN)) {
            let before = moment.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(moment);
            for at in [moment, before] {
                for zone in zones {
                    let day = day(at, zone);
                    texts.extend([10, 7, 4].iter().filter_map(|length| day.get(..*length).map(str::to_owned)));
                }
                texts.extend((0..=9).map(|digits| format!("{at:.digits$}")));
            }
        }
        texts.into_iter().map(Value::from).collect()
    }

    /// `now`, and every later moment at which a rule begins or ends.
    pub fn moments(&self, now: Timestamp) -> Vec<Value> {
        let later: BTreeSet<Timestamp> = self.periods.iter().flat_map(|period| moments(period, now)).collect();
        std::iter::once(now).chain(later).map(|moment| json!(moment.to_string())).collect()
    }
}

fn day(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).date().to_string()
}

/// The moments after `from` at which a period begins or ends.
fn moments(period: &Period, from: Timestamp) -> impl Iterator<Item = Timestamp> {
    std::iter::successors(period.next_change(from), |moment| period.next_change(*moment))
}
