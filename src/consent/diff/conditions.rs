//! What each element of a provision asks of a request, as a condition in the space of requests. Every truth value comes from the
//! code that matches real requests.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::mentions::{ANY_OTHER, Mentions};
use super::space::{Literal, Side, Slot, Space};
use crate::code::{Code, Labels};
use crate::context::ProvisionContext;
use crate::evaluate::BREAK_GLASS_ATTRIBUTE;
use crate::matching::{is_meant, one_data};
use crate::policy::Policy;
use crate::request::{Request, Requester};
use crate::time::Period;
use crate::tree::{ActorRule, DataRule, Elements, Node, Who};
use crate::vocabulary::code_systems::CONFIDENTIALITY_CODES;
use crate::vocabulary::{DataMeaning, ProvisionType};

/// Role of devices, which read nothing on the ledger.
pub const DEVICE: &str = "device";

/// A provision as conditions, under each policy that has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// Permit or deny.
    pub effect: ProvisionType,
    /// Whether it names purposes.
    pub named: bool,
    /// What must match.
    pub conditions: [Conditions; 2],
    /// Nested provisions.
    pub children: Vec<Tree>,
}

/// What must match, element by element. Without any, everything does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Why, who and what.
    pub asked: Vec<usize>,
    /// When it holds.
    pub period: Vec<usize>,
    /// Who is permitted at all.
    pub grantee: Vec<usize>,
    /// Of the record.
    pub data: Vec<usize>,
}

impl Tree {
    /// This provision of the old policy and that of the new one as one, if they are nested alike.
    pub fn beside(&self, new: &Self) -> Option<Self> {
        let alike = (self.effect, self.named, self.children.len()) == (new.effect, new.named, new.children.len());
        let mut children = self.children.iter().zip(&new.children);
        let children =
            if alike { children.by_ref().map(|(old, new)| old.beside(new)).collect::<Option<Vec<_>>>() } else { None };
        let [old, _] = self.conditions.clone();
        let [_, new] = new.conditions.clone();
        children.map(|children| Self { conditions: [old, new], children, ..self.clone() })
    }

    /// Whether it says the same under both policies.
    pub fn is_one(&self) -> bool {
        self.conditions[0] == self.conditions[1] && self.children.iter().all(Self::is_one)
    }
}

/// The space with its variables by what they are of.
#[derive(Debug)]
pub struct Axes<'c> {
    /// The space.
    pub space: Space<'c>,
    /// Why.
    pub purpose: usize,
    /// Whether anything is known of who asks: the second value is that nothing is. None where it always is.
    pub requester: Option<usize>,
    /// Why the glass is broken.
    pub justification: usize,
    /// The attribute of those who may break it.
    pub breaks: usize,
    /// When.
    pub now: usize,
    action: usize,
    id: usize,
    msp: usize,
    role: usize,
    /// What is listed of the requester: whether the list is known, and its entries.
    lists: [(usize, Vec<usize>); 3],
    classes: Vec<usize>,
    codes: Vec<usize>,
    confidentiality: usize,
    labels: Vec<usize>,
    record: usize,
    linked: BTreeMap<String, usize>,
    authors: Vec<usize>,
    written: usize,
    /// Whether every difference between requests is among the variables.
    pub exact: bool,
}

/// What the requests are like that are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// From when on.
    pub now: Timestamp,
    /// Whether who asks is always known, and why.
    pub certified: bool,
}

impl<'c> Axes<'c> {
    /// Everything that these policies and what is mentioned can tell apart.
    pub fn new(policies: [&'c Policy; 2], mentions: &Mentions, frame: Frame) -> Self {
        let contexts = policies.map(Policy::context);
        let mut space = Space::new(contexts);
        let other = || json!(ANY_OTHER);
        let none = |certified: bool| (!certified).then_some(Value::Null);
        let purposes = [json!("TREAT"), other()].into_iter().chain(none(frame.certified));
        let purpose = space.variable(Slot::Purpose, purposes.chain(mentions.spellings(&mentions.purposes)));
        let actions = [json!("access"), other(), Value::Null].into_iter().chain(mentions.spellings(&mentions.actions));
        let action = space.variable(Slot::Action, actions);
        let requester = (!frame.certified).then(|| space.variable(Slot::Requester, [json!("known"), Value::Null]));
        let justification = space.variable(Slot::Justification, [Value::Null, json!("an emergency")]);
        let mut axes = Self {
            purpose,
            requester,
            justification,
            breaks: 0,
            id: 0,
            msp: 0,
            now: space.variable(Slot::Now, mentions.moments(frame.now)),
            action,
            role: 0,
            lists: Default::default(),
            classes: space.variables(&Slot::Class, mentions.spellings(&mentions.classes)),
            codes: space.variables(&Slot::Code, mentions.spellings(&mentions.codes)),
            confidentiality: space.variable(Slot::Confidentiality, confidentialities()),
            labels: Vec::new(),
            record: space.variable(Slot::Record, mentions.records()),
            linked: BTreeMap::new(),
            authors: space
                .variables(&Slot::Author, mentions.authors(contexts.into_iter().flat_map(known_organizations))),
            written: space.variable(Slot::Written, mentions.written(contexts.map(|context| &context.zone), frame.now)),
            exact: true,
            space,
        };
        axes.requesters(mentions, policies, frame);
        axes.other_labels(mentions);
        axes
    }

    fn requesters(&mut self, mentions: &Mentions, policies: [&Policy; 2], frame: Frame) {
        let space = &mut self.space;
        let unknown = || [Value::Null].into_iter();
        let unless_certified = || (!frame.certified).then_some(Value::Null).into_iter();
        let names = mentions.requesters(policies.iter().filter_map(|policy| policy.break_glass.group.as_deref()));
        self.id = space.variable(Slot::Id, names.ids.into_iter().map(Value::from).chain(unknown()));
        let organizations = organizations(policies.map(Policy::context)).map(|(_, msp_id)| msp_id);
        let msps = names.msps.into_iter().chain(organizations).map(Value::from);
        self.msp = space.variable(Slot::Msp, msps.chain(unless_certified()));
        self.role = space.variable(Slot::Role, names.roles.into_iter().map(Value::from).chain(unknown()));
        let groups = space.variables(&Slot::Group, names.groups.into_iter().map(Value::from));
        let identifiers = space.variables(&Slot::Identifier, names.identifiers);
        let mut attributes = Vec::new();
        for (name, values) in names.attributes {
            let values = unknown().chain(values.into_iter().map(Value::from)).chain([json!(ANY_OTHER)]);
            attributes.push(space.variable(Slot::Attribute(name.clone()), values));
            if name == BREAK_GLASS_ATTRIBUTE {
                self.breaks = attributes[attributes.len() - 1];
            }
        }
        let mut list = |name, entries, null: Option<Value>| {
            (space.variable(Slot::Known(name), [json!("known")].into_iter().chain(null)), entries)
        };
        self.lists = [
            list("groups", groups, Some(Value::Null)),
            list("identifiers", identifiers, unless_certified().next()),
            list("attributes", attributes, unless_certified().next()),
        ];
    }

    /// That the requester is one for whom `holds` is true, where that depends on one fact at a time, or on what is not known.
    fn requester_is(&self, side: Side, holds: impl Fn(&Requester) -> bool) -> Vec<Vec<Literal>> {
        let holds = |request: &Request| request.actor.as_ref().is_some_and(&holds);
        let space = &self.space;
        let mut clauses = space.any(&[self.id, self.msp, self.role], side, holds);
        for (known, entries) in &self.lists {
            let is_known = space.literal_of_value(*known, |value| !value.is_null());
            clauses.push(vec![space.literal(*known, side, holds)]);
            clauses.extend(
                space.any(entries, side, holds).into_iter().map(|clause| [clause, vec![is_known.clone()]].concat()),
            );
        }
        let is_unknown = |variable| space.literal_of_value(variable, Value::is_null);
        let (groups, msp) = (self.lists[0].0, self.msp);
        for unknown in [vec![groups], vec![msp], vec![groups, msp]] {
            let change = |request: &mut Value| {
                for variable in &unknown {
                    let name = if *variable == groups { "groups" } else { "mspId" };
                    request["actor"][name] = Value::Null;
                }
            };
            let of_id = space.literal_with(self.id, side, &change, holds);
            clauses.push(unknown.iter().map(|variable| is_unknown(*variable)).chain([of_id]).collect());
        }
        clauses
    }

    /// Labels but the confidentiality codes.
    fn other_labels(&mut self, mentions: &Mentions) {
        let spellings = mentions.spellings(&mentions.labels).into_iter();
        let all = self.space.variables(&Slot::Label, spellings.chain([Mentions::undefined_label()]));
        let space = &self.space;
        let ranked = |variable: &usize, side| {
            let of = |request: &Request| request.resource.labels.as_ref().is_some_and(|labels| labels.is_ranked());
            space.literal(*variable, side, of).holds[1]
        };
        let differs = all.iter().any(|label| ranked(label, Side::Old) != ranked(label, Side::New));
        // By whatever name, a confidentiality code stands for its rank.
        self.labels = all.into_iter().filter(|label| !ranked(label, Side::Old)).collect();
        self.exact &= !differs;
    }

    /// A provision of one policy, or of a consent as it reads it.
    pub fn tree(&mut self, node: &Node, side: Side) -> Tree {
        let Elements {
            period,
            purpose,
            actor,
            grantee,
            action,
            labels,
            class,
            document_type,
            code,
            data_period,
            data,
            author,
            nothing,
        } = &node.elements;
        let effect = node.effect;
        let mut asked = Vec::new();
        if let Some(codes) = purpose {
            asked.push(self.asked_code(self.purpose, codes, side, effect, |request| request.purpose.as_ref()));
        }
        if let Some(codes) = action {
            asked.push(self.asked_code(self.action, codes, side, effect, |request| request.action.as_ref()));
        }
        asked.extend(actor.as_ref().map(|rules| self.actor(rules, side, effect)));
        let mut about = Vec::new();
        if nothing.is_some() && effect == ProvisionType::Permit {
            about.push(self.space.condition(Vec::new()));
        }
        about.extend(labels.as_ref().map(|labels| self.labelled(labels, side, effect)));
        for codes in class.iter().chain(document_type) {
            let clauses = self.space.any(&self.classes, side, |request| {
                request.resource.class.as_ref().is_some_and(|known| known.any_named(codes, effect))
            });
            about.push(self.space.condition(clauses));
        }
        if let Some(codes) = code {
            let clauses = self.space.any(&self.codes, side, |request| {
                request.resource.codes.as_ref().is_some_and(|known| known.any_named(codes, effect))
            });
            about.push(self.space.condition(clauses));
        }
        if let Some(period) = data_period {
            let within = |on| if effect == ProvisionType::Deny { period.overlaps(on) } else { period.encloses(on) };
            let holds = |request: &Request| request.resource.authored_on.is_some_and(within);
            let literal = self.space.literal(self.written, side, holds);
            about.push(self.space.condition(vec![vec![literal]]));
        }
        for rules in data.iter().chain(author) {
            about.push(self.data(rules, side, effect));
        }
        about.sort_unstable();
        let permitted = grantee.iter().filter(|_| effect == ProvisionType::Permit);
        let grantee = permitted.map(|rules| self.actor(rules, side, effect)).collect();
        let period = period.iter().map(|period| self.holds_now(period)).collect();
        let mut conditions = [Conditions::default(), Conditions::default()];
        conditions[side as usize] = Conditions { asked, period, grantee, data: about };
        let children = node.children.iter().map(|child| self.tree(child, side)).collect();
        Tree { effect, named: purpose.is_some(), conditions, children }
    }

    /// That a period holds at the moment of the decision.
    pub fn holds_now(&mut self, period: &Period) -> usize {
        let at =
            |value: &Value| value.as_str().and_then(|text| text.parse().ok()).is_some_and(|now| period.contains(now));
        let literal = self.space.literal_of_value(self.now, at);
        self.space.condition(vec![vec![literal]])
    }

    /// What is not said a denial takes for meant.
    fn asked_code(
        &mut self,
        variable: usize,
        codes: &[Code],
        side: Side,
        effect: ProvisionType,
        asked: impl Fn(&Request) -> Option<&Code>,
    ) -> usize {
        let unsaid = effect == ProvisionType::Deny;
        let literal = self.space.literal(variable, side, |request| {
            asked(request).map_or(unsaid, |asked| codes.iter().any(|code| asked.names(code, effect)))
        });
        self.space.condition(vec![vec![literal]])
    }

    fn actor(&mut self, rules: &[ActorRule], side: Side, effect: ProvisionType) -> usize {
        let known = self.requester.map(|variable| self.space.literal_of_value(variable, |value| !value.is_null()));
        let mut clauses = Vec::new();
        for rule in rules {
            let in_role = ActorRule { who: Who::AnyoneInRole, role: rule.role.clone() };
            let in_role = self.space.literal(self.role, side, |request| {
                request.actor.as_ref().is_some_and(|requester| is_meant(&in_role, requester, effect))
            });
            let named = ActorRule { who: rule.who.clone(), role: None };
            let named = self.requester_is(side, |requester| is_meant(&named, requester, effect));
            let also: Vec<Literal> = std::iter::once(in_role).chain(known.clone()).collect();
            clauses.extend(named.into_iter().map(|clause| [clause, also.clone()].concat()));
        }
        if effect == ProvisionType::Deny
            && let Some(variable) = self.requester
        {
            clauses.push(vec![self.space.literal_of_value(variable, Value::is_null)]);
        }
        self.space.condition(clauses)
    }

    /// Labels: what the confidentiality codes alone bring about they do unless another label is unclear, for the record then counts
    /// as the most protected.
    fn labelled(&mut self, rule: &Labels, side: Side, effect: ProvisionType) -> usize {
        let space = &self.space;
        let covers =
            |request: &Request| request.resource.labels.as_ref().is_some_and(|labels| rule.covers(labels, effect));
        let unclear = |request: &Request| request.resource.labels.as_ref().is_some_and(|labels| labels.unclear);
        let names = |request: &Request| {
            request.resource.labels.as_ref().is_some_and(|labels| rule.names_one_of(labels, effect))
        };
        let (doubtful, clear): (Vec<usize>, Vec<usize>) =
            self.labels.iter().partition(|label| space.literal(**label, side, unclear).holds[1]);
        let mut clauses = space.any(&clear, side, names);
        let in_doubt = doubtful.iter().map(|label| space.literal(*label, side, covers));
        // A record without the label is not one without labels.
        clauses.extend(in_doubt.map(|literal| vec![Literal { holds: vec![false, literal.holds[1]], ..literal }]));
        clauses.extend(space.any(&[self.confidentiality], side, names));
        let without_doubt = doubtful.iter().map(|label| space.literal(*label, side, |request| !unclear(request)));
        let alone = std::iter::once(space.literal(self.confidentiality, side, covers));
        let floor = rule.declared_by == ProvisionType::Deny;
        clauses.push(if floor { alone.collect() } else { alone.chain(without_doubt).collect() });
        self.space.condition(clauses)
    }

    fn data(&mut self, rules: &[DataRule], side: Side, effect: ProvisionType) -> usize {
        let mut clauses = Vec::new();
        for rule in rules {
            if rule.meaning == DataMeaning::Authoredby {
                clauses.extend(self.written_by(rule, side, effect));
                continue;
            }
            let holds = |request: &Request| one_data(rule, &request.resource, effect) == Some(true);
            clauses.extend(self.space.any(&[self.record], side, holds));
            if matches!(rule.meaning, DataMeaning::Related | DataMeaning::Dependents) && rule.target.is_ok() {
                let space = &mut self.space;
                let name = json!({"meaning": rule.meaning, "reference": rule.reference});
                let linked = self.linked.entry(name.to_string());
                let linked = *linked.or_insert_with(|| space.variable(Slot::Linked, [Value::Null, name]));
                clauses.push(vec![space.literal_of_value(linked, |value| !value.is_null())]);
            }
        }
        self.space.condition(clauses)
    }

    /// That one of the authors is the one of a rule; or, where only people are named, that nobody says which hospital keeps the
    /// record.
    fn written_by(&self, rule: &DataRule, side: Side, effect: ProvisionType) -> Vec<Vec<Literal>> {
        let space = &self.space;
        let by = |rule: &DataRule, request: &Request| one_data(rule, &request.resource, effect) == Some(true);
        let by_author = DataRule { keeps: false, ..rule.clone() };
        let mut clauses = space.any(&self.authors, side, |request| by(&by_author, request));
        let is_hospital =
            |request: &Request| request.resource.author.iter().flatten().any(|author| author.may_be_an_msp());
        let (hospitals, people): (Vec<usize>, Vec<usize>) =
            self.authors.iter().partition(|author| space.literal(**author, side, is_hospital).holds[1]);
        let none: Vec<Literal> =
            hospitals.iter().map(|author| space.literal(*author, side, |request| !is_hospital(request))).collect();
        let alone = space.any(&people, side, |request| by(rule, request));
        clauses.extend(alone.into_iter().map(|clause| [clause, none.clone()].concat()));
        clauses
    }

    /// What the base policy permits at most.
    pub fn ceiling(&mut self, ceiling: &Labels, side: Side) -> usize {
        self.labelled(ceiling, side, ProvisionType::Permit)
    }

    /// That the requester is a device.
    pub fn device(&mut self) -> usize {
        let clauses = self.requester_is(Side::Old, Requester::is_device);
        self.space.condition(clauses)
    }

    /// That the requester's role is the one of devices.
    pub fn device_by_role(&mut self) -> usize {
        let is_device =
            |request: &Request| request.actor.as_ref().is_some_and(|actor| actor.role.as_deref() == Some(DEVICE));
        let literal = self.space.literal(self.role, Side::Old, is_device);
        self.space.condition(vec![vec![literal]])
    }

    /// The variables that tell who may break the glass, by the attribute or as a member of one of these groups. They are kept.
    pub fn breakers<'g>(&mut self, groups: impl Iterator<Item = &'g String>) -> Vec<usize> {
        let mut variables = vec![self.justification, self.breaks, self.lists[0].0, self.lists[2].0];
        for group in groups {
            let is_in = |request: &Request| request.actor.as_ref().is_some_and(|actor| actor.in_group(group));
            let clauses = self.space.any(&self.lists[0].1, Side::Old, is_in);
            let members = self.lists[0].1.iter().zip(&clauses).filter(|(_, clause)| clause[0].holds.contains(&true));
            variables.extend(members.map(|(member, _)| *member));
            self.space.condition(clauses);
        }
        let known = [self.justification, self.lists[0].0, self.lists[2].0];
        let mut kept: Vec<Literal> =
            known.iter().map(|variable| self.space.literal_of_value(*variable, Value::is_null)).collect();
        kept.push(self.space.literal_of_value(self.breaks, |value| value == "true"));
        for literal in kept {
            self.space.condition(vec![vec![literal]]);
        }
        variables
    }

    /// Keeps purposes apart that `differs` does.
    pub fn tell_purposes_apart(&mut self, side: Side, differs: impl Fn(&Request) -> bool) {
        let literal = self.space.literal(self.purpose, side, differs);
        self.space.condition(vec![vec![literal]]);
    }
}

/// MSPs by organisation, of both policies.
fn organizations(contexts: [&ProvisionContext; 2]) -> impl Iterator<Item = (String, String)> {
    contexts.into_iter().flat_map(|context| context.organizations.clone())
}

/// Organisations that a policy names, on their servers, and their MSPs.
fn known_organizations(context: &ProvisionContext) -> impl Iterator<Item = String> {
    let on_servers = context.servers.values().flatten();
    let on_servers =
        on_servers.filter_map(|named| named.server().map(|server| format!("https://{server}/{}", named.key)));
    context.organizations.iter().flat_map(|(name, msp_id)| [name.clone(), msp_id.clone()]).chain(on_servers)
}

/// Every set of confidentiality codes that a record may have, the ordinary ones first.
fn confidentialities() -> Vec<Value> {
    let set = |bits: usize| -> Vec<&str> {
        let codes = CONFIDENTIALITY_CODES.iter().enumerate();
        codes.filter(|(i, _)| bits & (1 << i) != 0).map(|(_, code)| *code).collect()
    };
    let mut sets: Vec<Vec<&str>> = (0..1_usize << CONFIDENTIALITY_CODES.len()).map(set).collect();
    sets.sort_by_key(|codes| (*codes != ["N"], codes.len() != 1, codes.len()));
    sets.into_iter().map(|codes| json!(codes)).collect()
}
