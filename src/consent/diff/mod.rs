//! What a new version of a policy changes beside the last one.
//!
//! Every request is looked at that the two policies and the consents can tell from another ([`space`]): every code, role,
//! organisation, label, record and moment that occurs, any other one, and none. A difference that is found is tried with the
//! evaluator before it is said; that there is none is said only where the search came to its end ([`search`]). What is unknown of a
//! record needs no values of its own: residual rules say of every record what a request for it gets.
//!
//! Without consents the question is about any: whatever they say, they say under both policies ([`unsaid`]), as long as both read
//! them alike. Where a setting changes how documents are read, that is said, and not proven ([`settings`]).

mod answers;
mod conditions;
mod mentions;
mod model;
mod pairs;
mod search;
mod settings;
mod situations;
mod space;
mod unsaid;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use self::answers::Asked;
pub use self::answers::{Answer, Change};
use self::search::{Direction, Found};
use self::settings::Known;
pub use self::settings::{Meaning, Setting};
use self::situations::Comparison;
use crate::fhir::Consent;
use crate::policy::Policy;

/// Steps of the search that are taken at most if nothing else is asked for.
pub const STEPS: u64 = 1_000_000;
/// Examples of each kind that are given at most.
const MAX_EXAMPLES: usize = 20;

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// The policy of before.
    pub old: &'q Policy,
    /// The policy to come.
    pub new: &'q Policy,
    /// The consents; none if any.
    pub documents: Option<&'q [Document]>,
    /// Whether it is about decisions on the ledger: who asks is known by a certificate, and research has policies of its own.
    pub ledger: bool,
    /// From when on.
    pub now: Timestamp,
    /// Steps of the search that may be taken in each direction.
    pub steps: u64,
}

/// A consent, as each policy reads it. One that cannot be read stands for a denial of everything.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it is called.
    pub name: String,
    /// Under the old policy, and under the new.
    pub read: [Consent; 2],
}

/// What is different.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Whether anything is permitted that was denied.
    pub widened: Verdict,
    /// Whether anything is denied that was permitted.
    pub narrowed: Verdict,
    /// Examples of what is permitted and was denied.
    pub newly_permitted: Vec<Change>,
    /// Examples of what is denied and was permitted.
    pub newly_denied: Vec<Change>,
    /// Whether there are more differences than examples.
    pub more: bool,
    /// Settings that differ.
    pub settings: Vec<Setting>,
    /// Why something was not proven.
    pub doubts: Vec<&'static str>,
    /// Consents that it is about; none if any.
    pub consents: Option<usize>,
    /// Steps that the search took.
    pub steps: u64,
}

/// An answer to whether there is a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// There is.
    Found,
    /// There is none: every request was looked at.
    None,
    /// None was found, and there may be one.
    NotProven,
}

/// Compares two policies.
pub fn compare(question: &Question) -> Difference {
    let known = Known { documents: question.documents.is_some(), ledger: question.ledger };
    let settings = settings::changed(question.old, question.new, known);
    let mut searches =
        [Direction::Widened, Direction::Narrowed].map(|direction| (Asked::new(direction, question), question.steps));
    for (patient, documents) in groups(question) {
        let comparison = Comparison::new(question, &patient, &documents);
        for (asked, steps) in searches.iter_mut().filter(|(asked, _)| !asked.unfinished) {
            comparison.doubts().for_each(|doubt| asked.doubt(doubt));
            if comparison.search(asked, steps) == Found::Unfinished {
                asked.unfinished = true;
                asked.doubt(UNFINISHED);
            }
        }
    }
    let steps = searches.iter().map(|(_, left)| question.steps - left).sum();
    let [widened, narrowed] = searches.map(|(asked, _)| asked);
    let mut doubts = widened.doubts.clone();
    doubts.extend(narrowed.doubts.iter().filter(|doubt| !widened.doubts.contains(doubt)));
    let may_widen = settings.iter().any(|setting| setting.may_widen);
    let may_narrow = settings.iter().any(|setting| match setting.means {
        Meaning::Reading => !known.documents,
        Meaning::Responsibility | Meaning::Unknown => true,
        Meaning::Decision | Meaning::Duration | Meaning::Nothing => false,
    });
    Difference {
        widened: widened.verdict(may_widen),
        narrowed: narrowed.verdict(may_narrow),
        more: widened.more || narrowed.more,
        newly_permitted: widened.changes,
        newly_denied: narrowed.changes,
        settings,
        doubts,
        consents: question.documents.map(<[Document]>::len),
        steps,
    }
}

/// Why a search proves nothing that ran out of steps.
const UNFINISHED: &str =
    "the requests are too many: the search was not finished; allow more steps or give fewer consents";

/// Whether a consent is of the patient whom a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Meets {
    /// It is of somebody else.
    Not,
    /// It may be.
    Perhaps,
    /// It is.
    Surely,
}

/// Patients whose requests meet other consents, and the numbers of these.
fn groups(question: &Question) -> Vec<(Value, Vec<usize>)> {
    let documents = question.documents.unwrap_or_default();
    let mut patients: Vec<String> = vec!["Patient/any-other".to_owned()];
    for patient in
        documents.iter().filter_map(|document| document.read[0].patient.as_ref().or(document.read[1].patient.as_ref()))
    {
        patients.push(patient.key.clone());
        if let Some(server) = patient.server() {
            let servers = [server.to_owned(), server.to_ascii_uppercase()];
            patients.extend(servers.map(|server| format!("https://{server}/{}", patient.key)));
        }
        patients.push(format!("https://any-other.example/fhir/{}", patient.key));
    }
    let mut groups: BTreeMap<Vec<(usize, [Meets; 2])>, Value> = BTreeMap::new();
    for name in patients {
        let Some(subject) = crate::reference::Subject::parse(&name) else { continue };
        let meets = |read: &Consent| match &read.patient {
            None => Meets::Perhaps,
            Some(patient) if subject.is(patient) => Meets::Surely,
            Some(patient) if subject.may_be(patient) => Meets::Perhaps,
            Some(_) => Meets::Not,
        };
        let meeting = documents.iter().map(|document| document.read.each_ref().map(meets)).enumerate();
        groups.entry(meeting.filter(|(_, meets)| *meets != [Meets::Not; 2]).collect()).or_insert(Value::from(name));
    }
    let numbers = |meeting: Vec<(usize, [Meets; 2])>| meeting.into_iter().map(|(number, _)| number).collect();
    let mut groups: Vec<(Value, Vec<usize>)> =
        groups.into_iter().map(|(meeting, patient)| (patient, numbers(meeting))).collect();
    if !question.ledger {
        groups.push((Value::Null, (0..documents.len()).collect()));
    }
    groups
}
