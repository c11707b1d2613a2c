//! The API server's own record of what the operator asked of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use serde_json::Value;

use crate::cluster::{RELEASE, SYSTEM};

/// One request that was answered.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: String,
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub code: u64,
}

impl Request {
    /// Whether it could change something, the Lease left aside: that is renewed all the time.
    pub fn writes(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch") && self.resource != "leases"
    }
}

/// A place in the record.
pub struct Audit {
    file: PathBuf,
    from: u64,
}

impl Audit {
    /// From the beginning.
    pub fn all(file: PathBuf) -> Self {
        Self { file, from: 0 }
    }

    /// From now on. The server writes a request down before it answers.
    pub fn from_now(file: PathBuf) -> Self {
        let from = std::fs::metadata(&file).expect("the audit log").len();
        Self { file, from }
    }

    /// What the operator's account asked for since.
    pub fn requests(&self) -> Vec<Request> {
        let mut file = File::open(&self.file).expect("the audit log");
        file.seek(SeekFrom::Start(self.from)).expect("a place in the audit log");
        let account = format!("system:serviceaccount:{SYSTEM}:{RELEASE}");
        let lines = BufReader::new(file).lines().map(|line| line.expect("a line"));
        // The last line may be half written.
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        events.filter(|event| event["user"]["username"] == account.as_str()).map(|event| request(&event)).collect()
    }

    /// Writes to one namespace since.
    pub fn writes_to(&self, namespace: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.writes() && request.namespace == namespace).collect()
    }
}

fn request(event: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    let subresource = text(&object["subresource"]);
    let separator = if subresource.is_empty() { "" } else { "/" };
    Request {
        verb: text(&event["verb"]),
        resource: format!("{}{separator}{subresource}", text(&object["resource"])),
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
    }
}
