//! Consents as they lie in public projects: each is read or refused as it was reviewed, and no answer is wider than the
//! document. The documents and their right answers are in `tests/vectors/consents_found.yaml`.
//!
//! `EHRNET_REGENERATE=1 cargo test --test consents_found` writes the table in `docs/consents-found.md` anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use ehrnet_consent::decision::{Decision, Effect};
use ehrnet_consent::rules::Basis;
use ehrnet_consent::vocabulary::PolicySpec;
use ehrnet_consent::{FieldError, Policy, Request, decide, fhir, validate};
use serde::Deserialize;
use serde_json::{Value, json};

const HOW: &str = "regenerate with: EHRNET_REGENERATE=1 cargo test --test consents_found";
/// What `hl7:` stands for in the corpus.
const HL7: &str = "http://terminology.hl7.org/CodeSystem/";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    now: String,
    request: Value,
    documents: Vec<Found>,
}

/// A document, where it was found, and what is right about it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    name: String,
    pin: Pin,
    fhir: String,
    shape: String,
    refused: Option<Refusal>,
    now: Option<String>,
    document: Value,
    probes: Vec<Probe>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    repo: String,
    commit: String,
    path: String,
    bytes: usize,
    part: Option<String>,
}

/// A reviewed refusal: the very element that is named, and the cause, which may have more to it behind a colon.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    at: String,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Probe {
    why: String,
    answers: Vec<Right>,
    ask: Option<BTreeMap<String, Value>>,
    policy: Option<Value>,
    now: Option<String>,
}

/// A right answer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Right {
    #[serde(rename = "PERMIT")]
    Permit,
    #[serde(rename = "RESIDUAL")]
    Residual,
    #[serde(rename = "DENY")]
    Deny,
    NotApplicable,
    #[serde(rename = "refused")]
    Refused,
}

/// What came out.
enum Outcome {
    Refused(String),
    Decided(Decision),
}

impl Outcome {
    fn is(&self, right: Right) -> bool {
        let Self::Decided(decision) = self else { return right == Right::Refused };
        match right {
            Right::Permit => decision.decision == Effect::Permit && decision.residual.is_empty(),
            Right::Residual => decision.decision == Effect::Permit && !decision.residual.is_empty(),
            Right::Deny => decision.decision == Effect::Deny,
            Right::NotApplicable => decision.basis == Basis::Implicit,
            Right::Refused => false,
        }
    }

    fn permits(&self) -> bool {
        matches!(self, Self::Decided(decision) if decision.decision == Effect::Permit)
    }

    fn in_words(&self) -> String {
        match self {
            Self::Refused(message) => format!("refused ({message})"),
            Self::Decided(decision) => {
                let residual = decision.residual.len();
                format!("{:?} by {:?}, {residual} residual rules", decision.decision, decision.basis)
            }
        }
    }
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn corpus() -> Corpus {
    let path = file("tests/vectors/consents_found.yaml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut corpus: Corpus = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for found in &mut corpus.documents {
        write_out(&mut found.document);
        found.probes.iter_mut().flat_map(|probe| &mut probe.ask).flat_map(|ask| ask.values_mut()).for_each(write_out);
    }
    corpus
}

/// Writes out every `hl7:`.
fn write_out(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(system) = text.strip_prefix("hl7:") {
                *text = format!("{HL7}{system}");
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(write_out),
        Value::Object(members) => members.values_mut().for_each(write_out),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The policy with this spec; without one, the default.
fn policy(spec: Option<&Value>) -> Result<Policy, String> {
    let Some(spec) = spec else { return Ok(Policy::default()) };
    let spec: PolicySpec = serde_json::from_value(spec.clone()).map_err(|error| error.to_string())?;
    validate(&spec).map_err(|errors| format!("{errors:?}"))
}

/// Why the document cannot be read under this policy.
fn refusal(document: &Value, policy: &Policy) -> Option<Vec<FieldError>> {
    fhir::read(document, None, policy.context()).err()
}

fn in_words(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What the probe asks.
fn request(corpus: &Corpus, probe: &Probe) -> Value {
    let mut request = corpus.request.clone();
    for (name, value) in probe.ask.iter().flatten() {
        request[name] = value.clone();
    }
    request.as_object_mut().expect("a request is an object").retain(|_, value| !value.is_null());
    request
}

fn ask(corpus: &Corpus, found: &Found, probe: &Probe, request: &Value) -> Result<Outcome, String> {
    let policy = policy(probe.policy.as_ref()).map_err(|error| format!("the policy is refused: {error}"))?;
    if let Some(errors) = refusal(&found.document, &policy) {
        return Ok(Outcome::Refused(in_words(&errors)));
    }
    let consent = fhir::read(&found.document, None, policy.context()).expect("was read before");
    let request = match Request::parse(request, policy.context()) {
        Ok(request) => request,
        Err(error) => return Ok(Outcome::Refused(error.to_string())),
    };
    let now = probe.now.as_ref().or(found.now.as_ref()).unwrap_or(&corpus.now);
    let now = now.parse().map_err(|error| format!("{now}: {error}"))?;
    Ok(Outcome::Decided(decide(&[consent], &policy, &request, now)))
}

/// Other names of the code systems of a request.
const NAMES: &[(&str, &[&str])] = &[
    ("v3-ActReason", &["urn:oid:2.16.840.1.113883.5.8", "http://hl7.org/fhir/v3/ActReason"]),
    ("consentaction", &["http://hl7.org/fhir/consentaction"]),
    ("v3-Confidentiality", &["urn:oid:2.16.840.1.113883.5.25", "http://hl7.org/fhir/v3/Confidentiality"]),
    ("v3-ActCode", &["urn:oid:2.16.840.1.113883.5.4", "http://hl7.org/fhir/v3/ActCode"]),
];

/// The code in every spelling: under each name of its system, which is `of` unless the code says another, and bare if it is.
fn spellings(code: &Value, of: &str) -> Vec<Value> {
    let system = code["system"].as_str().unwrap_or(of);
    let Some(code) = code.as_str().or_else(|| code["code"].as_str()) else { return Vec::new() };
    let path = system.strip_prefix("http://").unwrap_or(system);
    let mut names = vec![system.into(), format!("https://{path}"), format!("{system}/"), format!("{system}|4.0.1")];
    let others = NAMES.iter().filter(|(name, _)| system.strip_prefix(HL7) == Some(name));
    names.extend(others.flat_map(|(_, others)| *others).map(ToString::to_string));
    let full = names.iter().map(|name| json!({"system": name, "code": code}));
    full.chain((system == of).then(|| json!(code))).collect()
}

/// The reference in every spelling: relative, on a server, of a version.
fn references(reference: &Value) -> Vec<Value> {
    let Some(reference) = reference.as_str().filter(|text| text.contains('/') && !text.contains(':')) else {
        return Vec::new();
    };
    let server = format!("https://records.example/fhir/{reference}");
    [format!("{server}/_history/2"), server, format!("{reference}/"), format!("{reference}/_history/1")]
        .map(Value::from)
        .into()
}

/// The request with one code or reference spelled otherwise, in every way.
fn respelled(request: &Value) -> Vec<Value> {
    let labels = |label: &Value| match label.as_str() {
        Some("U" | "L" | "M" | "N" | "R" | "V") => spellings(label, &format!("{HL7}v3-Confidentiality")),
        _ => spellings(label, &format!("{HL7}v3-ActCode")),
    };
    let mut all = Vec::new();
    let mut vary = |pointer: &str, spell: &dyn Fn(&Value) -> Vec<Value>| {
        for spelling in request.pointer(pointer).map(spell).unwrap_or_default() {
            let mut other = request.clone();
            *other.pointer_mut(pointer).expect("is there") = spelling;
            all.push(other);
        }
    };
    vary("/purpose", &|code| spellings(code, &format!("{HL7}v3-ActReason")));
    vary("/action", &|code| spellings(code, &format!("{HL7}consentaction")));
    vary("/actor/id", &references);
    vary("/resource/id", &references);
    for i in 0..2 {
        vary(&format!("/actor/groups/{i}"), &references);
        vary(&format!("/resource/author/{i}"), &references);
        vary(&format!("/resource/securityLabels/{i}"), &labels);
        vary(&format!("/resource/class/{i}"), &|code| spellings(code, "http://hl7.org/fhir/resource-types"));
    }
    all
}

#[test]
fn every_probe_has_one_of_its_right_answers() {
    let corpus = corpus();
    let (mut probes, mut open, mut wrong) = (0, 0, Vec::new());
    for found in &corpus.documents {
        for probe in &found.probes {
            probes += 1;
            let outcome = ask(&corpus, found, probe, &request(&corpus, probe));
            if outcome.as_ref().is_ok_and(|outcome| probe.answers.iter().any(|right| outcome.is(*right))) {
                continue;
            }
            let wide = outcome.as_ref().is_ok_and(Outcome::permits);
            open += usize::from(wide);
            let said = outcome.map_or_else(|error| error, |outcome| outcome.in_words());
            let mark = if wide { "FAIL-OPEN" } else { "wrong" };
            wrong.push(format!("{mark} {}: {}: {:?} is right, not {said}", found.name, probe.why, probe.answers));
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{} of {probes} are wrong, {open} of them fail-open\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_spelling_of_a_request_opens_a_document() {
    let corpus = corpus();
    let (mut asked, mut open) = (0, BTreeSet::new());
    for found in &corpus.documents {
        let closed =
            |probe: &&Probe| !probe.answers.iter().any(|right| matches!(right, Right::Permit | Right::NotApplicable));
        for probe in found.probes.iter().filter(closed) {
            if let Ok(Outcome::Refused(_)) = ask(&corpus, found, probe, &request(&corpus, probe)) {
                continue;
            }
            for request in respelled(&request(&corpus, probe)) {
                let outcome = ask(&corpus, found, probe, &request).expect("an answer");
                asked += usize::from(matches!(outcome, Outcome::Decided(_)));
                let left = probe.answers.contains(&Right::Residual) && outcome.is(Right::Residual);
                if outcome.permits() && !left {
                    open.insert(format!("{}: {}: {request}", found.name, probe.why));
                }
            }
        }
    }
    assert!(asked >= 6_000, "only {asked} requests are spelled otherwise");
    let list: Vec<_> = open.iter().map(String::as_str).collect();
    assert!(list.is_empty(), "{} of {asked} requests are permitted\n{}", list.len(), list.join("\n"));
}

#[test]
fn what_is_refused_was_reviewed_and_nothing_else_is() {
    let corpus = corpus();
    let mut unreviewed = Vec::new();
    for found in &corpus.documents {
        let refused = refusal(&found.document, &Policy::default());
        match (refused, &found.refused) {
            (None, None) => {}
            (Some(errors), Some(reviewed)) if errors.iter().any(|error| error.field == reviewed.at) => {}
            (Some(errors), _) => unreviewed.push(format!("{}: refused: {}", found.name, in_words(&errors))),
            (None, Some(reviewed)) => unreviewed.push(format!("{}: read, in spite of {}", found.name, reviewed.at)),
        }
    }
    assert!(unreviewed.is_empty(), "{}\n{}", unreviewed.len(), unreviewed.join("\n"));
}

#[test]
fn the_corpus_is_wide_and_says_where_each_document_was_found() {
    let corpus = corpus();
    let names: BTreeSet<_> = corpus.documents.iter().map(|found| &found.name).collect();
    assert_eq!(names.len(), corpus.documents.len(), "a name is given twice");
    assert!(corpus.documents.len() >= 60, "{} documents", corpus.documents.len());
    for Found { name, pin, probes, .. } in &corpus.documents {
        let whole = pin.commit.len() == 40 && pin.commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(whole && pin.repo.split('/').count() == 2 && pin.bytes > 0, "{name}: the pin is incomplete");
        // Where a permit and a denial are both right, a probe fails for nothing.
        let settled = |probe: &Probe| !(probe.answers.contains(&Right::Permit) && probe.answers.contains(&Right::Deny));
        let answered = probes.iter().all(|probe| !probe.answers.is_empty() && settled(probe));
        assert!(!probes.is_empty() && answered, "{name}: has no answers, or opposite ones");
    }
}

#[test]
fn the_table_in_the_docs_is_of_these_documents() {
    let path = file("docs/consents-found.md");
    let table = table(&corpus().documents);
    if std::env::var_os("EHRNET_REGENERATE").is_some() {
        fs::write(&path, &table).expect("the table is written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == table, "{} is not of this corpus; {HOW}", path.display());
}

/// The page of the docs.
fn table(documents: &[Found]) -> String {
    let refusals: Vec<&Refusal> = documents.iter().filter_map(|found| found.refused.as_ref()).collect();
    let projects: BTreeSet<_> = documents.iter().map(|found| &found.pin.repo).collect();
    let probes: usize = documents.iter().map(|found| found.probes.len()).sum();
    let mut page = format!(
        "# Consents as they are found\n\nWhat the evaluator makes of {} FHIR Consents from {} public projects: {} are read, {} are \
         refused, each for\na cause that was reviewed. They are kept, rebuilt in small, in `tests/vectors/consents_found.yaml` with \
         {probes} requests and\ntheir right answers; `cargo test --test consents_found` holds the evaluator to them. This page is \
         made from that file:\n`EHRNET_REGENERATE=1 cargo test --test consents_found`.\n\n## Refused, by cause\n\n\
         | Documents | Cause |\n| --- | --- |\n",
        documents.len(),
        projects.len(),
        documents.len() - refusals.len(),
        refusals.len(),
    );
    let mut causes = BTreeMap::<&str, usize>::new();
    for Refusal { why, .. } in refusals {
        *causes.entry(why.split_once(':').map_or(why.as_str(), |(cause, _)| cause)).or_default() += 1;
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(_, documents)| std::cmp::Reverse(*documents));
    for (why, documents) in causes {
        line(&mut page, &[&documents.to_string(), why]);
    }
    page.push_str("\n## Each document\n\n| Document | FHIR | Shape | Read |\n| --- | --- | --- | --- |\n");
    for Found { name, pin, fhir, shape, refused, .. } in documents {
        let path = pin.path.replace(' ', "%20");
        let part = pin.part.as_ref().map_or(String::new(), |part| format!(" ({part})"));
        let source = format!("[{name}](https://github.com/{}/blob/{}/{path}){part}", pin.repo, pin.commit);
        let read =
            refused.as_ref().map_or("read".into(), |refusal| format!("refused at `{}`: {}", refusal.at, refusal.why));
        line(&mut page, &[&source, fhir, shape, &read]);
    }
    page
}

fn line(page: &mut String, cells: &[&str]) {
    writeln!(page, "| {} |", cells.join(" | ")).expect("a text can be written to");
}

/// What the documents of each recipe in the docs have in their name or in their text.
const NATIONS: &[(&str, &[&str])] = &[
    ("German broad consent", &["2.16.840.1.113883.3.1937.777.24.5.3"]),
    ("Swiss electronic patient record", &["name:ch-"]),
    ("Dutch exchange of records (Nuts)", &["name:nuts-", "name:nl-"]),
    ("New Zealand shared record", &["name:nz-"]),
    ("English opt-outs and proxies", &["name:nhs-"]),
];
const MADE: &str = "<!-- made by tests/consents_found.rs -->\n";

/// The recipe under a heading of the page.
fn recipe(page: &str, heading: &str) -> Policy {
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).expect(heading);
    let yaml = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a recipe");
    policy(Some(&serde_yaml::from_str(yaml).expect("YAML"))).expect("a policy")
}

/// What each recipe makes of the documents of its nation.
fn by_nation(page: &str, documents: &[Found]) -> String {
    let mut table = format!("{MADE}\n## What the recipes make of the documents that were found\n");
    for (heading, marks) in NATIONS {
        let policy = recipe(page, heading);
        let is_of = |found: &&Found| {
            let text = found.document.to_string();
            marks
                .iter()
                .any(|mark| mark.strip_prefix("name:").map_or(text.contains(mark), |name| found.name.starts_with(name)))
        };
        let of_it: Vec<&Found> = documents.iter().filter(is_of).collect();
        let refusals: Vec<_> = of_it.iter().map(|found| refusal(&found.document, &policy)).collect();
        let read = refusals.iter().filter(|refusal| refusal.is_none()).count();
        write!(table, "\n{heading}: {read} of {} are read.\n\n| Document | |\n| --- | --- |\n", of_it.len())
            .expect("a text");
        for (found, refusal) in of_it.iter().zip(refusals) {
            let said = refusal
                .map_or("read".into(), |errors| format!("refused: `{}`: {}", errors[0].field, errors[0].message));
            line(&mut table, &[&found.name, &said]);
        }
    }
    table
}

#[test]
fn the_docs_say_what_each_national_recipe_makes_of_the_documents_of_its_nation() {
    let path = file("docs/consents-national.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (above, _) = page.split_once(MADE).expect("a table");
    let made = format!("{above}{}", by_nation(&page, &corpus().documents));
    if std::env::var_os("EHRNET_REGENERATE").is_some() {
        fs::write(&path, &made).expect("the page is written");
    }
    assert!(fs::read_to_string(&path).expect("the page") == made, "{} is not of this corpus; {HOW}", path.display());
}
