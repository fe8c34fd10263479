//! Links: on a forge they lead to files, in rustdoc to modules. Guides therefore write `[text][label]`; at their end stand the files, and
//! `src/docs/guides/links.md`, which rustdoc reads first, has the modules for the same labels.

use std::{collections::BTreeMap, path::Path};

use super::page::{Fault, Page};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// `[label]: target` at the beginning of a line.
pub(crate) fn definitions(page: &Page) -> BTreeMap<String, (usize, String)> {
    let lines = page.prose().into_iter().filter_map(|(line, text)| {
        let (label, target) = text.strip_prefix('[')?.split_once("]: ")?;
        Some((label.to_owned(), (line, target.trim().to_owned())))
    });
    lines.collect()
}

/// `[text](target)`.
fn inline(page: &Page) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in page.prose() {
        let mut rest = text;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            if let Some((target, _)) = rest.split_once(')') {
                found.push((line, target.to_owned()));
            }
        }
    }
    found
}

/// `[text][label]`.
fn references(page: &Page) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in page.prose() {
        let mut rest = text;
        while let Some(at) = rest.find("][") {
            rest = &rest[at + 2..];
            if let Some((label, _)) = rest.split_once(']') {
                found.push((line, label.to_owned()));
            }
        }
    }
    found
}

fn is_relative(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("crate::") && !target.starts_with("mailto:")
}

/// What a heading is called in an address, on forges and in rustdoc.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(page: &Page) -> Vec<String> {
    let headings = page.prose().into_iter().filter(|(_, line)| line.starts_with('#'));
    headings.map(|(_, line)| anchor(line.trim_start_matches('#'))).collect()
}

/// The target is there, from where the page is.
fn resolve(page: &Page, line: usize, target: &str) -> Result<(), Fault> {
    let (file, fragment) = target.split_once('#').map_or((target, None), |(file, fragment)| (file, Some(fragment)));
    let missing = |what: String| page.fault(line, format!("the link to {target} leads nowhere: {what}"));
    if file.is_empty() {
        let there = fragment.is_some_and(|fragment| anchors(page).iter().any(|anchor| anchor == fragment));
        return if there { Ok(()) } else { Err(missing("this page has no such heading".to_owned())) };
    }
    let path = Path::new(ROOT).join(&page.path).parent().unwrap_or(Path::new(ROOT)).join(file);
    if !path.exists() {
        return Err(missing(format!("there is no {}", path.display())));
    }
    let Some(fragment) = fragment else { return Ok(()) };
    let text = std::fs::read_to_string(&path).map_err(|error| missing(error.to_string()))?;
    let there = Page::parse(file, text)?;
    if anchors(&there).iter().any(|anchor| anchor == fragment) { Ok(()) } else { Err(missing("it has no such heading".to_owned())) }
}

/// Every relative link leads somewhere.
pub(crate) fn check(page: &Page) -> Result<(), Fault> {
    let defined = definitions(page);
    for (line, target) in inline(page).into_iter().chain(defined.values().cloned()).filter(|(_, target)| is_relative(target)) {
        resolve(page, line, &target)?;
    }
    for (line, label) in references(page) {
        if !defined.contains_key(&label) {
            return Err(page.fault(line, format!("nothing is called [{label}] on this page")));
        }
    }
    Ok(())
}

/// A path of Rust's leads somewhere in rustdoc only.
pub(crate) fn check_for_files(page: &Page) -> Result<(), Fault> {
    match inline(page).into_iter().find(|(_, target)| target.starts_with("crate::")) {
        Some((line, target)) => Err(page.fault(line, format!("write [text][label] for {target}, or it leads nowhere among files"))),
        None => Ok(()),
    }
}

/// In rustdoc, too: whatever a guide links to has the module of the same page under the same label.
pub(crate) fn check_for_rustdoc(page: &Page, modules: &Page) -> Result<(), Fault> {
    let modules = definitions(modules);
    if let Some((line, target)) = inline(page).into_iter().find(|(_, target)| is_relative(target) && !target.starts_with('#')) {
        return Err(page.fault(line, format!("write [text][label] for {target}, or it leads nowhere in rustdoc")));
    }
    for (label, (line, target)) in definitions(page) {
        let Some((_, module)) = modules.get(&label) else {
            return Err(page.fault(line, format!("links.md has no [{label}]")));
        };
        let (file, fragment) = target.split_once('#').map_or((target.as_str(), ""), |(file, fragment)| (file, fragment));
        let stem = Path::new(file).file_stem().unwrap_or_default().to_string_lossy().replace('-', "_");
        let guides = !file.starts_with("../");
        let expected = format!("crate::docs::{}{stem}", if guides { "guides::" } else { "" });
        let expected = if fragment.is_empty() { expected } else { format!("{expected}#{fragment}") };
        if *module != expected {
            return Err(page.fault(line, format!("[{label}] is {expected} here, and {module} in links.md")));
        }
    }
    Ok(())
}
