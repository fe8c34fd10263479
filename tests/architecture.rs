//! Layers by test: no file below `src/` may name a layer above its own, and no layer may know what is forbidden to it.
//!
//! `protocol < domain < lifecycle < cluster < { connection, http } < server < cli`; `config` is read by server and cli only.
//! Comments and literals are blanked first, so that prose may name anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LONGEST_FILE: usize = 400;

/// Height of each layer. Equal heights are siblings, which may not import one another.
const RANKS: [(&str, u8); 9] = [
    ("protocol", 0),
    ("domain", 1),
    ("lifecycle", 2),
    ("cluster", 3),
    ("connection", 4),
    ("http", 4),
    ("config", 5),
    ("server", 6),
    ("cli", 7),
];

/// Files whose path starts so may not contain identifiers that start so.
const FORBIDDEN: [(&str, &[&str]); 7] = [
    ("protocol/", &["async", "tokio", "tracing", "actix"]),
    ("domain/", &["actix", "tokio", "sqlx"]),
    ("lifecycle/", &["actix"]),
    ("cluster/", &["actix"]),
    ("connection/", &["sqlx"]),
    ("connection/machine", &["actix", "tokio"]),
    ("http/", &["actix_http::ws"]),
];

/// Paths that would read a clock where time is an argument.
const CLOCKS: [&str; 2] = ["Instant::now", "SystemTime::now"];

fn rank(layer: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == layer).map(|(_, rank)| *rank)
}

/// Everything wrong with one file. `path` is relative to `src/`; `root` maps names re-exported by lib.rs to their layers.
fn violations(path: &str, source: &str, root: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    let lines = source.lines().count();
    if lines > LONGEST_FILE {
        found.push(format!("{path}: {lines} lines, more than {LONGEST_FILE}"));
    }
    let Some((layer, _)) = path.split_once('/') else { return found };
    let Some(own) = rank(layer) else {
        found.push(format!("{path}: `{layer}` is not a layer that the rules know"));
        return found;
    };
    let code = blank(source);
    for name in crate_names(path, &code) {
        let target = if rank(&name).is_some() { &name } else { root.get(&name).unwrap_or(&name) };
        let Some(height) = rank(target) else { continue };
        let reads_config = target == "config" && own < height;
        if target != layer && (height >= own || reads_config) {
            found.push(format!("{path}: `{layer}` may not import `{target}` (as `crate::{name}`)"));
        }
    }
    for (prefix, words) in FORBIDDEN {
        if path.starts_with(prefix) {
            let hits =
                identifiers(&code).filter(|name| words.iter().any(|word| name == word || (*word != "async" && name.starts_with(word))));
            found.extend(hits.map(|name| format!("{path}: `{name}` is forbidden in {prefix}")));
        }
    }
    if layer == "protocol" {
        found.extend(CLOCKS.iter().filter(|clock| code.contains(**clock)).map(|clock| format!("{path}: {clock} in protocol/")));
    }
    found.dedup();
    found
}

/// First segments of all paths from the crate root: `crate::a`, `crate::{a, b::c}`, and `super::…` that climbs out of the layer.
fn crate_names(path: &str, code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let whole_word = !code[..at].ends_with(|last: char| last.is_alphanumeric() || last == '_');
        if whole_word {
            heads(&code[at + "crate::".len()..], &mut names);
        }
    }
    let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = module.split('/').count();
    for (at, _) in code.match_indices("super::") {
        let chain_starts = !code[..at].ends_with("super::");
        if chain_starts && count_supers(&code[at..]) >= depth {
            heads(code[at..].trim_start_matches("super::"), &mut names);
        }
    }
    names
}

fn count_supers(chain: &str) -> usize {
    let mut rest = chain;
    let mut count = 0;
    while let Some(next) = rest.strip_prefix("super::") {
        rest = next;
        count += 1;
    }
    count
}

/// The first identifier of a use tree, or of each branch when it is a group.
fn heads(tree: &str, names: &mut Vec<String>) {
    let tree = tree.trim_start();
    let Some(group) = tree.strip_prefix('{') else {
        names.extend(identifiers(tree).next().filter(|name| tree.starts_with(name.as_str())));
        return;
    };
    let mut depth = 1;
    let mut branch = String::new();
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && character == ',') {
            names.extend(identifiers(&branch).next());
            branch.clear();
        } else {
            branch.push(character);
        }
        if depth == 0 {
            return;
        }
    }
}

fn identifiers(code: &str) -> impl Iterator<Item = String> + '_ {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    code.split(move |character| !is_part(character)).filter(|word| !word.is_empty()).map(str::to_owned)
}

/// The source with comments and the inside of string and character literals replaced by blanks.
fn blank(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(hashes) = raw_string(rest, out.chars().last()) {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = rest.find('"').map_or(rest.len(), |at| at + 1);
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if next == '"' {
            quoted(rest, '"')
        } else if next == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            0
        };
        if skip == 0 {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            out.push(' ');
            rest = &rest[skip..];
        }
    }
    out
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Number of hashes when a raw string starts here.
fn raw_string(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|last| (last.is_alphanumeric() && last != 'b') || last == '_') {
        return None;
    }
    let tail = text.strip_prefix('r')?;
    let hashes = tail.len() - tail.trim_start_matches('#').len();
    tail[hashes..].starts_with('"').then_some(hashes)
}

/// Length of a quoted literal, escapes respected.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            found if found == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Tells `'x'` and `'\n'` from a lifetime.
fn is_character(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

/// Names that lib.rs re-exports at the root, each with its layer: `pub use cluster::Broker` makes `crate::Broker` mean `cluster`.
fn root_names(lib: &str) -> BTreeMap<String, String> {
    let code = blank(lib);
    let mut names = BTreeMap::new();
    for statement in code.split(';').filter_map(|part| part.split_once("pub use ").map(|(_, tree)| tree)) {
        let tree = statement.trim().trim_start_matches("crate::");
        let Some(layer) = identifiers(tree).next().filter(|name| rank(name).is_some()) else { continue };
        names.extend(identifiers(tree).skip(1).map(|name| (name, layer.clone())));
    }
    names
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("src is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_layer_imports_what_lies_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = std::fs::read_to_string(src.join("lib.rs")).expect("src/lib.rs");
    let root = root_names(&lib);
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 20, "only {} files found under {}", files.len(), src.display());
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(&src).expect("below src").to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&file).expect("a readable file");
        found.extend(violations(&path, &source, &root));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_checker_finds_made_up_violations() {
    let root = root_names("pub use cluster::{Broker, Event};\npub use config::Settings;");
    let count = |path: &str, source: &str| violations(path, source, &root).len();
    assert_eq!(count("protocol/frame.rs", "use crate::domain::App;"), 1, "upwards");
    assert_eq!(count("domain/app.rs", "use crate::{protocol::SocketId, http::{self, events}};"), 1, "inside a group");
    assert_eq!(count("domain/app.rs", "fn f() { crate::server::run() }"), 1, "inline");
    assert_eq!(count("domain/app.rs", "fn f(b: &crate::Broker) {}"), 1, "through a re-export");
    assert_eq!(count("domain/app.rs", "use super::super::cluster::Broker;"), 1, "by climbing");
    assert_eq!(count("http/events.rs", "use crate::connection::Actor;"), 1, "siblings");
    assert_eq!(count("http/mod.rs", "use crate::config::Settings;"), 1, "config below server");
    assert_eq!(count("protocol/mod.rs", "async fn f() { Instant::now(); }"), 2, "async and a clock");
    assert_eq!(count("domain/outbox.rs", "use tokio::sync::Notify;"), 1, "tokio in domain");
    assert_eq!(count("connection/machine/signin.rs", "use actix_web::web;"), 1, "actix in the machine");
    assert_eq!(count("utils/mod.rs", ""), 1, "an unknown layer");
    assert_eq!(count("cli/mod.rs", &"\n".repeat(LONGEST_FILE + 1)), 1, "a long file");
}

#[test]
fn the_checker_lets_lawful_code_pass() {
    let root = root_names("pub use cluster::Broker;");
    let lawful = [
        ("server/mod.rs", "use crate::{config::Settings, connection, http};"),
        ("config/load.rs", "use crate::{http::Options, domain::App};"),
        ("connection/actor.rs", "use super::machine::Machine; use crate::Broker; use tokio::time;"),
        (
            "domain/app.rs",
            "// see crate::server\n/* crate::http /* nested */ tokio */ const A: &str = \"crate::cli \\\" tokio\"; fn f<'a>(x: &'a str) {}",
        ),
        (
            "protocol/limits.rs",
            "//! no async, no tokio\nconst T: &str = r#\"async \"tokio\" \"#; const Q: char = '\"'; use super::close::Code;",
        ),
        ("domain/tests.rs", "mod tests { use super::super::app::App; }"),
    ];
    for (path, source) in lawful {
        assert_eq!(violations(path, source, &root), Vec::<String>::new(), "{path}");
    }
}
