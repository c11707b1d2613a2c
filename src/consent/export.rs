//! Typed provisions back into FHIR JSON.

use serde_json::{Map, Value, json};

use super::error::FieldError;
use super::tree::below;
use crate::api::consent_policy::{Actor, Coding, FhirVersion, Provision};

/// The members of a Consent resource that say what `provision`, whose types are given, says: `provision` for R4, `decision`
/// and `provision` for R5. R4 can say every tree; R5 only one whose root has no elements and whose levels alternate.
pub fn write(provision: &Provision, version: FhirVersion) -> Result<Map<String, Value>, FieldError> {
    let mut members = Map::new();
    if version == FhirVersion::R4 {
        members.insert("provision".into(), write_provision(provision, version));
        return Ok(members);
    }
    let own = Provision { type_: None, provision: Vec::new(), ..provision.clone() };
    if own != Provision::default() {
        return Err(FieldError::new(
            "provision",
            "R5 has no elements at the root: this consent can be written as R4 only",
        ));
    }
    check_alternation(provision, "")?;
    members.insert("decision".into(), json!(provision.type_));
    let children: Vec<Value> = provision.provision.iter().map(|child| write_provision(child, version)).collect();
    put(&mut members, "provision", children);
    Ok(members)
}

fn check_alternation(provision: &Provision, prefix: &str) -> Result<(), FieldError> {
    for (i, child) in provision.provision.iter().enumerate() {
        let path = below(prefix, i);
        if child.type_ == provision.type_ {
            return Err(FieldError::new(path, "has the type of the level above: R5 cannot say that"));
        }
        check_alternation(child, &path)?;
    }
    Ok(())
}

fn put(members: &mut Map<String, Value>, name: &str, values: Vec<Value>) {
    if !values.is_empty() {
        members.insert(name.into(), values.into());
    }
}

fn write_provision(provision: &Provision, version: FhirVersion) -> Value {
    let mut members = Map::new();
    if let (FhirVersion::R4, Some(effect)) = (version, provision.type_) {
        members.insert("type".into(), json!(effect));
    }
    for (name, period) in [("period", &provision.period), ("dataPeriod", &provision.data_period)] {
        members.extend(period.as_ref().map(|period| (name.to_owned(), json!(period))));
    }
    let codings = |codings: &[Coding]| codings.iter().map(|coding| json!(coding)).collect::<Vec<_>>();
    let concepts = |codings: &[Coding]| codings.iter().map(|coding| json!({"coding": [coding]})).collect::<Vec<_>>();
    put(&mut members, "actor", provision.actor.iter().map(write_actor).collect());
    put(&mut members, "action", concepts(&provision.action));
    put(&mut members, "securityLabel", codings(&provision.security_label));
    put(&mut members, "purpose", codings(&provision.purpose));
    let class = if version == FhirVersion::R4 { "class" } else { "resourceType" };
    put(&mut members, class, codings(&provision.class));
    put(&mut members, "code", concepts(&provision.code));
    let data = provision.data.iter();
    let data = data.map(|data| json!({"meaning": data.meaning, "reference": {"reference": data.reference}}));
    put(&mut members, "data", data.collect());
    put(&mut members, "provision", provision.provision.iter().map(|child| write_provision(child, version)).collect());
    members.into()
}

/// The actor of a patient's consent: mspId and attr exist in a ConsentPolicy only.
fn write_actor(actor: &Actor) -> Value {
    let mut members = Map::new();
    members.extend(actor.role.as_ref().map(|role| ("role".to_owned(), json!({"coding": [role]}))));
    let mut reference = Map::new();
    reference.extend(actor.reference.as_ref().map(|text| ("reference".to_owned(), json!(text))));
    reference.extend(actor.identifier.as_ref().map(|identifier| ("identifier".to_owned(), json!(identifier))));
    if !reference.is_empty() {
        members.insert("reference".into(), reference.into());
    }
    members.into()
}
