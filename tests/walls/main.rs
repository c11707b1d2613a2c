//! The walls that the compiler does not hold by itself. Each room of `src/` is a crate, so what a room uses stands in its
//! manifest; here stands what a manifest may not come to name, what a program may not come to hold, that only `apply` writes
//! objects to the cluster, and how long files and functions may be.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use aho_corasick::AhoCorasick;

mod functions;
mod source;
mod writes;

use source::{files, idents, root};

/// Crates that may not lie anywhere below a room, with why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("pki", KUBERNETES, "it knows no Kubernetes"),
    ("fabric", KUBERNETES, "it knows no Kubernetes"),
    ("consent", KUBERNETES, "it knows no Kubernetes"),
    ("contract", KUBERNETES, "it knows no Kubernetes"),
    ("messages", KUBERNETES, "it knows no Kubernetes"),
    ("client", KUBERNETES, "it knows no Kubernetes"),
    ("devledger", KUBERNETES, "it knows no Kubernetes"),
    ("client", &["ehrnet-contract"], "it knows what the contract says, not how it decides"),
    ("controllers", &["ehrnet-contract"], "it knows what the contract says, not how it decides"),
    ("api", CLIENT, "it is pure"),
    ("desired", CLIENT, "it is pure"),
    ("status", CLIENT, "it is pure"),
    ("cli", CLIENT, "its commands speak to the ledger only"),
    ("operator", LEDGER, "the embedded ledger has no place in production"),
    ("contract", LEDGER, "the embedded ledger has no place in production"),
    ("cli", LEDGER, "the embedded ledger has no place in production"),
    ("demo", LEDGER, "it runs the embedded ledger's program, and knows nothing else of it"),
];

const KUBERNETES: &[&str] = &["kube", "kube-core", "kube-client", "kube-runtime", "k8s-openapi"];
const CLIENT: &[&str] = &["kube", "kube-client", "kube-runtime"];
const LEDGER: &[&str] = &["ehrnet-devledger", "openraft"];

fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

/// The crates below a room, itself included, when it is built alone.
fn below(room: &str) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let output = tree.args(["--package", &format!("ehrnet-{room}")]).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn no_room_stands_on_what_is_forbidden_to_it() {
    let mut breaches = Vec::new();
    for (room, forbidden, why) in FORBIDDEN {
        let below = below(room);
        assert!(below.contains(&format!("ehrnet-{room}")), "the tree of {room} was read");
        for name in forbidden.iter().filter(|name| below.contains(**name)) {
            breaches.push(format!("{room} stands on {name}: {why}; see cargo tree -p ehrnet-{room} -i {name}"));
        }
    }
    assert_none(&breaches);
    assert!(below("devledger").contains("openraft"), "the names are Cargo's: the embedded ledger has openraft");
    assert!(below("apply").contains("kube-client"), "the names are Cargo's: apply has the client");
}

/// Texts by which a part is known in a program: in its own words, and in the paths of panics, which even a stripped program
/// has.
const LEDGERS_MARKS: &[&str] = &["openraft", "src/devledger/", "EHRNET_DEVLEDGER_FAULTS"];
const CLIENTS_MARKS: &[&str] = &["kube-client"];

/// Whether a program holds all of these texts, or none; neither would mean that a mark marks nothing.
fn holds(program: &str, marks: &[&str]) -> bool {
    let bytes = fs::read(program).expect("a program");
    let held = |mark: &&&str| AhoCorasick::new([mark]).expect("a text to look for").is_match(&bytes);
    let found: Vec<_> = marks.iter().filter(held).collect();
    assert!(found.is_empty() || found.len() == marks.len(), "{program} holds {found:?} of {marks:?}");
    !found.is_empty()
}

#[test]
fn each_program_holds_its_own_part_only() {
    let operator = env!("CARGO_BIN_EXE_ehrnet");
    let contract = env!("CARGO_BIN_EXE_ehrnet-contract");
    let devledger = env!("CARGO_BIN_EXE_ehrnet-devledger");
    for (program, marks, expected) in [
        (devledger, LEDGERS_MARKS, true),
        (operator, LEDGERS_MARKS, false),
        (contract, LEDGERS_MARKS, false),
        (operator, CLIENTS_MARKS, true),
        (contract, CLIENTS_MARKS, false),
        (devledger, CLIENTS_MARKS, false),
    ] {
        assert_eq!(holds(program, marks), expected, "whether {program} holds {marks:?}");
    }
}

/// The programs and the rooms that each may name. They are one package, whose manifest names the rooms of all.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("src/bin/ehrnet.rs", &["ehrnet_api", "ehrnet_cli", "ehrnet_operator", "ehrnet_runtime"]),
    ("src/bin/ehrnet-contract.rs", &["ehrnet_contract"]),
    ("src/bin/ehrnet-demo.rs", &["ehrnet_demo"]),
    ("src/bin/ehrnet-devledger.rs", &["ehrnet_devledger"]),
];

#[test]
fn each_program_names_its_own_rooms_only() {
    let mut named: Vec<(String, BTreeSet<String>)> = files("src/bin")
        .into_iter()
        .map(|(path, text)| (path, idents(&text).into_iter().filter(|name| name.starts_with("ehrnet_")).collect()))
        .collect();
    named.sort();
    let mut expected: Vec<_> = PROGRAMS
        .iter()
        .map(|(path, rooms)| ((*path).to_owned(), rooms.iter().map(|room| (*room).to_owned()).collect()))
        .collect();
    expected.sort();
    assert_eq!(named, expected);
}
