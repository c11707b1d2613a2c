//! Our own source as files, and as the tokens that Rust makes of it: what stands in a macro is seen like all else, and
//! comments and strings are not.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

/// The folder of the project.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the project: its path from the project's folder, and its text.
pub fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the source") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((name(&path), text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no source");
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the project").display().to_string()
}

/// The tokens of a file.
pub fn tokens(text: &str) -> Vec<TokenTree> {
    text.parse::<TokenStream>().expect("Rust").into_iter().collect()
}

/// A name, however it is written; none for a token of another sort.
pub fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string().trim_start_matches("r#").to_owned()),
        _ => None,
    }
}

/// Whether this is the sign.
pub fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

/// Every name in a file, those in macros included.
pub fn idents(text: &str) -> Vec<String> {
    fn walk(tokens: TokenStream, found: &mut Vec<String>) {
        for token in tokens {
            found.extend(ident(Some(&token)));
            if let TokenTree::Group(group) = token {
                walk(group.stream(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(text.parse().expect("Rust"), &mut found);
    found
}
