//! Whose agreement a policy needs.
//!
//! A contract cannot ask its peer who the members of the channel are (system chaincodes are closed to chaincodes), so the
//! hospital that runs it tells it. Only whether it endorses depends on that, never what it answers: a hospital with
//! another list refuses where others endorse, and cannot make them write anything else.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::Code;

/// MSP ids of the member hospitals of the channel, as the hospital that runs the contract knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(BTreeSet<String>);

/// Why a policy is not agreed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAgreed {
    /// The contract knows no members.
    #[error("this contract was not told which hospitals must agree: start it with {}", Members::ENVIRONMENT)]
    NoMembers,
    /// Fewer than needed agree.
    #[error(
        "{} {agreed} of {members} member hospitals agree and {needed} must: administrators of others approve it first \
         (function ApprovePolicy)",
        Code::NotAgreed
    )]
    TooFew {
        /// Members that agree.
        agreed: usize,
        /// All members.
        members: usize,
        /// Members that must agree.
        needed: usize,
    },
}

impl Members {
    /// Environment variable that names them, separated by commas.
    pub const ENVIRONMENT: &str = "EHRNET_MEMBERS";

    /// Refuses what not more than half of the members agree to.
    ///
    /// # Errors
    /// See [`NotAgreed`].
    pub fn check_majority(&self, agreed: &BTreeSet<String>) -> Result<(), NotAgreed> {
        let (members, agreed) = (self.0.len(), self.0.intersection(agreed).count());
        let needed = members / 2 + 1;
        match members {
            0 => Err(NotAgreed::NoMembers),
            _ if agreed < needed => Err(NotAgreed::TooFew { agreed, members, needed }),
            _ => Ok(()),
        }
    }
}

impl<S: Into<String>> FromIterator<S> for Members {
    fn from_iter<I: IntoIterator<Item = S>>(msps: I) -> Self {
        Self(msps.into_iter().map(Into::into).collect())
    }
}

impl FromStr for Members {
    type Err = std::convert::Infallible;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        Ok(list.split(',').map(str::trim).filter(|msp| !msp.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_members_must_agree() {
        let agreed = |members: &str, agreed: &[&str]| {
            let members: Members = members.parse().expect("a list");
            members.check_majority(&agreed.iter().map(ToString::to_string).collect())
        };
        assert_eq!(agreed("A", &["A"]), Ok(()));
        assert_eq!(agreed("A, B", &["A"]), Err(NotAgreed::TooFew { agreed: 1, members: 2, needed: 2 }));
        assert_eq!(agreed("A,B", &["A", "B"]), Ok(()));
        assert_eq!(agreed("A,B,C", &["A", "C"]), Ok(()));
        assert_eq!(agreed("A,B,C,D", &["A", "C"]), Err(NotAgreed::TooFew { agreed: 2, members: 4, needed: 3 }));
        assert_eq!(agreed("A,B", &["A", "X", "Y"]), Err(NotAgreed::TooFew { agreed: 1, members: 2, needed: 2 }));
        assert_eq!(agreed("", &["A"]), Err(NotAgreed::NoMembers));
    }
}
