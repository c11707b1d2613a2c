//! Why the contract refuses, for programs. A peer passes on nothing of a refusal but its text, within its own words and
//! those of a gateway, so the code stands in the text, in brackets: `[ScopeClaimed care-2] scope any is claimed ...`.

use std::fmt;

/// A reason on which a client acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// Not more than half of the member hospitals agree to a policy, or not at this peer yet.
    NotAgreed,
    /// Another policy has the scope.
    ScopeClaimed {
        /// That policy.
        policy: String,
    },
}

const NOT_AGREED: &str = "NotAgreed";
const SCOPE_CLAIMED: &str = "ScopeClaimed";

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAgreed => write!(f, "[{NOT_AGREED}]"),
            Self::ScopeClaimed { policy } => write!(f, "[{SCOPE_CLAIMED} {policy}]"),
        }
    }
}

impl Code {
    /// The first code in a text, whatever stands around it.
    pub fn find(text: &str) -> Option<Self> {
        text.split('[').skip(1).find_map(|rest| Self::read(rest.split_once(']')?.0))
    }

    fn read(inner: &str) -> Option<Self> {
        match inner.split_once(' ') {
            None if inner == NOT_AGREED => Some(Self::NotAgreed),
            Some((SCOPE_CLAIMED, policy)) => Some(Self::ScopeClaimed { policy: policy.to_owned() }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_within_the_words_of_peers() {
        for code in [Code::NotAgreed, Code::ScopeClaimed { policy: "care-2".into() }] {
            let text = format!("[::1]:7051 of A: chaincode response 409, {code} why [so]");
            assert_eq!(Code::find(&text), Some(code));
        }
        for text in ["", "[", "]", "[ScopeClaimed]", "[NotAgreed x]", "NotAgreed"] {
            assert_eq!(Code::find(text), None, "{text}");
        }
    }
}
