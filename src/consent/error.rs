//! What is wrong with an input, and in which field.

use std::fmt::{self, Write};

/// Characters of a field or of a message that are said: more is a line that nobody reads, or somebody's text.
const MAX_SAID: usize = 400;
/// Errors of one document that are told: who has mended these sees the next ones.
pub const MAX_ERRORS: usize = 100;

/// One wrong field: a path as Kubernetes and FHIR write it, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", said(.field), said(.message))]
pub struct FieldError {
    /// For example `spec.template.provision[0].purpose[1]` or `Consent.provision.period`.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// Whether a policy could say what would mend it.
    pub by_policy: bool,
}

impl FieldError {
    /// `message` about `field`.
    pub fn new(field: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { field: field.into(), message: message.to_string(), by_policy: false }
    }

    /// The same, of what a policy could mend.
    pub fn unless_policy_says(self) -> Self {
        Self { by_policy: true, ..self }
    }
}

/// The text on one line of bounded length. What a terminal would obey, and what nobody sees, is written out.
pub fn said(text: &str) -> String {
    said_within(text, MAX_SAID)
}

/// The same with at most `most` characters of the text.
pub fn said_within(text: &str, most: usize) -> String {
    let mut said = String::new();
    for (i, character) in text.chars().enumerate() {
        if i == most {
            said.push('…');
            break;
        }
        if is_unseen(character) {
            // Writing into a String cannot fail.
            let _ = write!(said, "\\u{{{:x}}}", u32::from(character));
        } else {
            said.push(character);
        }
    }
    said
}

/// Whether a character is not shown as itself: control, zero-width, or one that turns the direction of writing.
pub fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}')
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(character, '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_one_short_line_that_a_terminal_does_not_obey() {
        let error = FieldError::new("Consent.\u{1b}[31m", format_args!("bad\n\u{202e}{}", "x".repeat(10_000)));
        let line = error.to_string();
        assert!(line.starts_with("Consent.\\u{1b}[31m: bad\\u{a}\\u{202e}xxx"), "{line}");
        assert!(line.chars().count() < 2 * MAX_SAID + 50 && line.chars().all(|c| !is_unseen(c)), "{line}");
    }
}
