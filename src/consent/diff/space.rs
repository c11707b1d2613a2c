//! The space of all requests, as far as anything that decides can tell two of them apart.
//!
//! A request is an assignment of values to variables: its purpose, its action, whether the requester has this name, whether
//! the record has that code. What an element of a provision asks is a [`Condition`] on variables, of which every truth value was
//! computed by the code that matches real requests. After that, values between which no condition tells are one value
//! ([`Space::reduce`]), and what is left is finite.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::mentions::ANY_OTHER;
use crate::Request;
use crate::context::ProvisionContext;

/// The policy of before, or the one to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before.
    Old,
    /// To come.
    New,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Old, Self::New];
}

/// Place of a variable in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Why.
    Purpose,
    /// What is done.
    Action,
    /// Whether anything is known of who asks.
    Requester,
    /// Why the glass is broken.
    Justification,
    /// The requester.
    Id,
    /// The requester's MSP.
    Msp,
    /// The requester's role.
    Role,
    /// Whether a list of facts about the requester is known at all: `groups`, `identifiers` or `attributes`.
    Known(&'static str),
    /// A group that the requester is in.
    Group,
    /// A business identifier that the requester has.
    Identifier,
    /// An attribute of the requester's certificate.
    Attribute(String),
    /// A kind of the record.
    Class,
    /// A code of the record's content.
    Code,
    /// The record's confidentiality codes.
    Confidentiality,
    /// Another label of the record.
    Label,
    /// The record.
    Record,
    /// Whether the record is linked to the one that this names. No request says it: only the store of records knows.
    Linked,
    /// Somebody who wrote the record.
    Author,
    /// When the record was written.
    Written,
    /// The moment of the decision.
    Now,
}

impl Slot {
    /// Whether it is about who asks.
    fn is_of_requester(&self) -> bool {
        use Slot::{Attribute, Group, Id, Identifier, Known, Msp, Requester, Role};
        matches!(self, Requester | Id | Msp | Role | Known(_) | Group | Identifier | Attribute(_))
    }

    /// Puts one value into a request; null is that there is none, which is known of lists, and of nothing else.
    fn put(&self, request: &mut Value, value: &Value) {
        let given = !value.is_null();
        match self {
            Self::Purpose if given => request["purpose"] = value.clone(),
            Self::Action if given => request["action"] = value.clone(),
            Self::Justification if given => request["breakGlass"]["justification"] = value.clone(),
            Self::Requester if !given => request["actor"] = Value::Null,
            Self::Id => request["actor"]["id"] = value.clone(),
            Self::Msp => request["actor"]["mspId"] = value.clone(),
            Self::Role => request["actor"]["role"] = value.clone(),
            Self::Known(list) if !given => request["actor"][*list] = Value::Null,
            Self::Group if given => push(&mut request["actor"]["groups"], value),
            Self::Identifier if given => push(&mut request["actor"]["identifiers"], value),
            Self::Attribute(name) if given => request["actor"]["attributes"][name.as_str()] = value.clone(),
            Self::Record if given => request["resource"]["id"] = value.clone(),
            Self::Written if given => request["resource"]["authoredOn"] = value.clone(),
            Self::Class => push(&mut request["resource"]["class"], value),
            Self::Code => push(&mut request["resource"]["codes"], value),
            Self::Author => push(&mut request["resource"]["author"], value),
            Self::Confidentiality | Self::Label => {
                let labels = &mut request["resource"]["securityLabels"];
                push(labels, &Value::Null);
                let all = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
                all.iter().for_each(|label| push(labels, label));
            }
            _ => {}
        }
    }
}

/// Somebody of whom everything is known, and nothing mentioned.
fn anybody() -> Value {
    json!({
        "id": format!("Practitioner/{ANY_OTHER}"), "mspId": "AnyOtherMSP", "role": ANY_OTHER, "groups": [], "identifiers": [],
        "attributes": {},
    })
}

/// Adds an entry to a list, which is there also without any.
fn push(list: &mut Value, entry: &Value) {
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(entries) = list.as_array_mut().filter(|_| !entry.is_null()) {
        entries.push(entry.clone());
    }
}

/// A variable with its values. The first value is what an example says where nothing depends on it.
#[derive(Clone, Debug)]
struct Variable {
    slot: Slot,
    values: Vec<Choice>,
}

#[derive(Clone, Debug)]
struct Choice {
    json: Value,
    /// A request that says this and nothing else, as each policy reads it.
    requests: [Request; 2],
}

/// That a variable has one of the values for which `holds` is true.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Literal {
    /// Number of the variable.
    pub variable: usize,
    /// For each value.
    pub holds: Vec<bool>,
}

/// Any of these, of which each is all of its literals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition(pub Vec<Vec<Literal>>);

/// Values of variables, by the number of each; none where it is still open.
pub type Assignment = [Option<usize>];

/// The variables and the conditions on them.
#[derive(Clone, Debug)]
pub struct Space<'c> {
    contexts: [&'c ProvisionContext; 2],
    variables: Vec<Variable>,
    conditions: Vec<Condition>,
    numbers: BTreeMap<Condition, usize>,
}

impl<'c> Space<'c> {
    /// Of requests that each of the two policies reads with its own context.
    pub fn new(contexts: [&'c ProvisionContext; 2]) -> Self {
        Self { contexts, variables: Vec::new(), conditions: Vec::new(), numbers: BTreeMap::new() }
    }

    /// A variable with those of these values that a request may have; its number.
    pub fn variable(&mut self, slot: Slot, values: impl IntoIterator<Item = Value>) -> usize {
        let mut choices: Vec<Choice> = Vec::new();
        for json in values {
            if let Some(requests) = self.said(&slot, &json, &|_| {})
                && choices.iter().all(|choice| choice.json != json)
            {
                choices.push(Choice { json, requests });
            }
        }
        self.variables.push(Variable { slot, values: choices });
        self.variables.len() - 1
    }

    /// The request that says this, and nothing else but what `change` does to it, as each policy reads it.
    fn said(&self, slot: &Slot, value: &Value, change: &dyn Fn(&mut Value)) -> Option<[Request; 2]> {
        let mut request = if slot.is_of_requester() { json!({"actor": anybody()}) } else { json!({}) };
        slot.put(&mut request, value);
        change(&mut request);
        let [old, new] = self.contexts.map(|context| Request::parse(&request, context).ok());
        old.zip(new).map(|(old, new)| [old, new])
    }

    /// A variable for each value: whether it is among those of a list.
    pub fn variables(&mut self, slot: &Slot, values: impl IntoIterator<Item = Value>) -> Vec<usize> {
        let mut numbers = Vec::new();
        for value in values {
            let number = self.variable(slot.clone(), [Value::Null, value]);
            if self.variables[number].values.len() == 2 { numbers.push(number) } else { drop(self.variables.pop()) }
        }
        numbers
    }

    /// Number of variables.
    pub fn len(&self) -> usize {
        self.variables.len()
    }

    /// Number of values of a variable.
    pub fn values(&self, variable: usize) -> usize {
        self.variables[variable].values.len()
    }

    /// That a request which says nothing but the value of this variable is one that `holds` is true for.
    pub fn literal(&self, variable: usize, side: Side, holds: impl Fn(&Request) -> bool) -> Literal {
        let values = &self.variables[variable].values;
        Literal { variable, holds: values.iter().map(|choice| holds(&choice.requests[side as usize])).collect() }
    }

    /// The same of requests with what `change` does to them.
    pub fn literal_with(
        &self,
        variable: usize,
        side: Side,
        change: &dyn Fn(&mut Value),
        holds: impl Fn(&Request) -> bool,
    ) -> Literal {
        let Variable { slot, values } = &self.variables[variable];
        let said = values.iter().map(|choice| self.said(slot, &choice.json, change));
        Literal { variable, holds: said.map(|said| said.is_some_and(|said| holds(&said[side as usize]))).collect() }
    }

    /// That a variable has a value that `holds` is true for.
    pub fn literal_of_value(&self, variable: usize, holds: impl Fn(&Value) -> bool) -> Literal {
        let values = &self.variables[variable].values;
        Literal { variable, holds: values.iter().map(|choice| holds(&choice.json)).collect() }
    }

    /// Any of these variables has a value that `holds` is true for.
    pub fn any(&self, variables: &[usize], side: Side, holds: impl Fn(&Request) -> bool) -> Vec<Vec<Literal>> {
        variables.iter().map(|variable| vec![self.literal(*variable, side, &holds)]).collect()
    }

    /// The number of the condition that one of these holds, of which each is all of its literals.
    pub fn condition(&mut self, clauses: Vec<Vec<Literal>>) -> usize {
        let condition = simplified(clauses);
        if let Some(number) = self.numbers.get(&condition) {
            return *number;
        }
        self.numbers.insert(condition.clone(), self.conditions.len());
        self.conditions.push(condition);
        self.conditions.len() - 1
    }

    /// Whether a condition holds; none while that is open.
    pub fn holds(&self, condition: usize, assignment: &Assignment) -> Option<bool> {
        let mut result = Some(false);
        for clause in &self.conditions[condition].0 {
            match clause_holds(clause, assignment) {
                Some(true) => return Some(true),
                None => result = None,
                Some(false) => {}
            }
        }
        result
    }

    /// A literal on which an open condition still depends.
    pub fn open(&self, condition: usize, assignment: &Assignment) -> Option<&Literal> {
        let clauses = self.conditions[condition].0.iter();
        let mut open = clauses.filter(|clause| clause_holds(clause, assignment).is_none());
        open.next()?.iter().find(|literal| assignment[literal.variable].is_none())
    }

    /// The request that an assignment stands for, about this patient, and its moment.
    pub fn request(&self, assignment: &Assignment, patient: &Value) -> (Value, Option<Timestamp>) {
        let mut request = json!({"actor": anybody()});
        let mut now = None;
        if !patient.is_null() {
            request["patient"] = patient.clone();
        }
        let said = self.variables.iter().zip(assignment);
        let said = said.filter_map(|(variable, value)| {
            Some((&variable.slot, &variable.values.get(value.unwrap_or_default())?.json))
        });
        // What is not known at all is said last: it takes back what else is said of it.
        let of_all = |slot: &Slot| matches!(slot, Slot::Known(_)) as u8 + 2 * matches!(slot, Slot::Requester) as u8;
        let mut said: Vec<(&Slot, &Value)> = said.collect();
        said.sort_by_key(|(slot, _)| of_all(slot));
        for (slot, value) in said {
            match slot {
                Slot::Now => now = value.as_str().and_then(|text| text.parse().ok()),
                slot => slot.put(&mut request, value),
            }
        }
        (request, now)
    }

    /// What an assignment says of links of the record, which no request can say.
    pub fn links(&self, assignment: &Assignment) -> Vec<Value> {
        let linked = self.variables.iter().zip(assignment).filter(|(variable, _)| variable.slot == Slot::Linked);
        linked.filter(|(_, value)| **value == Some(1)).map(|(variable, _)| variable.values[1].json.clone()).collect()
    }

    /// Makes one of values that no condition tells apart, and leaves out members of lists that others stand for.
    pub fn reduce(&mut self) {
        for variable in 0..self.variables.len() {
            self.merge_values(variable);
        }
        self.leave_out_members();
        self.conditions = std::mem::take(&mut self.conditions).into_iter().map(|one| simplified(one.0)).collect();
        self.numbers.clear();
    }

    fn merge_values(&mut self, variable: usize) {
        let columns: Vec<Vec<bool>> = (0..self.variables[variable].values.len())
            .map(|value| self.literals(variable).map(|literal| literal.holds[value]).collect())
            .collect();
        let mut kept: Vec<usize> = Vec::new();
        let mut seen = BTreeSet::new();
        kept.extend((0..columns.len()).filter(|value| seen.insert(&columns[*value])));
        let values = &self.variables[variable].values;
        self.variables[variable].values = kept.iter().map(|value| values[*value].clone()).collect();
        for literal in self.literals_mut().filter(|literal| literal.variable == variable) {
            literal.holds = kept.iter().map(|value| literal.holds[*value]).collect();
        }
    }

    /// A member of a list brings about what the others of it together bring about whose effects are among its own, or it does
    /// not. If it does, it is left out: lists with these others stand for those with it.
    fn leave_out_members(&mut self) {
        let mut effects: BTreeMap<usize, BTreeSet<Effect>> = BTreeMap::new();
        for (number, condition) in self.conditions.iter().enumerate() {
            for clause in &condition.0 {
                for literal in clause.iter().filter(|literal| literal.holds.len() == 2) {
                    let others = clause.iter().filter(|other| other.variable != literal.variable);
                    let effect = match literal.holds[1] {
                        true => Effect::Holds(number, others.cloned().collect()),
                        false => Effect::Prevents(number),
                    };
                    effects.entry(literal.variable).or_default().insert(effect);
                }
            }
        }
        let slots: Vec<Slot> = self.variables.iter().map(|variable| variable.slot.clone()).collect();
        let listed = |slot: &Slot| {
            matches!(slot, Slot::Group | Slot::Identifier | Slot::Class | Slot::Code | Slot::Label | Slot::Author)
        };
        let members: Vec<usize> = effects.keys().copied().filter(|member| listed(&slots[*member])).collect();
        for member in members.into_iter().rev() {
            let own = effects[&member].clone();
            let same_list = effects.iter().filter(|(other, _)| **other != member && slots[**other] == slots[member]);
            let below = same_list.filter(|(_, effect)| effect.is_subset(&own));
            let together: BTreeSet<&Effect> = below.flat_map(|(_, effect)| effect).collect();
            if own.iter().all(|effect| together.contains(effect)) {
                effects.remove(&member);
                self.variables[member].values.truncate(1);
                for literal in self.literals_mut().filter(|literal| literal.variable == member) {
                    literal.holds.truncate(1);
                }
            }
        }
    }

    fn literals(&self, variable: usize) -> impl Iterator<Item = &Literal> {
        let all = self.conditions.iter().flat_map(|condition| condition.0.iter().flatten());
        all.filter(move |literal| literal.variable == variable)
    }

    fn literals_mut(&mut self) -> impl Iterator<Item = &mut Literal> {
        self.conditions.iter_mut().flat_map(|condition| condition.0.iter_mut().flatten())
    }
}

/// What a member of a list does to a condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// With these literals it makes the condition hold.
    Holds(usize, Vec<Literal>),
    /// It stands against the condition.
    Prevents(usize),
}

fn clause_holds(clause: &[Literal], assignment: &Assignment) -> Option<bool> {
    let mut result = Some(true);
    for literal in clause {
        match assignment[literal.variable] {
            Some(value) if literal.holds[value] => {}
            Some(_) => return Some(false),
            None => result = None,
        }
    }
    result
}

/// Without literals that always hold and clauses that never do.
fn simplified(clauses: Vec<Vec<Literal>>) -> Condition {
    let possible = |clause: &Vec<Literal>| clause.iter().all(|literal| literal.holds.contains(&true));
    let mut clauses: Vec<Vec<Literal>> = clauses.into_iter().filter(possible).collect();
    for clause in &mut clauses {
        clause.retain(|literal| literal.holds.contains(&false));
        clause.sort();
    }
    if clauses.iter().any(Vec::is_empty) {
        clauses = vec![Vec::new()];
    }
    clauses.sort();
    clauses.dedup();
    Condition(clauses)
}
