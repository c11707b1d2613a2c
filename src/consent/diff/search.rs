//! The search for a request that one policy permits and the other denies. It looks at every request, at most of them many at a
//! time: as soon as what is known of some tells that both policies decide alike, the rest of them makes no difference.

use super::model::{Model, Situation};
use super::pairs::{Pair, Pairs};
use crate::rules::RuleDecision;

/// Which difference is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Permitted by the new policy and not by the old.
    Widened,
    /// Permitted by the old policy and not by the new.
    Narrowed,
}

impl Direction {
    fn wants(self, (old, new): Pair) -> bool {
        let (before, after) = (old == RuleDecision::Permit, new == RuleDecision::Permit);
        match self {
            Self::Widened => after && !before,
            Self::Narrowed => before && !after,
        }
    }
}

/// What came out of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is one.
    One,
    /// There is none.
    None,
    /// Not all requests were looked at.
    Unfinished,
}

/// One search.
pub struct Search<'s, 'c> {
    /// Both policies.
    pub model: &'s Model<'c>,
    /// What all requests have in common.
    pub situation: &'s Situation,
    /// What is looked for.
    pub direction: Direction,
    /// Items of which the first has to have a say, and the others must not; nothing if any may.
    pub through: &'s [usize],
    /// Steps that may still be taken.
    pub steps: &'s mut u64,
}

impl Search<'_, '_> {
    /// Whether there is a request, among those of an assignment, that makes the difference and that `accept` takes.
    pub fn find(
        &mut self,
        assignment: &mut Vec<Option<usize>>,
        accept: &mut dyn FnMut(&[Option<usize>]) -> bool,
    ) -> Found {
        let Some(left) = self.steps.checked_sub(1) else { return Found::Unfinished };
        *self.steps = left;
        let possible = self.model.possible(self.situation, assignment);
        let wants = |pair| self.direction.wants(pair);
        if !possible.pairs.any(wants) || !self.may_go_through(assignment) {
            return Found::None;
        }
        let Some((differs, literal)) =
            possible.next.filter(|_| !possible.pairs.iter().all(wants) || !self.through.is_empty())
        else {
            return if accept(assignment) { Found::One } else { Found::None };
        };
        // What differs has to have a say, and what both policies say best has none.
        let mut values: Vec<usize> = (0..literal.holds.len()).collect();
        values.sort_by_key(|value| literal.holds[*value] != differs);
        let mut result = Found::None;
        for value in values {
            assignment[literal.variable] = Some(value);
            match self.find(assignment, accept) {
                Found::None => {}
                other => result = other,
            }
            if result != Found::None {
                break;
            }
        }
        assignment[literal.variable] = None;
        result
    }

    fn may_go_through(&self, assignment: &[Option<usize>]) -> bool {
        let said_by = |item: &usize| self.model.said_by(*item, self.situation, assignment);
        self.through.split_first().is_none_or(|(item, others)| {
            said_by(item) != Pairs::SILENT && others.iter().all(|other| said_by(other).may_be_silent())
        })
    }
}
