//! When a network that comes up was first seen to have taken each of its steps, start by start, and the tables of that.
//!
//! A step is taken when a condition of every resource of some kinds says so, for its present spec. Statuses are written a
//! little after what they tell of, so a time here is when somebody who watches could know.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use kube::api::DynamicObject;
use serde_json::Value;

/// How many starts are counted, unless `EHRNET_BENCH_STARTS` says otherwise: the worst of a few says nothing.
const STARTS: usize = 20;

/// How many starts are counted.
pub fn starts() -> usize {
    std::env::var("EHRNET_BENCH_STARTS").map_or(STARTS, |text| text.parse().expect("a number"))
}

/// What the table calls a step, whose conditions tell of it, and which.
type Step = (&'static str, &'static [&'static str], &'static str);

const NODES: &[&str] = &["Orderer", "Peer"];

const STEPS: [Step; 13] = [
    ("hospitals have their CAs", &["Hospital"], "Ready"),
    ("nodes have their keys", NODES, "IdentityReady"),
    ("genesis block is stored", &["Channel"], "GenesisReady"),
    ("nodes run and answer", NODES, "NodeReady"),
    ("orderers have joined", &["Channel"], "OrderersJoined"),
    ("configuration is read", &["Channel"], "ConfigInSync"),
    ("peers have joined", &["Channel"], "PeersJoined"),
    ("contract runs", &["Chaincode"], "PodsReady"),
    ("package is installed", &["Chaincode"], "Installed"),
    ("hospitals have approved", &["Chaincode"], "Approved"),
    ("definition is committed", &["Chaincode"], "Committed"),
    ("policy is on the ledger", &["ConsentPolicy"], "Anchored"),
    ("all is ready", &["Hospital", "Orderer", "Peer", "Channel", "Chaincode", "ConsentPolicy"], "Ready"),
];

/// One start of a network.
pub struct Start {
    began: Instant,
    taken: [Option<Duration>; STEPS.len()],
}

impl Start {
    /// A start that begins now.
    pub fn now() -> Self {
        Self { began: Instant::now(), taken: [None; STEPS.len()] }
    }

    /// Notes the steps that are seen for the first time. `resources` has all that were declared, by kind and name, as far
    /// as they are there; there are `declared` of them.
    pub fn look(&mut self, resources: &BTreeMap<(String, String), DynamicObject>, declared: usize) {
        if resources.len() < declared {
            return;
        }
        let passed = self.began.elapsed();
        for ((_, kinds, condition), taken) in STEPS.iter().zip(&mut self.taken) {
            let mut concerned = resources.iter().filter(|((kind, _), _)| kinds.contains(&kind.as_str())).peekable();
            let exists = concerned.peek().is_some();
            if taken.is_none() && exists && concerned.all(|(_, object)| says(object, condition)) {
                *taken = Some(passed);
            }
        }
    }

    /// Seconds until all was ready, if it was.
    pub fn took(&self) -> Option<f64> {
        self.taken.last().copied().flatten().map(|took| took.as_secs_f64())
    }
}

/// The median and the worst time of each step that was taken, and how long each start took, the shortest first.
pub fn table(starts: &[Start]) -> String {
    let mut text =
        format!("| seconds from the start, of {} starts | median | worst |\n| --- | ---: | ---: |\n", starts.len());
    for (step, (name, ..)) in STEPS.iter().enumerate() {
        let times = sorted(starts.iter().filter_map(|start| start.taken[step]).map(|taken| taken.as_secs_f64()));
        if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {name} | {median:.2} | {worst:.2} |");
        }
    }
    let all: Vec<_> = sorted(starts.iter().filter_map(Start::took)).iter().map(|took| format!("{took:.1}")).collect();
    text + &format!("each start, s: {}\n", all.join(" "))
}

/// Numbers, the smallest first.
pub fn sorted(numbers: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// Whether a condition of the resource holds for its present spec.
fn says(object: &DynamicObject, condition: &str) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|found| found["type"] == condition);
    found.is_some_and(|found| {
        found["status"] == "True" && found["observedGeneration"].as_i64() == object.metadata.generation
    })
}
