//! The walls between the rooms of `src/`, read from the source text.
//!
//! Arrows point one way: controllers -> rooms -> api. What is pure stays pure: no Kubernetes client in `api`, `desired`,
//! `pki`, `fabric`, `consent`, `contract` and `client`, and no Kubernetes types at all in the last five. Only `apply` writes objects.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms a room may use. A room that is not here may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("pki", &[]),
    ("fabric", &[]),
    ("consent", &["api"]),
    ("desired", &["api", "pki", "fabric", "consent"]),
    ("contract", &["api", "pki", "fabric", "consent"]),
    ("runtime", &["api"]),
    ("apply", &["api", "desired", "runtime"]),
    ("status", &["api", "desired", "fabric", "pki"]),
    ("observe", &["api", "desired", "apply", "runtime", "status"]),
    ("controllers", EVERY),
    ("operator", EVERY),
    ("devledger", &["fabric", "pki"]),
    ("client", &["api", "pki", "fabric", "consent", "contract"]),
    ("demo", &["api", "consent", "contract", "client"]),
    ("cli", &["api", "consent", "contract", "client"]),
];

const EVERY: &[&str] =
    &["api", "pki", "fabric", "consent", "contract", "desired", "runtime", "apply", "status", "observe", "controllers"];

/// Paths that may not be used, by room, with why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("pki", KUBERNETES, "it knows no Kubernetes"),
    ("fabric", KUBERNETES, "it knows no Kubernetes"),
    ("consent", KUBERNETES, "it knows no Kubernetes"),
    ("contract", KUBERNETES, "it knows no Kubernetes"),
    ("client", KUBERNETES, "it knows no Kubernetes"),
    ("devledger", KUBERNETES, "it knows no Kubernetes"),
    ("api", CLIENT, "it is pure"),
    ("desired", CLIENT, "it is pure"),
    ("status", CLIENT, "it is pure"),
    ("observe", WRITES, "only `apply` writes"),
    ("controllers", WRITES, "only `apply` writes"),
    ("operator", WRITES, "only `apply` writes"),
];

const KUBERNETES: &[&str] = &["kube", "k8s_openapi"];
const CLIENT: &[&str] = &["kube::Client", "kube::Api", "kube::Config", "kube::client", "kube::api", "kube::runtime"];
const WRITES: &[&str] = &[
    "kube::api::DeleteParams",
    "kube::api::Patch",
    "kube::api::PatchParams",
    "kube::api::PostParams",
    "kube::runtime::finalizer",
];

/// Longest file, in lines before its tests.
const LONGEST: usize = 550;

struct Source {
    /// Relative to `src`.
    path: PathBuf,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the source") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push(Source { path: path.strip_prefix(&root).expect("below src").to_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "the source was not found");
    found
}

impl Source {
    /// The module path: `desired/names.rs` is `[desired, names]`.
    fn module(&self) -> Vec<String> {
        let path = self.path.with_extension("");
        let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
        parts.filter(|part| !matches!(part.as_str(), "mod" | "lib" | "main")).collect()
    }

    fn room(&self) -> Option<String> {
        self.module().into_iter().next()
    }

    /// Every path that the code mentions; one of this crate's own begins with `crate`.
    fn paths(&self) -> BTreeSet<String> {
        let module = self.module();
        paths(&tokens(&self.text)).into_iter().map(|path| absolute(&module, path).join("::")).collect()
    }
}

/// Identifiers and marks, without comments, strings and characters.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['r', '#', '"', ..] => end_of(rest, 3, &['"', '#']),
            ['r', '"', ..] => end_of(rest, 2, &['"']),
            ['"', ..] => end_of_string(rest),
            ['\'', '\\', ..] => end_of(rest, 3, &['\'']),
            ['\'', _, '\'', ..] => 3,
            [':', ':', ..] => 2,
            [c, ..] if c.is_alphanumeric() || *c == '_' => {
                rest.iter().position(|c| !c.is_alphanumeric() && *c != '_').unwrap_or(rest.len())
            }
            _ => 1,
        };
        let token: String = rest[..length].iter().collect();
        let first = rest[0];
        if !first.is_whitespace() && !matches!(first, '"' | '\'') && !token.starts_with("//") && !token.contains('"') {
            tokens.push(token);
        }
        at += length;
    }
    tokens
}

fn end_of(rest: &[char], from: usize, mark: &[char]) -> usize {
    let end = rest[from..].windows(mark.len()).position(|window| window == mark);
    end.map_or(rest.len(), |end| from + end + mark.len())
}

fn end_of_string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// All paths of two parts or more, with the trees of `use` taken apart.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = found.len();
        let end = tree(tokens, at, &[], &mut found);
        found.truncate(if end > at + 1 { found.len() } else { before });
        at = end.max(at + 1);
    }
    found
}

/// Reads one path or tree at `at`, with `prefix` before it, and returns where it ends.
fn tree(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    let is_name = |token: &String| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
    while at < tokens.len() && is_name(&tokens[at]) {
        path.push(tokens[at].clone());
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
        if tokens.get(at).is_some_and(|token| token == "{") {
            at += 1;
            while tokens.get(at).is_some_and(|token| token != "}") {
                let end = tree(tokens, at, &path, found);
                at = end.max(at + 1);
            }
            return at + 1;
        }
    }
    found.push(path);
    at
}

/// `super` and `crate` resolved; a path of another crate stays as it is.
fn absolute(module: &[String], path: Vec<String>) -> Vec<String> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    match path.first().map(String::as_str) {
        Some("super") => {
            let parents = &module[..module.len().saturating_sub(supers)];
            std::iter::once(&"crate".to_owned()).chain(parents).chain(&path[supers..]).cloned().collect()
        }
        Some("ehrnet") => std::iter::once("crate".to_owned()).chain(path.into_iter().skip(1)).collect(),
        _ => path,
    }
}

fn starts_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What a source file breaks.
fn breaches(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else { return Vec::new() };
    let Some((_, arrows)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: no room is called {room}", source.path.display())];
    };
    let paths = source.paths();
    let mut breaches = Vec::new();
    for (other, _) in ARROWS.iter().filter(|(other, _)| *other != room && !arrows.contains(other)) {
        let root = format!("crate::{other}");
        for path in paths.iter().filter(|path| starts_with(path, &root)) {
            breaches.push(format!("{}: {room} may not use {path}", source.path.display()));
        }
    }
    for (_, forbidden, why) in FORBIDDEN.iter().filter(|(name, _, _)| *name == room) {
        for path in paths.iter().filter(|path| forbidden.iter().any(|prefix| starts_with(path, prefix))) {
            breaches.push(format!("{}: {room} may not use {path}: {why}", source.path.display()));
        }
    }
    breaches
}

fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn no_room_reaches_over_its_walls() {
    assert_none(&sources().iter().flat_map(breaches).collect::<Vec<_>>());
}

#[test]
fn the_embedded_ledger_is_known_to_itself_the_command_line_and_the_demo_only() {
    let known = |source: &Source| match source.room().as_deref() {
        Some("devledger" | "demo") | None => true,
        Some(_) => !source.text.to_lowercase().contains("devledger"),
    };
    let unknown = sources().into_iter().filter(|source| !known(source));
    assert_none(&unknown.map(|source| format!("{} mentions it", source.path.display())).collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let mut breaches = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            breaches.push(format!("{} does not begin with what it is", source.path.display()));
        }
        let code = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = code.lines().count();
        if lines > LONGEST {
            breaches.push(format!("{} has {lines} lines; {LONGEST} is the most", source.path.display()));
        }
    }
    assert_none(&breaches);
}

#[test]
fn a_breach_is_seen_however_it_is_written() {
    let seen = |path: &str, text: &str| !breaches(&Source { path: path.into(), text: text.into() }).is_empty();
    for (path, text) in [
        ("desired/a.rs", "use kube::Client;"),
        ("desired/a.rs", "use kube::{Resource, api::{Patch, PatchParams}};"),
        ("api/a.rs", "fn f(_: kube::Api<u8>) {}"),
        ("pki/a.rs", "use k8s_openapi::api::core::v1::Secret;"),
        ("fabric/a/b.rs", "use crate::api::Peer;"),
        ("fabric/a.rs", "use super::super::api::Peer;"),
        ("desired/mod.rs", "use super::apply::Applier;"),
        ("observe/a.rs", "use kube::{Api, api::{ListParams, PostParams}};"),
        ("api/a.rs", "use crate::{api::Peer, desired::{names, plan}};"),
        ("attic/a.rs", ""),
    ] {
        assert!(seen(path, text), "{path}: {text}");
    }
    for (path, text) in [
        ("desired/a.rs", "use kube::{Resource, ResourceExt}; // not kube::Client\nconst A: &str = \"kube::Client\";"),
        ("desired/a.rs", "use crate::{api::Peer, pki::Key}; use super::names;"),
        ("fabric/a.rs", "use tokio::runtime; fn f() { runtime::Handle::current(); api::local(); }"),
        ("controllers/a/b.rs", "use crate::apply::Applier; use super::super::observe::World; const C: char = '\"';"),
        ("main.rs", "use ehrnet::devledger;"),
    ] {
        let source = Source { path: path.into(), text: text.into() };
        assert!(breaches(&source).is_empty(), "{:?}", breaches(&source));
    }
}
