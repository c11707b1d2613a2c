//! All requests about one patient, situation by situation: purpose by purpose, by those who may break the glass and by those who
//! may not.

use serde_json::{Value, json};

use super::answers::{Asked, Example, Shown, in_scope, of_scope, scope_of};
use super::conditions::{Axes, Frame, Tree};
use super::mentions::Mentions;
use super::model::{Consented, Item, Model, Situation};
use super::search::{Found, Search};
use super::space::Side;
use super::unsaid::{any_consents, samples};
use super::{Document, Question};
use crate::Request;
use crate::evaluate::{BREAK_GLASS_ATTRIBUTE, BreakGlass, MAX_CONSENTS, Unconsented, by_age, newest_first};
use crate::fhir::{self, Consent};
use crate::policy::Policy;
use crate::reference::Subject;
use crate::request::is_research;
use crate::subject::Standing;
use crate::vocabulary::{Coding, Combining, PolicySpec};

/// Steps that a search for one more example may take.
const FURTHER_STEPS: u64 = 10_000;

/// Two policies, as they decide about one patient.
pub struct Comparison<'q> {
    question: &'q Question<'q>,
    patient: &'q Value,
    documents: Vec<&'q Document>,
    model: Model<'q>,
    /// Variables that tell who may break the glass.
    breakers: Vec<usize>,
}

impl<'q> Comparison<'q> {
    /// About requests for this patient, who gave the consents with these numbers.
    pub fn new(question: &'q Question<'q>, patient: &'q Value, numbers: &[usize]) -> Self {
        let policies = [question.old, question.new];
        let documents: Vec<&Document> =
            numbers.iter().map(|number| &question.documents.unwrap_or_default()[*number]).collect();
        let mut mentions = Mentions::default();
        for policy in policies {
            policy.overriding.iter().for_each(|node| mentions.gather(node));
            mentions.declare(&spec(policy).code_systems);
        }
        for read in documents.iter().flat_map(|document| &document.read) {
            mentions.gather(&read.root);
            mentions.periods.extend(read.period.clone());
        }
        mentions.purposes.extend(
            policies.iter().flat_map(|policy| policy.break_glass.purposes.iter().map(|code| (None, code.clone()))),
        );
        mentions.purposes.extend(["TREAT", "HRESCH", "BIORCH"].map(|code| (None, code.to_owned())));
        let mut axes = Axes::new(policies, &mentions, Frame { now: question.now, certified: question.ledger });
        let items = items(&mut axes, policies, &documents, patient);
        let ceilings =
            [axes.ceiling(&policies[0].base_ceiling, Side::Old), axes.ceiling(&policies[1].base_ceiling, Side::New)];
        let device = axes.device();
        let refused = question.ledger.then(|| axes.device_by_role());
        let groups = policies.iter().filter_map(|policy| policy.break_glass.group.as_ref());
        let mut breakers = axes.breakers(groups);
        keep_apart(&mut axes, policies);
        axes.space.reduce();
        breakers.retain(|variable| axes.space.values(*variable) > 1);
        let model = Model { axes, policies, items, ceilings, device, refused };
        Self { question, patient, documents, model, breakers }
    }

    /// Why a search would prove nothing.
    pub fn doubts(&self) -> impl Iterator<Item = &'static str> {
        let inexact = "a code system is one of confidentiality codes under one policy only";
        let too_many = "a patient has more consents than are decided by";
        let doubts = [(!self.model.axes.exact, inexact), (self.documents.len() > MAX_CONSENTS, too_many)];
        doubts.into_iter().filter(|(holds, _)| *holds).map(|(_, doubt)| doubt)
    }

    /// Looks at all requests.
    pub fn search(&self, asked: &mut Asked, steps: &mut u64) -> Found {
        let axes = &self.model.axes;
        let mut first = vec![axes.purpose];
        first.extend(axes.requester);
        let newest = self.model.policies.iter().any(|policy| policy.combining == Combining::NewestWins);
        if newest && !self.documents.is_empty() {
            first.push(axes.now);
        }
        let mut found = Found::None;
        for start in self.assignments(&first, vec![None; axes.space.len()]) {
            let starts =
                if self.may_break_glass(&start) { self.assignments(&self.breakers, start) } else { vec![start] };
            for mut start in starts {
                match self.one_situation(&mut start, asked, steps) {
                    Found::None => {}
                    Found::One => found = Found::One,
                    Found::Unfinished => return Found::Unfinished,
                }
            }
        }
        found
    }

    /// Whether anybody could break the glass, or be refused to, for this purpose.
    fn may_break_glass(&self, start: &[Option<usize>]) -> bool {
        let (request, _) = self.model.axes.space.request(start, self.patient);
        self.glass(&request).iter().any(|glass| *glass != BreakGlass::NotAsked)
    }

    fn glass(&self, request: &Value) -> [BreakGlass; 2] {
        self.model.policies.map(|policy| {
            let request = Request::parse(request, policy.context());
            request.map_or(BreakGlass::NotAsked, |request| BreakGlass::of(policy, &request))
        })
    }

    /// Every assignment of values to these variables.
    fn assignments(&self, variables: &[usize], start: Vec<Option<usize>>) -> Vec<Vec<Option<usize>>> {
        let mut all = vec![start];
        for variable in variables {
            let with = |assignment: &Vec<Option<usize>>, value| {
                let mut assignment = assignment.clone();
                assignment[*variable] = Some(value);
                assignment
            };
            let values = 0..self.model.axes.space.values(*variable);
            all = all.iter().flat_map(|one| values.clone().map(move |value| with(one, value))).collect();
        }
        all
    }

    fn one_situation(&self, start: &mut Vec<Option<usize>>, asked: &mut Asked, steps: &mut u64) -> Found {
        let situation = self.situation(start);
        let direction = asked.direction;
        let mut unshown = false;
        let mut find = |start: &mut Vec<Option<usize>>, through: &[usize], steps: &mut u64, asked: &mut Asked| {
            let mut search = Search { model: &self.model, situation: &situation, direction, through, steps };
            search.find(start, &mut |assignment| match self.try_out(assignment, asked) {
                Shown::First | Shown::Again => true,
                Shown::Not => {
                    unshown = true;
                    false
                }
            })
        };
        let found = find(start, &[], steps, asked);
        if found == Found::One {
            // What each thing that differs changes alone is what people want to know.
            let items = 0..self.model.items.len();
            let mut differing: Vec<usize> = items.filter(|item| self.model.differs(*item, &situation)).collect();
            for at in 0..differing.len() {
                differing.swap(0, at);
                let mut further = FURTHER_STEPS.min(*steps);
                let before = further;
                find(start, &differing, &mut further, asked);
                *steps -= before - further;
            }
        }
        if unshown {
            asked.doubt("a difference that seems possible could not be shown by an example");
        }
        found
    }

    fn patient(&self) -> Option<Subject> {
        self.patient.as_str().and_then(Subject::parse)
    }

    /// What all requests of an assignment have in common.
    fn situation(&self, start: &[Option<usize>]) -> Situation {
        let (request, _) = self.model.axes.space.request(start, self.patient);
        let asked = Request::parse(&request, &Default::default()).unwrap_or_default();
        let scope = scope_of(&asked);
        let glass = self.glass(&request);
        let policies = self.model.policies;
        let unconsented = [0, 1].map(|side| {
            let policy = if self.question.ledger { of_scope(policies[side], scope) } else { policies[side].clone() };
            let request = Request::parse(&request, policy.context()).unwrap_or_default();
            Unconsented::of(&policy, &request, glass[side])
        });
        let standing = self.model.items.iter().map(|item| {
            let Some(number) = item.consent else { return [Standing::Permits; 2] };
            [0, 1].map(|side| {
                let read = &self.documents[number].read[side];
                let standing = match self.question.ledger {
                    true => policies[side].standing(&in_scope(read.clone(), scope)),
                    false => policies[side].standing(read),
                };
                let unnamed =
                    self.patient().is_some_and(|asked| !read.patient.as_ref().is_some_and(|own| asked.is(own)));
                if unnamed && standing == Standing::Permits { Standing::Withholds } else { standing }
            })
        });
        let combining = policies.map(|policy| policy.combining);
        let consented = match self.question.documents {
            None => Consented::Any(any_consents(glass, combining)),
            Some(_) => {
                let mut groups = [0, 1].map(|side| self.groups(side, start));
                // Where the strictest counts, they may be in any groups.
                for (side, other) in [(0, 1), (1, 0)] {
                    if combining[side] == Combining::DenyOverrides {
                        groups[side] = self.grouped_as(&groups[other], &groups[side]);
                    }
                }
                let tied = same_order(&groups, &self.model.items);
                if tied { Consented::Tied(merged(&groups)) } else { Consented::Untied(groups) }
            }
        };
        let decides = policies.map(|policy| !self.question.ledger || policy.decides(scope));
        Situation { break_glass: glass, unconsented, decides, consented, standing: standing.collect() }
    }

    /// The consents of one policy, in groups of which each outweighs the next.
    fn groups(&self, side: usize, start: &[Option<usize>]) -> Vec<Vec<usize>> {
        let items = &self.model.items;
        let there = (0..items.len()).filter(|item| items[*item].under[side] && items[*item].consent.is_some());
        let space = &self.model.axes.space;
        let in_force = |item: &usize| {
            let mut periods = items[*item].period[side].iter().chain(&items[*item].tree.conditions[side].period);
            periods.all(|period| space.holds(*period, start) != Some(false))
        };
        let in_force = there.filter(in_force);
        if self.model.policies[side].combining == Combining::DenyOverrides {
            return vec![in_force.collect()];
        }
        let read = |item: usize| items[item].consent.map(|number| (item, &self.documents[number].read[side]));
        let pairs: Vec<(usize, &Consent)> = in_force.filter_map(read).collect();
        let mut consents: Vec<&Consent> = pairs.iter().map(|(_, consent)| *consent).collect();
        newest_first(&mut consents);
        let number =
            |consent: &&Consent| pairs.iter().find(|(_, other)| std::ptr::eq(*other, *consent)).map(|(item, _)| *item);
        by_age(&consents).into_iter().map(|group| group.iter().filter_map(number).collect()).collect()
    }

    /// The same items of a policy in the groups of the other one, those that it does not have last.
    fn grouped_as(&self, groups: &[Vec<usize>], own: &[Vec<usize>]) -> Vec<Vec<usize>> {
        let items = &self.model.items;
        let mut rest: Vec<usize> = own.concat();
        let mut grouped: Vec<Vec<usize>> = groups.iter().map(|_| Vec::new()).collect();
        for (group, own) in groups.iter().zip(&mut grouped) {
            let of_group = |item: &usize| group.iter().any(|other| items[*other].consent == items[*item].consent);
            own.extend(rest.iter().copied().filter(of_group));
            rest.retain(|item| !own.contains(item));
        }
        if !rest.is_empty() {
            grouped.push(rest);
        }
        grouped
    }

    /// Asks the evaluator.
    fn try_out(&self, assignment: &[Option<usize>], asked: &mut Asked) -> Shown {
        let space = &self.model.axes.space;
        let (request, at) = space.request(assignment, self.patient);
        let at = at.unwrap_or(self.question.now);
        let example = |with| Example { request: request.clone(), at, linked_to: space.links(assignment), with };
        if self.question.documents.is_some() {
            let [old, new] = [0, 1]
                .map(|side| self.documents.iter().map(|document| document.read[side].clone()).collect::<Vec<_>>());
            return asked.shows(example(None), [&old, &new]);
        }
        let parsed = Request::parse(&request, &Default::default()).unwrap_or_default();
        let category: Option<Coding> = spec(self.question.new).category.first().cloned();
        for (with, documents) in samples(&request["patient"], &request["purpose"], scope_of(&parsed), category.as_ref())
        {
            let [old, new] = self.model.policies.map(|policy| {
                documents.iter().filter_map(|json| fhir::read(json, None, policy.context()).ok()).collect::<Vec<_>>()
            });
            let shown = asked.shows(example(Some(with)), [&old, &new]);
            if shown != Shown::Not {
                return shown;
            }
        }
        Shown::Not
    }
}

fn spec(policy: &Policy) -> PolicySpec {
    serde_json::from_str(policy.canonical_json()).unwrap_or_default()
}

/// What decides, each once if both policies have it.
fn items(axes: &mut Axes, policies: [&Policy; 2], documents: &[&Document], patient: &Value) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut rest: Vec<Tree> = policies[1].overriding.iter().map(|node| axes.tree(node, Side::New)).collect();
    for node in &policies[0].overriding {
        let old = axes.tree(node, Side::Old);
        let same = rest.iter().position(|new| old.beside(new).is_some_and(|both| both.is_one()));
        let both = same.and_then(|at| old.beside(&rest.remove(at)));
        let under = [true, both.is_some()];
        items.push(Item { under, tree: both.unwrap_or(old), period: Default::default(), consent: None });
    }
    let new = |tree| Item { under: [false, true], tree, period: Default::default(), consent: None };
    items.extend(rest.into_iter().map(new));
    let patient = patient.as_str().and_then(Subject::parse);
    for (number, document) in documents.iter().enumerate() {
        let mut of = |side: Side| {
            let read = &document.read[side as usize];
            let meets = |own: &Subject| patient.as_ref().is_none_or(|patient| patient.may_be(own));
            let there = read.active && read.patient.as_ref().is_none_or(meets);
            let period: Vec<usize> = read.period.iter().map(|period| axes.holds_now(period)).collect();
            there.then(|| (axes.tree(&read.root, side), period))
        };
        let (old, new) = (of(Side::Old), of(Side::New));
        let both = old.as_ref().zip(new.as_ref()).and_then(|((old, _), (new, _))| old.beside(new));
        let periods = [&old, &new].map(|read| read.as_ref().map(|(_, period)| period.clone()).unwrap_or_default());
        let item = |under, tree| Item { under, tree, period: periods.clone(), consent: Some(number) };
        match both {
            Some(both) => items.push(item([true; 2], both)),
            None => {
                items.extend(old.map(|(tree, _)| item([true, false], tree)));
                items.extend(new.map(|(tree, _)| item([false, true], tree)));
            }
        }
    }
    items
}

/// Keeps requests apart that mean another situation.
fn keep_apart(axes: &mut Axes, policies: [&Policy; 2]) {
    for (side, policy) in Side::BOTH.into_iter().zip(policies) {
        let attributes = json!({"attributes": {BREAK_GLASS_ATTRIBUTE: "true"}, "role": "any-other"});
        let actor =
            Request::parse(&json!({"actor": attributes}), policy.context()).ok().and_then(|request| request.actor);
        axes.tell_purposes_apart(side, |request| BreakGlass::of(policy, request) != BreakGlass::NotAsked);
        axes.tell_purposes_apart(side, |request| {
            let request = Request { actor: actor.clone(), ..request.clone() };
            Unconsented::of(policy, &request, BreakGlass::NotAsked) != Unconsented::Deny
        });
        axes.tell_purposes_apart(side, |request| request.purpose.as_ref().is_some_and(is_research));
    }
}

/// The items of both policies, group by group.
fn merged(groups: &[Vec<Vec<usize>>; 2]) -> Vec<Vec<usize>> {
    let both = |(old, new): (&Vec<usize>, &Vec<usize>)| {
        let only_new = new.iter().filter(|item| !old.contains(item));
        old.iter().chain(only_new).copied().collect()
    };
    groups[0].iter().zip(&groups[1]).map(both).collect()
}

/// Whether the groups of both policies are of the same consents in the same order.
fn same_order(groups: &[Vec<Vec<usize>>; 2], items: &[Item]) -> bool {
    let consents = |groups: &[Vec<usize>]| -> Vec<Vec<Option<usize>>> {
        groups.iter().map(|group| group.iter().map(|item| items[*item].consent).collect()).collect()
    };
    consents(&groups[0]) == consents(&groups[1])
}
