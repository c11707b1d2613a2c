//! From trees of provisions to Cedar policies.
//!
//! A provision decides where it matches and nothing below it applies. So each becomes one policy with the condition
//! "matches, and no child applies", and applies itself where it or anything below does. That strictest decision wins is
//! Cedar's own rule. Layers and newer consents stand above others by a guard: "and nothing above applies".

use ehrnet_consent::vocabulary::code_systems::{ACT_REASON, CONFIDENTIALITY, CONFIDENTIALITY_CODES, CodedElement};
use ehrnet_consent::vocabulary::{BasePolicy, Coding, Combining, DataMeaning, Period, PolicySpec, ProvisionType};
use ehrnet_consent::code::{Code, Labels, Systems};
use ehrnet_consent::subject::Standing;
use ehrnet_consent::tree::{ActorRule, DataRule, Elements, Node, Who};
use ehrnet_consent::time::TimeRange;
use ehrnet_consent::{Consent, Policy};
use jiff::ToSpan;
use jiff::civil::Date;

/// Where the id of an overriding provision begins.
pub const OVERRIDING: &str = "overriding";
/// How the id of the policy ends that denies what is outside the data that a permitting root names.
pub const OUTSIDE: &str = "#outside";
/// Id of the base policy.
pub const BASE: &str = "base";

/// One Cedar policy.
pub struct Rule {
    /// Consent and path of the provision.
    pub id: String,
    effect: ProvisionType,
    condition: String,
}

impl Rule {
    /// The policy in Cedar's syntax.
    pub fn text(&self) -> String {
        let effect = if self.effect == ProvisionType::Permit { "permit" } else { "forbid" };
        format!("{effect}(principal, action, resource) when {{ {} }};", self.condition)
    }
}

/// Rules of equal standing, and where any of them applies.
struct Layer {
    rules: Vec<Rule>,
    applies: String,
}

/// All policies: overriding provisions, consents, base policy.
pub fn rules(consents: &[Consent], policy: &Policy, spec: &PolicySpec) -> Vec<Rule> {
    let overriding: Vec<Layer> = policy.overriding().iter().map(|node| subtree(node, OVERRIDING, true)).collect();
    let above = any(overriding.iter().map(|layer| layer.applies.clone()));
    let layers: Vec<(&Consent, Layer)> =
        consents.iter().filter(|consent| consent.active).map(|consent| (consent, whole(consent, policy))).collect();
    let any_consent = any(layers.iter().map(|(_, layer)| layer.applies.clone()));
    let newer = |consent: &Consent| match spec.combining {
        Combining::DenyOverrides => "false".to_owned(),
        Combining::NewestWins => {
            let dates: Vec<_> = layers.iter().map(|(other, _)| other.date).collect();
            let group = group_of(consent.date, &dates);
            any(layers.iter().filter(|(other, _)| group_of(other.date, &dates) > group).map(|(_, layer)| layer.applies.clone()))
        }
    };
    let guards: Vec<String> = layers.iter().map(|(consent, _)| any([above.clone(), newer(consent)])).collect();
    let mut rules: Vec<Rule> = overriding.into_iter().flat_map(|layer| layer.rules).collect();
    for ((_, layer), guard) in layers.into_iter().zip(guards) {
        let guarded = |rule: Rule| Rule { condition: all([rule.condition, not(&guard)]), ..rule };
        rules.extend(layer.rules.into_iter().map(guarded));
    }
    let permitted = match spec.base_policy {
        BasePolicy::AllNormal => "true".to_owned(),
        BasePolicy::BasicNormal => one_of("context.purpose", &[code(ACT_REASON, "TREAT")]),
        BasePolicy::Deny | BasePolicy::BreakGlassOnly => "false".to_owned(),
    };
    let normal = Labels::new(vec![code(CONFIDENTIALITY, "N")], ProvisionType::Permit);
    let condition = all([permitted, labels(&normal), not(&above), not(&any_consent)]);
    rules.push(Rule { id: BASE.to_owned(), effect: ProvisionType::Permit, condition });
    rules
}

/// How many consents are older than all of the same age as this one; where dates overlap, none is newer, and where one is
/// missing all are of one age.
fn group_of(date: Option<TimeRange>, dates: &[Option<TimeRange>]) -> usize {
    let known: Option<Vec<TimeRange>> = dates.iter().copied().collect();
    let (Some(date), Some(known)) = (date, known) else { return 0 };
    let mut ages = vec![date];
    while let Some(same) = known.iter().find(|one| !ages.contains(one) && ages.iter().any(|other| other.overlaps(one))) {
        ages.push(*same);
    }
    known.iter().filter(|one| ages.iter().all(|of_age| !ages.contains(one) && one.from < of_age.from)).count()
}

/// A consent while it is in force; a root that permits denies what is outside the data it names. What is in no position to
/// permit only denies.
fn whole(consent: &Consent, policy: &Policy) -> Layer {
    let root = &consent.root;
    let standing = policy.standing(consent);
    let mut layer = subtree(root, &consent.digest, standing == Standing::Permits);
    if root.effect == ProvisionType::Permit && standing != Standing::Elsewhere {
        let below = any(root.children.iter().map(|child| subtree(child, "", standing == Standing::Permits).applies));
        let asked = asked(root);
        let condition = all([asked.clone(), not(&about(root)), not(&below)]);
        let id = format!("{}:{}{OUTSIDE}", consent.digest, root.path);
        layer.rules.push(Rule { id, effect: ProvisionType::Deny, condition });
        let denies = all([asked.clone(), not(&about(root))]);
        layer.applies = any([if standing == Standing::Permits { asked } else { denies }, below]);
    }
    let periods = [consent.period.as_ref(), root.elements.period.as_deref()];
    let periods = periods.into_iter().flatten().map(|period| now_in(&period.text));
    let patient = consent.patient.iter().map(|patient| format!("context.patient == {:?}", patient.key));
    let in_force = all(periods.chain(patient));
    for rule in &mut layer.rules {
        rule.condition = all([in_force.clone(), std::mem::take(&mut rule.condition)]);
    }
    Layer { applies: all([in_force, layer.applies]), ..layer }
}

fn subtree(node: &Node, of: &str, may_permit: bool) -> Layer {
    let children: Vec<Layer> = node.children.iter().map(|child| subtree(child, of, may_permit)).collect();
    let below = any(children.iter().map(|child| child.applies.clone()));
    let matches = match node.effect {
        ProvisionType::Permit if !may_permit => "false".to_owned(),
        ProvisionType::Permit | ProvisionType::Deny => all([asked(node), about(node)]),
    };
    let mut rules: Vec<Rule> = children.into_iter().flat_map(|child| child.rules).collect();
    let condition = all([matches.clone(), not(&below)]);
    rules.push(Rule { id: format!("{of}:{}", node.path), effect: node.effect, condition });
    Layer { rules, applies: any([matches, below]) }
}

/// When, why, who and what.
fn asked(node: &Node) -> String {
    let elements: &Elements = &node.elements;
    let period = elements.period.iter().map(|period| now_in(&period.text));
    let purpose = elements.purpose.iter().map(|codes| one_of("context.purpose", codes));
    let action = elements.action.iter().map(|codes| one_of("context.action", codes));
    let grantee = elements.grantee.iter().filter(|_| node.effect == ProvisionType::Permit);
    let actor = elements.actor.iter().chain(grantee).map(|actors| any(actors.iter().map(actor)));
    all(period.chain(purpose).chain(action).chain(actor))
}

/// What the record is.
fn about(node: &Node) -> String {
    let elements: &Elements = &node.elements;
    let label = elements.labels.iter().map(|rule| labels(rule));
    let class = elements.class.iter().chain(&elements.document_type).map(|codes| some_of("resource.class", codes));
    let code = elements.code.iter().map(|codes| some_of("resource.code", codes));
    let written = elements.data_period.iter().map(|period| {
        let (start, end) = bounds(&period.text);
        // In what is permitted all of the time, in what is denied any of it.
        let (begins, ends) = match node.effect {
            ProvisionType::Permit => ("resource.writtenFrom >=", "resource.writtenUntil <="),
            ProvisionType::Deny => ("resource.writtenUntil >", "resource.writtenFrom <"),
        };
        let ends = end.map(|end| format!("{ends} datetime({end:?})"));
        all(start.map(|start| format!("{begins} datetime({start:?})")).into_iter().chain(ends))
    });
    let data = elements.data.iter().chain(&elements.author).map(|data| any(data.iter().map(named)));
    let nothing = elements.nothing.iter().filter(|_| node.effect == ProvisionType::Permit).map(|_| "false".to_owned());
    all(label.chain(class).chain(code).chain(written).chain(data).chain(nothing))
}

fn actor(rule: &ActorRule) -> String {
    let msp = |msp_id: &String| format!("principal.msp == {msp_id:?}");
    let who = match &rule.who {
        Who::Reference { key, msp_id } => {
            any(std::iter::once(format!("principal.names.contains({key:?})")).chain(msp_id.iter().map(msp)))
        }
        Who::Identifier(identifier) => {
            format!("principal.identifiers.contains({:?})", format!("{}|{}", identifier.system, identifier.value))
        }
        Who::Msp(msp_id) => msp(msp_id),
        Who::Attribute(attribute) => {
            format!("principal.attributes.contains({:?})", format!("{}={}", attribute.name, attribute.value))
        }
        Who::AnyoneInRole => "true".to_owned(),
        Who::Nobody(_) => "false".to_owned(),
    };
    let role = rule.role.iter().map(|role| format!("principal.role == {:?}", role.code));
    all(std::iter::once(who).chain(role))
}

fn named(rule: &DataRule) -> String {
    let Ok(target) = &rule.target else { return "false".to_owned() };
    match rule.meaning {
        // What is linked to a record a complete request would have to say; here it is about the record itself.
        DataMeaning::Instance | DataMeaning::Related | DataMeaning::Dependents => {
            format!("resource == Record::{:?}", target.key)
        }
        DataMeaning::Authoredby => {
            let authors = std::iter::once(&target.key).chain(&rule.msp_id);
            any(authors.map(|author| format!("resource.author.contains({author:?})")))
        }
    }
}

/// Confidentiality as sets: a ceiling is "one at or below, and none above", a floor "one at or above".
fn labels(rule: &Labels) -> String {
    let rank = |code: &Code| {
        CONFIDENTIALITY_CODES.iter().position(|known| code.may_be_of(CONFIDENTIALITY) && *known == code.code)
    };
    let (ranked, sensitive): (Vec<&Code>, Vec<&Code>) = rule.codes.iter().partition(|code| rank(code).is_some());
    let has = |known: &[&str]| {
        let codes: Vec<Code> = known.iter().map(|known| code(CONFIDENTIALITY, known)).collect();
        some_of("resource.labels", &codes)
    };
    let ranks = ranked.iter().filter_map(|code| rank(code));
    let confidentiality = match rule.declared_by {
        ProvisionType::Permit => ranks.max().map(|ceiling| {
            let (covered, above) = CONFIDENTIALITY_CODES.split_at(ceiling + 1);
            all([has(covered), not(&has(above))])
        }),
        ProvisionType::Deny => ranks.min().map(|floor| has(&CONFIDENTIALITY_CODES[floor..])),
    };
    let sensitive: Vec<Code> = sensitive.into_iter().cloned().collect();
    any(confidentiality.into_iter().chain([some_of("resource.labels", &sensitive)]))
}

fn code(system: &str, code: &str) -> Code {
    let coding = Coding { system: Some(system.to_owned()), code: code.to_owned(), display: None };
    Systems::default().code(&coding, CodedElement::SecurityLabel)
}

/// The ways in which a request can name one of these codes; none for an empty list, of which Cedar knows no type.
fn tokens(codes: &[Code]) -> Option<String> {
    let bare = codes.iter().map(|code| format!("|{}", code.code));
    let full = codes.iter().filter_map(|code| Some(format!("{}|{}", code.system.as_ref()?, code.code)));
    let tokens: Vec<String> = bare.chain(full).collect();
    (!tokens.is_empty()).then(|| format!("{tokens:?}"))
}

fn one_of(value: &str, codes: &[Code]) -> String {
    tokens(codes).map_or("false".to_owned(), |tokens| format!("{tokens}.contains({value})"))
}

fn some_of(set: &str, codes: &[Code]) -> String {
    tokens(codes).map_or("false".to_owned(), |tokens| format!("{set}.containsAny({tokens})"))
}

fn now_in(period: &Period) -> String {
    let (start, end) = bounds(period);
    let ends = end.map(|end| format!("context.now < datetime({end:?})"));
    all(start.map(|start| format!("context.now >= datetime({start:?})")).into_iter().chain(ends))
}

/// The first day, and the first day after.
fn bounds(period: &Period) -> (Option<String>, Option<String>) {
    (period.start.as_deref().map(|start| days(start).0), period.end.as_deref().map(|end| days(end).1))
}

/// The first day of a FHIR date, and the first day after it.
pub fn days(text: &str) -> (String, String) {
    let first: Date = format!("{text}-01-01")[..10].parse().expect("a date");
    let length = match text.len() {
        4 => 1.year(),
        7 => 1.month(),
        _ => 1.day(),
    };
    (first.to_string(), first.checked_add(length).expect("a later date").to_string())
}

fn all(parts: impl IntoIterator<Item = String>) -> String {
    join(parts, " && ", "true")
}

fn any(parts: impl IntoIterator<Item = String>) -> String {
    join(parts, " || ", "false")
}

/// The parts, each in brackets; `neutral` if there are none.
fn join(parts: impl IntoIterator<Item = String>, operator: &str, neutral: &str) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| part != neutral).map(|part| format!("({part})")).collect();
    if parts.is_empty() { neutral.to_owned() } else { parts.join(operator) }
}

fn not(part: &str) -> String {
    format!("!({part})")
}
