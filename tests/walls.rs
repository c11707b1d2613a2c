//! The walls that the compiler does not hold by itself. Each room of `src/` is a crate, so what a room uses stands in its
//! manifest; here stands what a manifest may not come to name, what a program may not come to hold, and that only `apply`
//! writes objects to the cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aho_corasick::AhoCorasick;
use syn::visit::{self, Visit};

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

/// Rooms that hold a client for Kubernetes and may not write with it.
const READERS: &[&str] = &["observe", "controllers", "operator"];
/// What writing takes.
const WRITES: &[&str] = &[
    "kube::api::DeleteParams",
    "kube::api::Patch",
    "kube::api::PatchParams",
    "kube::api::PostParams",
    "kube::runtime::finalizer",
];

/// Longest file, in lines.
const LONGEST: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the project, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the source") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no source");
    found
}

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

/// Whether a program holds a text: in the paths of panics, which even a stripped program has.
fn holds(program: &str, text: &str) -> bool {
    let bytes = fs::read(program).expect("a program");
    AhoCorasick::new([text]).expect("a text to look for").is_match(&bytes)
}

#[test]
fn each_program_holds_its_own_part_only() {
    let operator = env!("CARGO_BIN_EXE_ehrnet");
    let contract = env!("CARGO_BIN_EXE_ehrnet-contract");
    let devledger = env!("CARGO_BIN_EXE_ehrnet-devledger");
    for (program, text, expected) in [
        (devledger, "openraft", true),
        (operator, "openraft", false),
        (contract, "openraft", false),
        (operator, "kube-client", true),
        (contract, "kube-client", false),
        (contract, "k8s-openapi", false),
        (devledger, "kube-client", false),
        (operator, "EHRNET_DEVLEDGER_FAULTS", false),
        (devledger, "EHRNET_DEVLEDGER_FAULTS", true),
    ] {
        assert_eq!(holds(program, text), expected, "whether {program} holds {text}");
    }
}

/// Every path of two parts or more that a file mentions, with the trees of `use` taken apart.
#[derive(Default)]
struct Paths(BTreeSet<String>);

impl Paths {
    fn of(text: &str) -> BTreeSet<String> {
        let mut paths = Self::default();
        paths.visit_file(&syn::parse_file(text).expect("Rust"));
        paths.0
    }

    fn add(&mut self, before: &str, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => self.add(&format!("{before}{}::", path.ident), &path.tree),
            syn::UseTree::Name(name) => drop(self.0.insert(format!("{before}{}", name.ident))),
            syn::UseTree::Rename(rename) => drop(self.0.insert(format!("{before}{}", rename.ident))),
            syn::UseTree::Glob(_) => drop(self.0.insert(format!("{before}*"))),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add("", &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.0.insert(parts.join("::"));
        visit::visit_path(self, path);
    }
}

/// The paths of a file that write.
fn writes(text: &str) -> Vec<String> {
    let begins = |path: &str, write: &str| {
        path.strip_prefix(write).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let is_write = |path: &String| *path == "kube::api::*" || WRITES.iter().any(|write| begins(path, write));
    Paths::of(text).into_iter().filter(is_write).collect()
}

#[test]
fn only_apply_writes() {
    let mut breaches = Vec::new();
    for room in READERS {
        for (path, text) in sources(&format!("src/{room}")) {
            breaches.extend(writes(&text).iter().map(|write| format!("{} may not use {write}", path.display())));
        }
    }
    assert_none(&breaches);
}

#[test]
fn a_write_is_seen_however_it_is_written() {
    for text in [
        "use kube::api::PatchParams;",
        "use kube::{Api, api::{ListParams, PostParams}};",
        "use kube::api::{self, Patch as P};",
        "use kube::api::*;",
        "fn f() { kube::api::DeleteParams::default(); }",
        "mod a { fn f() { kube::runtime::finalizer::finalizer(); } }",
    ] {
        assert!(!writes(text).is_empty(), "{text}");
    }
    for text in ["use kube::api::ListParams; // kube::api::Patch", "const A: &str = \"kube::api::Patch\";"] {
        assert_eq!(writes(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let mut breaches = Vec::new();
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        let path = path.strip_prefix(root()).unwrap_or(Path::new("")).display();
        if !text.starts_with("//! ") {
            breaches.push(format!("{path} does not begin with what it is"));
        }
        let lines = text.lines().count();
        if lines > LONGEST {
            breaches.push(format!("{path} has {lines} lines; {LONGEST} is the most"));
        }
    }
    assert_none(&breaches);
}
