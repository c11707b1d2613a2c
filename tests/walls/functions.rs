//! A function fits on a screen. Clippy has the rule, too, but leaves out comments, what stands in macros, and the test that
//! is a workspace of its own.

use proc_macro2::{Delimiter, TokenTree};

use crate::assert_none;
use crate::source::{files, ident, idents, is_punct, tokens};

/// Longest file, in lines.
const LONGEST_FILE: usize = 500;
/// Most lines of a function, from `fn` to its last brace.
const LONGEST: usize = 60;

/// Name, first line and number of lines of each function in these tokens.
fn functions(tokens: &[TokenTree]) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            found.extend(functions(&group.stream().into_iter().collect::<Vec<_>>()));
        }
        let is_function = ident(Some(token)).is_some_and(|word| word == "fn");
        let Some(name) = ident(tokens.get(at + 1)).filter(|_| is_function) else { continue };
        // A function of a trait may have no body.
        let rest = tokens[at..].iter().take_while(|token| !is_punct(Some(token), ';'));
        let body = rest.filter_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
            _ => None,
        });
        for body in body.take(1) {
            let (first, last) = (token.span().start().line, body.span_close().end().line);
            found.push((name.clone(), first, last - first + 1));
        }
    }
    found
}

fn breaches(path: &str, text: &str) -> Vec<String> {
    let long = functions(&tokens(text)).into_iter().filter(|(.., lines)| *lines > LONGEST);
    let mut breaches: Vec<_> =
        long.map(|(name, at, lines)| format!("{path}:{at} {name} has {lines} lines; {LONGEST} is the most")).collect();
    if idents(text).iter().any(|name| name == "too_many_lines") {
        breaches.push(format!("{path} allows itself long functions"));
    }
    breaches
}

#[test]
fn every_function_is_short() {
    let files = files("src").into_iter().chain(files("tests"));
    assert_none(&files.flat_map(|(path, text)| breaches(&path, &text)).collect::<Vec<_>>());
}

#[test]
fn a_long_function_is_seen_wherever_it_stands() {
    let function =
        |lines: usize| format!("async fn long<const N: usize>(a: [u8; {{ 1 }}]) {{\n{}}}", "\n".repeat(lines - 2));
    for (before, after) in [("", ""), ("impl A { ", " }"), ("proptest! { ", " }"), ("fn outer() { ", "}")] {
        let text = |lines| format!("{before}{}{after}", function(lines));
        assert!(!breaches("a", &text(LONGEST + 1)).is_empty(), "{before}");
        assert_eq!(breaches("a", &text(LONGEST)), Vec::<String>::new(), "{before}");
    }
    assert!(!breaches("a", "#[allow(clippy::too_many_lines)] fn a() {}").is_empty());
    assert!(breaches("a", &format!("trait A {{ fn a(); }}{}struct A {{}}", "\n".repeat(LONGEST))).is_empty());
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let mut breaches = Vec::new();
    for (path, text) in files("src").into_iter().chain(files("tests")) {
        if !text.starts_with("//! ") {
            breaches.push(format!("{path} does not begin with what it is"));
        }
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            breaches.push(format!("{path} has {lines} lines; {LONGEST_FILE} is the most"));
        }
    }
    assert_none(&breaches);
}
