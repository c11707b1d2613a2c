//! Provisions of a FHIR Consent, element by element.

use super::actors::{Contained, read_actor};
use super::context::ProvisionContext;
use super::datatypes::{filled_list, known, read_coding, read_concept, read_period, reference_text};
use super::error::FieldError;
use super::json::At;
use super::tree::MAX_PROVISIONS;
use crate::vocabulary::{self as api, Coding, DataMeaning, DataReference, Provision, ProvisionType};

/// Levels at which reading stops: far more than are allowed, so that "too deep" is said by
/// [`check_size`](super::tree::check_size).
pub const READ_DEPTH: usize = 2 * api::MAX_DEPTH;

const PROVISION: &[&str] = &[
    "id",
    "extension",
    "type",
    "period",
    "actor",
    "action",
    "securityLabel",
    "purpose",
    "class",
    "documentType",
    "resourceType",
    "code",
    "dataPeriod",
    "data",
    "provision",
];

/// Reads the provisions of one document.
pub struct Reader<'r> {
    contained: &'r Contained<'r>,
    context: &'r ProvisionContext,
    /// Provisions that it may still have.
    left: usize,
}

impl<'r> Reader<'r> {
    /// For a document that contains these resources.
    pub fn new(contained: &'r Contained<'r>, context: &'r ProvisionContext) -> Self {
        Self { contained, context, left: MAX_PROVISIONS }
    }

    /// A provision with all below it. What there is too much of is not read first and counted afterwards.
    pub fn provision(&mut self, at: &At, depth: usize) -> Result<Provision, FieldError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(at.error(format_args!("is one of more than {MAX_PROVISIONS} provisions: no more are read")));
        };
        self.left = left;
        let mut provision = read_own(at, self.contained, self.context)?;
        for child in filled_list(at, "provision")? {
            provision.provision.push(if depth < READ_DEPTH {
                self.provision(&child, depth + 1)?
            } else {
                Provision::default()
            });
        }
        Ok(provision)
    }
}

/// The elements of a provision without what is nested in it.
fn read_own(at: &At, contained: &Contained, context: &ProvisionContext) -> Result<Provision, FieldError> {
    known(at, &[PROVISION])?;
    refuse_extensions_alone(at)?;
    let concepts = |name: &str| -> Result<Vec<Coding>, FieldError> {
        Ok(filled_list(at, name)?.iter().map(read_concept).collect::<Result<Vec<_>, _>>()?.concat())
    };
    let codings = |name: &str| filled_list(at, name)?.iter().map(read_coding).collect::<Result<Vec<_>, _>>();
    if let (Some(_), Some(again)) = (at.get("class"), at.get("resourceType")) {
        return Err(again.error("says the same as class, of other records perhaps: keep one of them"));
    }
    let period = |name: &str| at.get(name).map(|at| read_period(&at)).transpose();
    let actors = filled_list(at, "actor")?;
    let actors = actors.iter().map(|actor| read_actor(actor, contained, context)).collect::<Result<Vec<_>, _>>()?;
    Ok(Provision {
        type_: at.get("type").map(|effect| provision_type(&effect)).transpose()?,
        decision: None,
        period: period("period")?,
        purpose: codings("purpose")?,
        actor: actors.concat(),
        action: concepts("action")?,
        security_label: codings("securityLabel")?,
        class: [codings("class")?, codings("resourceType")?].concat(),
        document_type: codings("documentType")?,
        code: concepts("code")?,
        data_period: period("dataPeriod")?,
        data: filled_list(at, "data")?.iter().map(read_data).collect::<Result<_, _>>()?,
        provision: Vec::new(),
    })
}

/// A provision that says nothing but an extension says something that is not understood here.
fn refuse_extensions_alone(at: &At) -> Result<(), FieldError> {
    let says =
        |name: &&String| !matches!(name.as_str(), "id" | "extension" | "type" | "provision") && !name.starts_with('_');
    match at.get("extension") {
        Some(extension) if !at.object()?.keys().any(|name| says(&name)) => {
            Err(extension
                .error("is all that the provision says, and is not understood here: state it in elements of FHIR"))
        }
        _ => Ok(()),
    }
}

/// Permit or deny.
pub fn provision_type(at: &At) -> Result<ProvisionType, FieldError> {
    match at.text()? {
        "permit" => Ok(ProvisionType::Permit),
        "deny" => Ok(ProvisionType::Deny),
        _ => Err(at.error("must be permit or deny")),
    }
}

fn read_data(at: &At) -> Result<DataReference, FieldError> {
    known(at, &[&["id", "extension", "meaning", "reference"]])?;
    let required =
        |name: &str| at.get(name).ok_or_else(|| FieldError::new(format!("{}.{name}", at.path), "is required"));
    let meaning = required("meaning")?;
    let meaning = match meaning.text()? {
        "instance" => DataMeaning::Instance,
        "related" => DataMeaning::Related,
        "dependents" => DataMeaning::Dependents,
        "authoredby" => DataMeaning::Authoredby,
        _ => return Err(meaning.error("must be instance, related, dependents or authoredby")),
    };
    let reference = required("reference")?;
    let text = reference_text(&reference)?
        .ok_or_else(|| reference.error("needs a reference: nothing else can be compared"))?;
    Ok(DataReference { meaning, reference: text })
}
