//! Both policies over one space of requests: what they decide as far as a request is known.
//!
//! The layers are those of [`crate::evaluate`]: overriding provisions, break-glass, consents, base policy. Here they are evaluated with
//! variables open, and give every pair of decisions that is still possible.

use super::conditions::{Axes, Conditions, Tree};
use super::pairs::{Pair, Pairs};
use super::space::{Assignment, Literal, Side};
use crate::evaluate::{BreakGlass, Unconsented};
use crate::policy::Policy;
use crate::rules::RuleDecision;
use crate::subject::Standing;
use crate::vocabulary::{Combining, ProvisionType};

/// A provision of the overriding ones, or a whole consent, with which policies it is there.
#[derive(Debug)]
pub struct Item {
    /// Under the old policy, and under the new.
    pub under: [bool; 2],
    /// What it says.
    pub tree: Tree,
    /// When a consent holds as a whole, besides the period of its root.
    pub period: [Vec<usize>; 2],
    /// Which consent it is; none of an overriding provision.
    pub consent: Option<usize>,
}

/// What the consents say.
#[derive(Clone, Debug)]
pub enum Consented {
    /// Any consents: these pairs.
    Any(Pairs),
    /// The items with these numbers, in groups of which the earlier one outweighs the later, or the stricter one counts, as each policy
    /// has it.
    Tied(Vec<Vec<usize>>),
    /// The same, under each policy in groups of its own.
    Untied([Vec<Vec<usize>>; 2]),
}

/// What is the same for all requests that are looked at together: those of one purpose by those who may, or may not, break the glass.
#[derive(Clone, Debug)]
pub struct Situation {
    /// What the request has to do with break-glass.
    pub break_glass: [BreakGlass; 2],
    /// What holds without a consent.
    pub unconsented: [Unconsented; 2],
    /// Whether the policy decides such requests at all; all others are denied.
    pub decides: [bool; 2],
    /// What the consents say.
    pub consented: Consented,
    /// What each item counts for.
    pub standing: Vec<[Standing; 2]>,
}

/// Both policies.
#[derive(Debug)]
pub struct Model<'c> {
    /// Requests.
    pub axes: Axes<'c>,
    /// The policies.
    pub policies: [&'c Policy; 2],
    /// Everything that decides but the base policies.
    pub items: Vec<Item>,
    /// What base policies permit at most.
    pub ceilings: [usize; 2],
    /// That a device asks.
    pub device: usize,
    /// That somebody asks who is denied everything.
    pub refused: Option<usize>,
}

/// What is possible, and what it depends on next.
#[derive(Debug)]
pub struct Possible<'m> {
    /// What both decide.
    pub pairs: Pairs,
    /// The literal to settle next: whether it belongs to what differs, and itself.
    pub next: Option<(bool, &'m Literal)>,
}

/// An evaluation of the model.
struct View<'m, 'a, 'c> {
    model: &'m Model<'c>,
    situation: &'a Situation,
    assignment: &'a Assignment,
    open: Option<(bool, &'m Literal)>,
    noted: Option<(bool, &'m Literal)>,
}

impl<'c> Model<'c> {
    /// What both policies may decide of the requests of an assignment.
    pub fn possible<'m>(&'m self, situation: &Situation, assignment: &Assignment) -> Possible<'m> {
        let mut view = View { model: self, situation, assignment, open: None, noted: None };
        let pairs = view.pairs();
        Possible { pairs, next: view.open }
    }

    /// What one item may say.
    pub fn said_by(&self, item: usize, situation: &Situation, assignment: &Assignment) -> Pairs {
        View { model: self, situation, assignment, open: None, noted: None }.item(item)
    }

    /// Whether an item may say different things under the two policies.
    pub fn differs(&self, item: usize, situation: &Situation) -> bool {
        let Item { tree, period, .. } = &self.items[item];
        self.differs_throughout(item, situation) || period[0] != period[1] || !tree.is_one()
    }

    /// Whether all of an item may, and not only some conditions in it.
    fn differs_throughout(&self, item: usize, situation: &Situation) -> bool {
        let Item { under, tree, consent, .. } = &self.items[item];
        let [old, new] = situation.standing[item];
        let glass = consent.is_some() && situation.break_glass[0] != situation.break_glass[1];
        under[0] != under[1] || old != new || glass && tree_depends_on_glass(tree)
    }
}

fn tree_depends_on_glass(tree: &Tree) -> bool {
    tree.effect == ProvisionType::Permit || tree.named || tree.children.iter().any(tree_depends_on_glass)
}

impl<'m> View<'m, '_, '_> {
    fn pairs(&mut self) -> Pairs {
        if self.model.refused.is_some_and(|refused| self.holds(refused, false) == Some(true)) {
            return Pairs::one((RuleDecision::Deny, RuleDecision::Deny));
        }
        self.noted = None;
        let overriding: Vec<usize> =
            (0..self.model.items.len()).filter(|item| self.model.items[*item].consent.is_none()).collect();
        let overriding = self.together(&overriding);
        let result = if overriding.hides() { overriding } else { self.below().under(overriding) };
        let decides = self.situation.decides;
        let unless = |decides: bool, decision| if decides { decision } else { RuleDecision::Deny };
        result.map(|(old, new)| (unless(decides[0], old), unless(decides[1], new)))
    }

    /// Consents, break-glass and base policy.
    fn below(&mut self) -> Pairs {
        let Situation { break_glass, consented, .. } = self.situation;
        let consented = match consented {
            Consented::Any(pairs) => *pairs,
            Consented::Tied(groups) => self.consents(groups),
            Consented::Untied(groups) => {
                let [old, new] = groups.each_ref().map(|groups| self.consents(groups));
                old.untied(new)
            }
        };
        let [old, new] = self.model.policies;
        let broken = |policy, glass: BreakGlass, decision| match glass.outweighs(policy, decision) {
            true => RuleDecision::Permit,
            false => decision,
        };
        let consented =
            consented.map(|(one, other)| (broken(old, break_glass[0], one), broken(new, break_glass[1], other)));
        if consented.hides() { consented } else { self.base().under(consented) }
    }

    fn consents(&mut self, groups: &[Vec<usize>]) -> Pairs {
        let counts = self.model.policies.map(|policy| policy.combining == Combining::NewestWins);
        groups.iter().rev().fold(Pairs::SILENT, |older, group| older.beside(self.together(group), counts))
    }

    /// Items of equal standing; those that differ first, for it is on them that a difference depends.
    fn together(&mut self, items: &[usize]) -> Pairs {
        let mut all = Pairs::SILENT;
        for differs in [true, false] {
            for item in items.iter().filter(|item| self.model.differs(**item, self.situation) == differs) {
                let said = self.item(*item);
                if said.is_open() {
                    self.settle(self.model.differs_throughout(*item, self.situation));
                }
                all = all.strictest(said);
            }
        }
        all
    }

    /// Puts forward what was found open, unless something better was.
    fn settle(&mut self, differs: bool) {
        if let Some((own, literal)) = self.noted.take()
            && self.open.is_none_or(|(before, _)| !before && (differs || own))
        {
            self.open = Some((differs || own, literal));
        }
    }

    fn base(&mut self) -> Pairs {
        let (model, unconsented) = (self.model, self.situation.unconsented);
        self.noted = None;
        let device = self.holds(model.device, false);
        let ceilings = model.ceilings.map(|ceiling| self.holds(ceiling, false));
        let permits = |side: usize, device: bool, covered: bool| match unconsented[side] {
            Unconsented::Deny => RuleDecision::Deny,
            Unconsented::BreakGlass => RuleDecision::Permit,
            Unconsented::UpToNormal if covered && !device => RuleDecision::Permit,
            Unconsented::UpToNormal => RuleDecision::Deny,
        };
        let mut pairs = Vec::new();
        for device in both_if_open(device) {
            for old in both_if_open(ceilings[0]) {
                let same = model.ceilings[0] == model.ceilings[1];
                let news = if same { vec![old] } else { both_if_open(ceilings[1]) };
                pairs.extend(news.into_iter().map(|new| (permits(0, device, old), permits(1, device, new))));
            }
        }
        let pairs = Pairs::of(pairs);
        if pairs.is_open() {
            self.settle(unconsented[0] != unconsented[1] || model.ceilings[0] != model.ceilings[1]);
        }
        pairs
    }

    fn item(&mut self, number: usize) -> Pairs {
        self.noted = None;
        let item = &self.model.items[number];
        match item.consent {
            None => self.subtree(&item.tree, number),
            Some(_) => self.consent(item, number),
        }
    }

    /// What `decision` says under each policy for which the item is there.
    fn pair(&self, item: usize, decision: impl Fn(usize) -> Option<RuleDecision>) -> Pair {
        let under = self.model.items[item].under;
        let say = |side: usize| decision(side).filter(|_| under[side]).unwrap_or(RuleDecision::NotApplicable);
        (say(Side::Old as usize), say(Side::New as usize))
    }

    /// What a provision that matches decides.
    fn decided(&self, tree: &Tree, item: usize, side: usize) -> Option<RuleDecision> {
        let consent = self.model.items[item].consent.is_some();
        let glass = if consent { self.situation.break_glass[side] } else { BreakGlass::NotAsked };
        glass.decided_by(tree.effect, consent && tree.named, self.situation.standing[item][side])
    }

    fn subtree(&mut self, tree: &'m Tree, item: usize) -> Pairs {
        let children = self.children(tree, item);
        if children.hides() {
            return children;
        }
        let all = |one: &'m Conditions| [&one.asked, &one.period, &one.grantee, &one.data];
        let matches = self.both(item, tree.conditions.each_ref().map(all));
        let says =
            |matches: [bool; 2]| self.pair(item, |side| self.decided(tree, item, side).filter(|_| matches[side]));
        Pairs::of(matches.into_iter().map(says)).under(children)
    }

    fn children(&mut self, tree: &'m Tree, item: usize) -> Pairs {
        tree.children.iter().fold(Pairs::SILENT, |all, child| all.strictest(self.subtree(child, item)))
    }

    /// A whole consent: a root that permits also denies what is outside the data it names.
    fn consent(&mut self, item: &'m Item, number: usize) -> Pairs {
        let tree = &item.tree;
        let periods = [0, 1].map(|side: usize| [&item.period[side], &tree.conditions[side].period]);
        let in_force = self.both(number, periods);
        if in_force == [[false; 2]] {
            return Pairs::SILENT;
        }
        let children = self.children(tree, number);
        let own = if children.hides() { Pairs::SILENT } else { self.root(tree, number) };
        let says = own.under(children);
        let while_in_force = |in_force: [bool; 2]| {
            let nothing = RuleDecision::NotApplicable;
            let say = |side: usize, decision| if in_force[side] { decision } else { nothing };
            says.map(|(old, new)| (say(0, old), say(1, new)))
        };
        in_force.into_iter().map(while_in_force).fold(Pairs::of([]), Pairs::or)
    }

    fn root(&mut self, tree: &'m Tree, item: usize) -> Pairs {
        let [old, new] = &tree.conditions;
        let asked = self.both(item, [[&old.asked], [&new.asked]]);
        if asked == [[false; 2]] {
            return Pairs::SILENT;
        }
        let grantees = self.both(item, [[&old.grantee], [&new.grantee]]);
        let abouts = self.both(item, [[&old.data], [&new.data]]);
        let mut pairs = Vec::new();
        for asked in asked {
            for grantee in &grantees {
                let says = |about: [bool; 2]| {
                    self.pair(item, |side| {
                        self.root_says(tree, (item, side), grantee[side], about[side]).filter(|_| asked[side])
                    })
                };
                pairs.extend(abouts.iter().map(|about| says(*about)));
            }
        }
        Pairs::of(pairs)
    }

    /// What a root says of a request that it is asked for.
    fn root_says(&self, tree: &Tree, (item, side): (usize, usize), grantee: bool, about: bool) -> Option<RuleDecision> {
        let decided = self.decided(tree, item, side).filter(|_| grantee);
        let powerless = match self.situation.standing[item][side] {
            Standing::Withholds => true,
            Standing::Permits => !grantee,
            Standing::Elsewhere => false,
        };
        let leaves_out = tree.effect == ProvisionType::Permit && (decided.is_some() || powerless);
        if about { decided } else { leaves_out.then_some(RuleDecision::Deny) }
    }

    /// Whether all these conditions hold under each policy, in every way that is still possible. What both policies ask holds
    /// under both or under neither.
    fn both<const N: usize>(&mut self, item: usize, conditions: [[&'m Vec<usize>; N]; 2]) -> Vec<[bool; 2]> {
        let [old, new] = conditions;
        match self.model.items[item].under {
            [true, false] => self.all(old.into_iter().flatten(), false).map(|holds| [holds; 2]).collect(),
            [false, true] => self.all(new.into_iter().flatten(), false).map(|holds| [holds; 2]).collect(),
            [false, false] => vec![[false; 2]],
            [true, true] if old == new => self.all(old.into_iter().flatten(), false).map(|holds| [holds; 2]).collect(),
            [true, true] => {
                let in_one =
                    |one: usize, other: [&'m Vec<usize>; N]| other.into_iter().flatten().any(|two| *two == one);
                let shared: Vec<usize> = old.into_iter().flatten().copied().filter(|one| in_one(*one, new)).collect();
                let of_old: Vec<usize> = old.into_iter().flatten().copied().filter(|one| !in_one(*one, new)).collect();
                let of_new: Vec<usize> = new.into_iter().flatten().copied().filter(|one| !in_one(*one, old)).collect();
                let shared = self.all(&shared, false);
                let (old, new): (Vec<bool>, Vec<bool>) =
                    (self.all(&of_old, true).collect(), self.all(&of_new, true).collect());
                let mut ways = Vec::new();
                for shared in shared {
                    for old in &old {
                        ways.extend(new.iter().map(|new| [shared && *old, shared && *new]));
                    }
                }
                ways.dedup();
                ways
            }
        }
    }

    /// Whether all of these conditions hold, or both ways if that is open.
    fn all<'i>(&mut self, conditions: impl IntoIterator<Item = &'i usize>, differs: bool) -> std::vec::IntoIter<bool> {
        let before = self.noted;
        let mut result = Some(true);
        for condition in conditions {
            match self.holds(*condition, differs) {
                Some(true) => {}
                Some(false) => {
                    // What else is open makes no difference.
                    self.noted = before;
                    result = Some(false);
                    break;
                }
                None => result = None,
            }
        }
        both_if_open(result).into_iter()
    }

    fn holds(&mut self, condition: usize, differs: bool) -> Option<bool> {
        let space = &self.model.axes.space;
        let holds = space.holds(condition, self.assignment);
        if holds.is_none() && self.noted.is_none_or(|(before, _)| !before && differs) {
            self.noted = space.open(condition, self.assignment).map(|literal| (differs, literal));
        }
        holds
    }
}

fn both_if_open(holds: Option<bool>) -> Vec<bool> {
    holds.map_or_else(|| vec![true, false], |holds| vec![holds])
}
