//! Reads JSON with a path at hand, so that an error names the field it is about.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::FieldError;

/// Entries that any list of an input may have at most: a bound on the work that an input can ask for.
pub const MAX_ENTRIES: usize = 10_000;
/// Bytes that a document may have: room for a scan of the signed paper, and a bound on the memory that reading takes.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Levels of objects and lists that a document may have.
const MAX_LEVELS: usize = 64;

/// Reads one document called `name`: UTF-8 JSON in which no name stands twice in an object.
///
/// # Errors
/// It is something else; what, and what to do about it, is said.
pub fn parse(bytes: &[u8], name: &str) -> Result<Value, FieldError> {
    let refused = |message: &dyn std::fmt::Display| FieldError::new(name, message);
    let text = text(bytes).map_err(|message| refused(&message))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = strictly(&mut deserializer, name).map_err(|error| match error {
        Unread::Field(error) => error,
        Unread::Format(error) => refused(&why(&error)),
    })?;
    deserializer.end().map_err(|error| refused(&why(&error)))?;
    Ok(value)
}

/// The text of a file that is to be JSON or YAML.
///
/// # Errors
/// It is in another encoding or format, or too large.
pub fn text(bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("has {} bytes, at most {MAX_BYTES} are read: leave out attachments", bytes.len()));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err("begins with a byte order mark (BOM): save it as UTF-8 without BOM".into());
    }
    let wide = bytes.len() >= 2
        && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || bytes[..2].contains(&0));
    if wide {
        return Err("is UTF-16 or UTF-32: save it as UTF-8".into());
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("is not UTF-8 at byte {}", error.valid_up_to()))?;
    if text.trim_start().starts_with('<') {
        return Err("is XML: convert it to FHIR's JSON, for example by asking the server with _format=json".into());
    }
    Ok(text)
}

/// What serde says, with the position.
fn why(error: &serde_json::Error) -> String {
    format!("is not JSON: {error}")
}

/// Why a value was not read.
#[derive(Debug)]
pub enum Unread<E> {
    /// A field is refused.
    Field(FieldError),
    /// It is not of the format.
    Format(E),
}

/// A value of any self-describing format, in which no name stands twice in an object and which is not too deep. Called
/// `name` in errors.
///
/// # Errors
/// It is something else.
pub fn strictly<'de, D: Deserializer<'de>>(deserializer: D, name: &str) -> Result<Value, Unread<D::Error>> {
    let (mut path, mut refused) = (vec![name.to_owned()], None);
    let read = Strict { path: &mut path, refused: &mut refused }.deserialize(deserializer);
    read.map_err(|error| refused.map_or(Unread::Format(error), Unread::Field))
}

/// Builds a value; the path is that of the value. An error of a format has no room for a field, so that stands beside it.
struct Strict<'p> {
    path: &'p mut Vec<String>,
    refused: &'p mut Option<FieldError>,
}

impl Strict<'_> {
    fn refuse<E: de::Error>(&mut self, message: impl std::fmt::Display) -> E {
        let error = FieldError::new(self.path.concat(), message);
        let said = E::custom(&error);
        *self.refused = Some(error);
        said
    }

    /// The value below, one level deeper.
    fn below<T, E: de::Error>(&mut self, step: String, read: impl FnOnce(Strict<'_>) -> Result<T, E>) -> Result<T, E> {
        self.path.push(step);
        if self.path.len() > MAX_LEVELS {
            return Err(self.refuse(format_args!("too deep: at most {MAX_LEVELS} levels are read")));
        }
        let value = read(Strict { path: self.path, refused: self.refused })?;
        self.path.pop();
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object, a list, a text, a number, true, false or null")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: de::Error>(mut self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.refuse("is not a number of JSON"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        loop {
            let step = format!("[{}]", entries.len());
            let entry = self.below(step, |below| list.next_element_seed(below))?;
            let Some(entry) = entry else { return Ok(Value::Array(entries)) };
            if entries.len() == MAX_ENTRIES {
                return Err(self.refuse(format_args!("has more than {MAX_ENTRIES} entries")));
            }
            entries.push(entry);
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                self.path.push(format!(".{name}"));
                return Err(self.refuse("is given twice"));
            }
            let value = self.below(format!(".{name}"), |below| map.next_value_seed(below))?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

/// Refuses `null` and `[]` anywhere: a value that is not there must not be read as one that restricts nothing. Lists of
/// primitives in FHIR may hold `null` beside an extension; nothing that decides is one.
///
/// # Errors
/// One is there; its path is named.
pub fn refuse_blanks(at: &At) -> Result<(), FieldError> {
    refuse(at, false)
}

/// The same, and `{}`: in FHIR an object has members.
///
/// # Errors
/// One is there; its path is named.
pub fn refuse_blanks_and_empty_objects(at: &At) -> Result<(), FieldError> {
    refuse(at, true)
}

fn refuse(at: &At, objects: bool) -> Result<(), FieldError> {
    fn blank(value: &Value, objects: bool) -> Found {
        let found = |message| Some((String::new(), message));
        match value {
            Value::Null => found("is null: leave it out, or say what holds"),
            Value::Array(entries) if entries.is_empty() => found("must not be empty: leave it out, or say what holds"),
            Value::Object(members) if objects && members.is_empty() => {
                found("must not be empty: leave it out, or say what holds")
            }
            other => first_below(other, &|_, value| blank(value, objects)),
        }
    }
    match blank(at.value, objects) {
        None => Ok(()),
        Some((path, message)) => Err(FieldError::new(format!("{}{path}", at.path), message)),
    }
}

/// Something wrong in a value: the path to it, and what it is.
pub type Found = Option<(String, &'static str)>;

/// What `find` finds first in the members or entries of a value, with the path to it; a path is built for that one only.
pub fn first_below(value: &Value, find: &dyn Fn(&str, &Value) -> Found) -> Found {
    match value {
        Value::Array(entries) => entries.iter().enumerate().find_map(|(i, entry)| {
            let (path, found) = find("", entry)?;
            Some((format!("[{i}]{path}"), found))
        }),
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            let (path, found) = find(name, member)?;
            Some((format!(".{name}{path}"), found))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// A JSON value and where it stands.
#[derive(Clone, Debug)]
pub struct At<'a> {
    /// The value.
    pub value: &'a Value,
    /// Its path, for example `Consent.provision.purpose[0]`.
    pub path: String,
}

impl<'a> At<'a> {
    /// `value`, called `path`.
    pub fn root(value: &'a Value, path: &str) -> Self {
        Self { value, path: path.to_owned() }
    }

    /// An error about this field.
    pub fn error(&self, message: impl std::fmt::Display) -> FieldError {
        FieldError::new(&self.path, message)
    }

    /// The member `key`; none if it is absent or null.
    pub fn get(&self, key: &str) -> Option<At<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(At { value, path: format!("{}.{key}", self.path) })
    }

    /// The object with all its members.
    pub fn object(&self) -> Result<&'a Map<String, Value>, FieldError> {
        self.value.as_object().ok_or_else(|| self.error("must be an object"))
    }

    /// The text, which must not be empty.
    pub fn text(&self) -> Result<&'a str, FieldError> {
        self.value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| self.error("must be a text, and not empty"))
    }

    /// The text of a code or a reference: it is compared, so nothing in it may be unseen.
    pub fn token(&self) -> Result<&'a str, FieldError> {
        let text = self.text()?;
        let unseen = text.chars().any(super::error::is_unseen) || text.trim() != text;
        if unseen { Err(self.error("has white space around it, or characters that are not seen")) } else { Ok(text) }
    }

    /// The entries of the list.
    pub fn list(&self) -> Result<Vec<At<'a>>, FieldError> {
        let entries = self.value.as_array().ok_or_else(|| self.error("must be a list"))?;
        if entries.len() > MAX_ENTRIES {
            return Err(self.error(format_args!("has more than {MAX_ENTRIES} entries")));
        }
        Ok(entries.iter().enumerate().map(|(i, value)| At { value, path: format!("{}[{i}]", self.path) }).collect())
    }

    /// Refuses a member that is not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), FieldError> {
        match self.object()?.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => {
                let message = format!("is not a known field: known are {}", known.join(", "));
                Err(FieldError::new(format!("{}.{key}", self.path), message))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text.as_bytes(), "Consent").expect_err(text).to_string()
    }

    #[test]
    fn a_name_given_twice_is_named_however_it_is_spelled() {
        assert!(refused(r#"{"a": [{"b": 1, "b": 1}]}"#).contains("Consent.a[0].b: is given twice"));
        assert!(refused(r#"{"type": 1, "t\u0079pe": 1}"#).contains("Consent.type: is given twice"));
        assert!(parse(br#"{"a": {"b": 1}, "b": [1, 1.5, null, true]}"#, "x").is_ok());
    }

    #[test]
    fn hostile_sizes_are_refused_with_the_element() {
        let deep = format!("{}1{}", r#"{"provision":["#.repeat(10_000), "]}".repeat(10_000));
        assert!(refused(&deep).contains("Consent.provision[0].provision[0]"), "{}", refused(&deep));
        let many = format!(r#"{{"code": [{}1]}}"#, "1,".repeat(1_000_000));
        assert!(refused(&many).contains("Consent.code: has more than 10000 entries"));
        assert!(refused(&" ".repeat(10 * 1024 * 1024)).contains("bytes"));
    }

    #[test]
    fn other_encodings_and_formats_are_named() {
        assert!(refused("\u{feff}{}").contains("BOM"));
        assert!(refused("<Consent/>").contains("XML"));
        let wide: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(parse(&wide, "x").expect_err("UTF-16").message.contains("UTF-16"));
        assert!(parse(&[b'{', 0xff], "x").expect_err("bytes").message.contains("UTF-8"));
        assert!(refused("{} {}").contains("not JSON"));
    }
}
