//! What two policies may decide of one request, as a set of pairs: what the one says and what the other says.
//!
//! Pairs, and not two sets, because most of what two versions of a policy say is the same: a rule that both have matches
//! under both or under neither, also while it is open whether it does.

use crate::rules::RuleDecision;

const DECISIONS: [RuleDecision; 4] =
    [RuleDecision::NotApplicable, RuleDecision::Permit, RuleDecision::Deny, RuleDecision::DenyBreakGlass];

/// A decision of the old policy and one of the new.
pub type Pair = (RuleDecision, RuleDecision);

/// A set of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairs(u16);

fn bit((old, new): Pair) -> u16 {
    1 << (4 * old as u16 + new as u16)
}

impl Pairs {
    /// That neither says anything.
    pub const SILENT: Self = Self(1);

    /// One pair.
    pub fn one(pair: Pair) -> Self {
        Self(bit(pair))
    }

    /// These pairs.
    pub fn of(pairs: impl IntoIterator<Item = Pair>) -> Self {
        Self(pairs.into_iter().fold(0, |set, pair| set | bit(pair)))
    }

    /// Every pair for which `keep` is true.
    pub fn all(keep: impl Fn(Pair) -> bool) -> Self {
        Self::of(DECISIONS.iter().flat_map(|old| DECISIONS.map(|new| (*old, new))).filter(|pair| keep(*pair)))
    }

    /// The pairs.
    pub fn iter(self) -> impl Iterator<Item = Pair> {
        (0..16).filter(move |i| self.0 & (1 << i) != 0).map(|i| (DECISIONS[i / 4], DECISIONS[i % 4]))
    }

    /// Those of both sets.
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it may be that neither says anything.
    pub fn may_be_silent(self) -> bool {
        self.0 & Self::SILENT.0 != 0
    }

    /// Whether there is more than one.
    pub fn is_open(self) -> bool {
        self.0.count_ones() > 1
    }

    /// Whether `wanted` is true for one of them.
    pub fn any(self, wanted: impl Fn(Pair) -> bool) -> bool {
        self.iter().any(wanted)
    }

    /// Every pair replaced.
    pub fn map(self, replace: impl Fn(Pair) -> Pair) -> Self {
        Self::of(self.iter().map(replace))
    }

    /// What a pair of one set and a pair of the other come to.
    fn with(self, other: Self, both: impl Fn(RuleDecision, RuleDecision) -> RuleDecision) -> Self {
        let mut result = 0;
        for (old, new) in self.iter() {
            for (other_old, other_new) in other.iter() {
                result |= bit((both(old, other_old), both(new, other_new)));
            }
        }
        Self(result)
    }

    /// Of equal standing: the stricter one.
    pub fn strictest(self, other: Self) -> Self {
        match (self, other) {
            (Self::SILENT, one) | (one, Self::SILENT) => one,
            _ => self.with(other, RuleDecision::max),
        }
    }

    /// With `upper` above it: where that says nothing, this does.
    pub fn under(self, upper: Self) -> Self {
        match (self, upper) {
            (Self::SILENT, one) | (one, Self::SILENT) => one,
            _ => upper.with(self, |upper, lower| if upper == RuleDecision::NotApplicable { lower } else { upper }),
        }
    }

    /// With `upper` beside it under a policy for which the stricter counts, and above it under one for which `upper` does.
    pub fn beside(self, upper: Self, counts: [bool; 2]) -> Self {
        let silent = |decision| decision == RuleDecision::NotApplicable;
        let both = |counts, upper, lower| match counts {
            true if silent(upper) => lower,
            true => upper,
            false => std::cmp::max(upper, lower),
        };
        let with = |(old, new): Pair| {
            let pairs = move |(above, too): Pair| (both(counts[0], above, old), both(counts[1], too, new));
            upper.iter().map(pairs)
        };
        Self::of(self.iter().flat_map(with))
    }

    /// Whether what stands under it has no say.
    pub fn hides(self) -> bool {
        !self.any(|(old, new)| old == RuleDecision::NotApplicable || new == RuleDecision::NotApplicable)
    }

    /// Each policy's decision, as if nothing tied the two together.
    pub fn untied(self, other: Self) -> Self {
        Self::of(self.iter().flat_map(|(old, _)| other.iter().map(move |(_, new)| (old, new))))
    }
}
