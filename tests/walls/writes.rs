//! Only `apply` writes objects to the cluster. A client is in more rooms than that, for reading, so the compiler cannot hold
//! this wall: here each file of those rooms is searched for the calls that write, by name, and for what such calls take.
//! Names are judged without types, so a name of another meaning is an exception as well, with its reason.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenTree};

use crate::source::{files, ident, is_punct, root, tokens};
use crate::{assert_none, below};

/// What is called to write: methods of `Api`, `Entry`, `Client` and `Request`, and functions.
const CALLS: &[&str] = &[
    "attach",
    "commit",
    "cordon",
    "create",
    "create_subresource",
    "create_token_request",
    "delete",
    "delete_and_finalize",
    "delete_collection",
    "evict",
    "exec",
    "finalizer",
    "patch",
    "portforward",
    "raw",
    "replace",
    "request",
    "request_events",
    "request_status",
    "request_stream",
    "request_text",
    "restart",
    "uncordon",
];
/// Beginnings of such names: `patch_status`, `replace_scale` ...
const FAMILIES: &[&str] = &["patch_", "replace_"];
/// What writing takes. A request that is made by hand is sent by `send` or by a service, which others have, too.
const TAKES: &[&str] =
    &["Body", "DeleteParams", "EvictParams", "Patch", "PatchParams", "PostParams", "Recorder", "Request"];

/// Modules of the client's crates that have such names. All of a module is not imported.
const MODULES: &[&str] = &[
    "api",
    "client",
    "core",
    "events",
    "finalizer",
    "kube",
    "kube_client",
    "kube_core",
    "kube_runtime",
    "params",
    "runtime",
];

/// Files of other rooms that have such names, all the names that each has, and why it may.
const EXCEPTIONS: &[(&str, &[&str], &str)] = &[
    (
        "src/runtime/lease.rs",
        &["PostParams", "create", "replace"],
        "the lease says who may write, so its own writes cannot wait for that",
    ),
    (
        "src/runtime/events.rs",
        &["Recorder"],
        "Events are for people: nothing is read from them, and losing one is no harm",
    ),
    (
        "src/runtime/client.rs",
        &["Body", "DeleteParams", "PostParams", "Request", "create", "delete", "request"],
        "every request goes through the fence in it, and its tests try to write past the fence",
    ),
    ("src/runtime/lease/tests.rs", &["Body", "Request"], "plays the API server"),
    (
        "src/controllers/nodes.rs",
        &["restart"],
        "the module of that name, which has one node of a namespace restarted at a time",
    ),
    ("src/controllers/driver.rs", &["Request"], "of the queue: that a resource is to be looked at"),
    (
        "src/demo/install.rs",
        &["DeleteParams", "Patch", "PatchParams", "delete", "patch"],
        "the demo is the user: it installs the operator and declares the sample, as `kubectl apply` would",
    ),
    ("src/demo/forward.rs", &["portforward"], "the demo is the user: it reaches a peer as `kubectl port-forward` does"),
    ("src/demo/story.rs", &["Body", "request"], "the body of a record; a request for access, on the ledger"),
    ("src/demo/lib.rs", &["delete"], "deletes the cluster that it made, by kind"),
];

fn is_call(name: &str) -> bool {
    CALLS.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Where tokens stand.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Code,
    /// What a macro is given may become anything, and what is imported may be called by another name.
    MacroOrImport,
}

/// The names in these tokens that write.
fn writes_in(tokens: &[TokenTree], place: Place, found: &mut BTreeSet<String>) {
    let mut import = false;
    let earlier = |at: usize, back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
    for (at, token) in tokens.iter().enumerate() {
        let before = earlier(at, 1);
        if let TokenTree::Group(group) = token {
            // `name!(...)`, `macro_rules! name {...}`.
            let called = is_punct(before, '!') && ident(earlier(at, 2)).is_some();
            let defined = ident(earlier(at, 3)).is_some_and(|word| word == "macro_rules");
            let strict = import || called || defined;
            let inside: Vec<_> = group.stream().into_iter().collect();
            writes_in(&inside, if strict { Place::MacroOrImport } else { place }, found);
        }
        let Some(name) = ident(Some(token)) else {
            import &= !is_punct(Some(token), ';');
            // Of all that such a module has, nobody can say what is meant.
            let module = ident(earlier(at, 3)).filter(|module| MODULES.contains(&module.as_str()));
            found.extend(module.filter(|_| is_punct(Some(token), '*')).map(|module| format!("{module}::*")));
            continue;
        };
        import |= name == "use";
        let after = tokens.get(at + 1);
        let is_called = is_punct(before, '.')
            || is_punct(before, ':') && is_punct(earlier(at, 2), ':')
            || is_punct(after, ':') && is_punct(tokens.get(at + 2), ':')
            || matches!(after, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis);
        let is_defined = ident(before).is_some_and(|word| word == "fn");
        let is_judged = place == Place::MacroOrImport || import || is_called && !is_defined;
        if TAKES.contains(&name.as_str()) || is_call(&name) && is_judged {
            found.insert(name);
        }
    }
}

/// The names in a file that write.
fn writes(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    writes_in(&tokens(text), Place::Code, &mut found);
    found
}

/// Folders of `src` whose code may come to a client: the rooms that have one below them, and the programs.
fn folders_with_a_client() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("src")).expect("the rooms");
    let rooms = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    rooms.filter(|room| room == "bin" || below(room).contains("kube-client")).collect()
}

#[test]
fn only_apply_writes() {
    let folders = folders_with_a_client();
    for room in ["apply", "runtime", "observe", "controllers", "operator", "demo", "bin"] {
        assert!(folders.iter().any(|folder| folder == room), "{room} is among {folders:?}");
    }
    let mut breaches = Vec::new();
    let mut exceptions: BTreeSet<_> = EXCEPTIONS.iter().map(|(path, ..)| *path).collect();
    for folder in folders.iter().filter(|folder| *folder != "apply") {
        for (path, text) in files(&format!("src/{folder}")) {
            let exception = EXCEPTIONS.iter().find(|(excepted, ..)| path == *excepted);
            let allowed = exception.map(|(_, names, _)| *names).unwrap_or_default();
            exceptions.remove(path.as_str());
            let found = writes(&text);
            breaches.extend(
                found
                    .iter()
                    .filter(|name| !allowed.contains(&name.as_str()))
                    .map(|name| format!("{path} has {name}: only apply writes")),
            );
            breaches.extend(
                allowed
                    .iter()
                    .filter(|name| !found.contains(**name))
                    .map(|name| format!("{path} has no {name}: strike it from the exceptions")),
            );
        }
    }
    breaches.extend(exceptions.iter().map(|path| format!("{path} is an exception, and not there")));
    assert_none(&breaches);
    let applied: BTreeSet<_> = files("src/apply").iter().flat_map(|(_, text)| writes(text)).collect();
    assert!(applied.contains("patch_status") && applied.contains("create"), "the names are the client's: {applied:?}");
}

#[test]
fn a_write_is_seen_however_it_is_written() {
    for text in [
        "use kube::api::PatchParams;",
        "use kube::{Api, api::{ListParams, PostParams}};",
        "use kube::api::{self, Patch as P};",
        "use kube::api::*;",
        "use kube::{core::{params::*}, Api};",
        "use kube::api; fn f() { api::DeleteParams::default(); }",
        "use kube::api as k; fn f(p: &k::PostParams) {}",
        "use kube::core::params; fn f() { params::Patch::Merge(1); }",
        "use ::kube::core::Request as R;",
        "fn f() { kube::api::DeleteParams::default(); }",
        "mod a { fn f() { kube::runtime::finalizer::finalizer(); } }",
        "use kube::runtime; fn f() { runtime::finalizer(); }",
        "use kube::runtime::{finalizer as f, watcher};",
        "fn f() { api.create(&Default::default(), &object).await }",
        "fn f() { api.delete(name, &Default::default()).await }",
        "fn f() { api . delete_collection (&a, &b) }",
        "fn f() { api.patch::<Value>(name, &a, &b) }",
        "fn f() { api.patch_status(name, &a, &b) }",
        "fn f() { api.replace_status(name, &a, &b) }",
        "fn f() { api.r#replace(name, &a, &b) }",
        "fn f() { api.evict(name, &Default::default()) }",
        "fn f() { entry.or_insert(|| object).commit(&Default::default()) }",
        "fn f() { client.request::<Value>(request) }",
        "fn f() { client.request_text(request) }",
        "fn f() { client.send(http::Request::new(Default::default())) }",
        "fn f() { Api::<Secret>::create(&api, &a, &b) }",
        "fn f() { <Api<Secret>>::delete(&api, name, &a) }",
        "fn f() { let write = Api::<Secret>::replace; write(&api, &a, &b, &c) }",
        "fn f() { tokio::join!(api.create(&a, &b)); }",
        "fn f() { assert!(matches!(api.delete(name, &a).await, Ok(_))); }",
        "fn f() { vec![kube::api::PostParams::default()]; }",
        "macro_rules! call { ($method:ident) => { api.$method(&a, &b) } } fn f() { call!(create) }",
        "macro_rules! write { () => { replace } }",
        "fn f() { api.restart(name) }",
        "fn f() { pods.exec(name, [\"rm\"], &a) }",
        "use kube::runtime::events::Recorder;",
    ] {
        assert!(!writes(text).is_empty(), "{text}");
    }
    for text in [
        "use kube::api::ListParams; // kube::api::Patch",
        "const A: &str = \"kube::api::Patch\"; /* api.create(&a) */",
        "/// Calls `api.create(&a)`.\nfn create() { let patch = 1; let delete = patch * 2; }",
        "use super::*; fn f() { api.list(&ListParams::default()); map.entry(1).or_default(); }",
        "fn f() { let a = !(finalizer == other); tracing::debug!(name, \"create\"); }",
    ] {
        assert_eq!(writes(text), BTreeSet::new(), "{text}");
    }
}
