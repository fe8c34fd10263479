//! What README and the guides say is true: every block of theirs is run, compiled or read by whoever it is for, every link leads
//! somewhere, every key and file that is named is there. A block that nobody checks fails.
//!
//! Rust is compiled by `cargo test --doc`; JavaScript, PHP, Python and pages are run by `tests/clients/guides.test.mjs`; the rest here.
//! What a block needs besides its text stands in front of it, as `<!-- verb: … -->`:
//!
//! | note | what it does |
//! |---|---|
//! | `ports: 6001 8000` | from here on these numbers are free ports |
//! | `instead: A => B` | from here on B is used where the text says A; `$POSTGRES`, `$PLACE`, `$REPOSITORY` and `$PORT` are ours |
//! | `setup: COMMAND`, `setup: background NAME until TEXT :: COMMAND` | what a reader would have done before; not shown |
//! | `stop: NAME` | Ctrl-C for what runs in the background |
//! | `run: background NAME until TEXT` | `sh` that goes on running; it has printed TEXT before the page goes on |
//! | `run: exits 1` | `sh` that fails so |
//! | `run: exists` | `sh` that is only looked for: `tests/run` runs this test |
//! | `file: NAME`, `append: NAME` | the block is that file, in the directory of the page |
//! | `output: NAME` | `text` that NAME prints, sooner or later; without it, what the block before has printed |
//! | `picture: WHY` | `text` that nobody prints |
//! | `with: A=B, C=D` | what is used for names in this block |
//! | `sql: postgres sqlite` | where it is executed |
//! | `check: refused TEXT`, `check: cargo` | `toml` that is refused so; of a Cargo.toml |
//! | `check: broker`, `check: application` | `ini` for the broker, for Laravel |
//! | `test: NAME` | `tests/clients/guides.test.mjs` runs it, under this name |

mod compare;
mod consumers;
mod links;
mod page;
mod session;
mod theirs;

use std::{collections::BTreeSet, fs, path::Path};

use page::{Fault, Page};
use session::Session;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const GUIDES: &str = "src/docs/guides";
/// What rustdoc's links are made of; not a guide.
const LINKS: &str = "src/docs/guides/links.md";
/// Languages whose blocks `tests/clients/guides.test.mjs` runs.
const FOR_CLIENTS: [&str; 6] = ["js", "php", "python", "html", "json", "http"];
const HERE: [&str; 8] = ["rust", "toml", "sh", "text", "sql", "ini", "nginx", "yaml"];

fn guides() -> Vec<String> {
    let entries = fs::read_dir(Path::new(ROOT).join(GUIDES)).expect("the guides are there");
    let mut names: Vec<String> = entries.flatten().map(|entry| format!("{GUIDES}/{}", entry.file_name().to_string_lossy())).collect();
    names.retain(|name| name != LINKS);
    names.sort();
    names
}

fn pages() -> Vec<Page> {
    let mut names = guides();
    names.insert(0, "README.md".to_owned());
    names.iter().map(|name| Page::read(name).unwrap_or_else(|fault| panic!("{fault}"))).collect()
}

fn all_is_well(faults: impl IntoIterator<Item = Fault>) {
    let faults: Vec<String> = faults.into_iter().map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Whether there is somebody for each block of a page.
fn inventory(page: &Page, clients: &str, library: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for block in page.blocks() {
        let language = block.language.as_str();
        let forbidden = ["ignore", "text"].iter().find(|word| block.attributes.iter().any(|attribute| attribute == *word));
        let reason = if !HERE.contains(&language) && !FOR_CLIENTS.contains(&language) {
            format!("there is no way to check a block of \"{language}\"")
        } else if let Some(word) = forbidden {
            format!("\"{word}\" keeps this block from being checked")
        } else if language == "rust" && !library.contains(&page.path["src/".len().min(page.path.len())..]) && page.path != "README.md" {
            "src/lib.rs does not include this page, so nobody compiles this block".to_owned()
        } else if FOR_CLIENTS.contains(&language) {
            match block.note("test") {
                None => format!("a block of \"{language}\" needs the name of its test: <!-- test: NAME -->"),
                Some(name) if !clients.contains(&format!("'{name}'")) => format!("tests/clients/guides.test.mjs has no '{name}'"),
                Some(_) => continue,
            }
        } else {
            continue;
        };
        faults.push(page.fault(block.line, reason));
    }
    faults
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn there_is_somebody_to_check_every_block() {
    let (clients, library) = (read("tests/clients/guides.test.mjs"), read("src/lib.rs"));
    all_is_well(pages().iter().flat_map(|page| inventory(page, &clients, &library)));
}

#[test]
fn every_guide_is_part_of_the_documentation_and_has_its_test() {
    let (library, us) = (read("src/lib.rs"), read("tests/guides.rs"));
    for path in guides() {
        assert!(library.contains(&format!("include_str!(\"{}\")", &path["src/".len()..])), "src/lib.rs does not include {path}");
        let stem = Path::new(&path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(us.contains(&format!("(\"{stem}\")")), "no test of this file runs {path}");
        assert!(read("README.md").contains(&path), "README does not link to {path}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let modules = Page::read(LINKS).unwrap_or_else(|fault| panic!("{fault}"));
    all_is_well(pages().iter().filter_map(|page| links::check(page).err()));
    let guides = pages().into_iter().filter(|page| page.path != "README.md");
    all_is_well(guides.filter_map(|page| links::check_for_rustdoc(&page, &modules).err()));
}

#[test]
fn the_links_of_the_other_pages_lead_somewhere_too() {
    let entries = fs::read_dir(Path::new(ROOT).join("src/docs")).expect("the pages are there").flatten();
    let names = entries.map(|entry| format!("src/docs/{}", entry.file_name().to_string_lossy())).filter(|name| name.ends_with(".md"));
    let pages = names.map(|name| Page::read(&name).unwrap_or_else(|fault| panic!("{fault}")));
    all_is_well(pages.filter_map(|page| links::check(&page).and_then(|()| links::check_for_files(&page)).err()));
}

/// Words in backticks.
fn quoted(page: &Page) -> Vec<(usize, &str)> {
    let prose = page.prose().into_iter();
    prose.flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(move |word| (line, word))).collect()
}

#[test]
fn every_key_that_is_named_is_one() {
    let known = keys(&read("config/holdline.toml"));
    let mut faults = Vec::new();
    for page in pages() {
        // In the first column of a page about another broker stand that one's keys.
        let theirs = |line: usize, word: &str| {
            let row = page.text.lines().nth(line - 1).filter(|row| row.starts_with('|') && page.path.contains("moving-from"));
            row.is_some_and(|row| row.split(" | ").next().is_some_and(|cell| cell.contains(word)))
        };
        for (line, word) in quoted(&page).into_iter().filter(|(line, word)| !theirs(*line, word)) {
            if is_key(word, &known) == Some(false) {
                faults.push(page.fault(line, format!("there is no key `{word}`")));
            }
        }
    }
    all_is_well(faults);
}

/// `section.key` of every line of the file, those that are commented out included; a list of tables is `apps[]`.
fn keys(text: &str) -> BTreeSet<String> {
    let (mut section, mut keys) = (String::new(), BTreeSet::new());
    for line in text.lines().map(|line| line.strip_prefix('#').unwrap_or(line)) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_start_matches('[').split(']').next().unwrap_or_default().to_owned();
            section =
                section.replacen("apps", "apps[]", 1).replacen("holds", "holds[]", 1).replacen("apps[].webhooks", "apps[].webhooks[]", 1);
            section = section.replacen("listeners", "listeners[]", 1);
            keys.insert(section.trim_end_matches("[]").to_owned());
        } else if let Some((key, _)) = line.split_once('=').filter(|(key, _)| !key.starts_with(' ')) {
            keys.insert(format!("{section}.{}", key.trim()));
        }
    }
    keys
}

/// `None` if this is no key at all.
fn is_key(word: &str, known: &BTreeSet<String>) -> Option<bool> {
    let (first, rest) = word.split_once('.')?;
    let sections: BTreeSet<&str> = known.iter().filter_map(|key| key.split('.').next()).filter(|name| !name.is_empty()).collect();
    let plain = rest.chars().all(|c| c.is_ascii_lowercase() || "_.[]*".contains(c)) && !rest.is_empty();
    if !sections.contains(first) || !plain {
        return None;
    }
    let stem = word.strip_suffix(".*");
    Some(known.contains(word) || stem.is_some_and(|stem| known.contains(stem)))
}

#[test]
fn every_file_that_is_named_is_there() {
    let mut faults = Vec::new();
    for page in pages() {
        for (line, word) in quoted(&page) {
            let ours = ["src/", "config/", "clients/", "tests/"].iter().any(|directory| word.starts_with(directory));
            let of_laravel = word.starts_with("config/") && word.ends_with(".php");
            if ours && !of_laravel && !word.contains([' ', '*', '{']) && !Path::new(ROOT).join(word).exists() {
                faults.push(page.fault(line, format!("there is no `{word}`")));
            }
        }
    }
    all_is_well(faults);
}

/// Every alias of another broker's variable is on the page about that broker, with the key that it means.
#[test]
fn every_variable_of_another_broker_that_is_read_is_on_its_page() {
    let aliases = read("src/config/aliases.rs");
    let mut faults = Vec::new();
    for (prefix, path) in [("SOKETI_", "moving-from-soketi"), ("REVERB_", "moving-from-reverb")] {
        let Ok(text) = fs::read_to_string(Path::new(ROOT).join(format!("{GUIDES}/{path}.md"))) else { continue };
        for line in aliases.lines().map(str::trim).filter(|line| line.starts_with("alias(\"")) {
            let mut words = line.split('"').skip(1).step_by(2);
            let (Some(variable), Some(key)) = (words.next(), words.next()) else { continue };
            let row = text.lines().find(|row| row.starts_with('|') && row.contains(&format!("`{variable}`")));
            if variable.starts_with(prefix) && !row.is_some_and(|row| row.contains(key)) {
                faults.push(Fault { place: format!("{GUIDES}/{path}.md"), reason: format!("no row says that {variable} is {key}") });
            }
        }
    }
    all_is_well(faults);
}

#[test]
fn every_setting_of_another_broker_is_on_its_page() {
    let pages = pages();
    all_is_well(pages.iter().flat_map(theirs::left_out));
    let Ok(empty) = Page::parse("src/docs/guides/moving-from-reverb.md", "| `REVERB_SERVER_…` |\n") else { panic!("a page") };
    let faults = theirs::left_out(&empty);
    assert!(faults.iter().any(|fault| fault.to_string().ends_with("nothing is said of REVERB_HOST")), "{faults:?}");
    assert!(!faults.iter().any(|fault| fault.to_string().contains("REVERB_SERVER_PORT")), "{faults:?}");
}

fn follow(path: &str) {
    let page = Page::read(path).unwrap_or_else(|fault| panic!("{fault}"));
    all_is_well(Session::new(&page).run().err());
}

fn guide(stem: &str) {
    follow(&format!("{GUIDES}/{stem}.md"));
}

#[test]
fn readme_is_as_it_says() {
    follow("README.md");
}

#[test]
fn the_first_hour_is_as_it_says() {
    guide("first-hour");
}

#[test]
fn order_locks_are_as_they_say() {
    guide("order-locks");
}

#[test]
fn handlers_are_as_they_say() {
    guide("handlers");
}

#[test]
fn listeners_are_as_they_say() {
    guide("listeners");
}

#[test]
fn production_is_as_it_says() {
    guide("production");
}

#[test]
fn the_questions_are_as_they_say() {
    guide("faq");
}

#[test]
fn moving_from_pusher_is_as_it_says() {
    guide("moving-from-pusher");
}

#[test]
fn moving_from_soketi_is_as_it_says() {
    guide("moving-from-soketi");
}

#[test]
fn moving_from_reverb_is_as_it_says() {
    guide("moving-from-reverb");
}

#[test]
fn moving_from_laravel_websockets_is_as_it_says() {
    guide("moving-from-laravel-websockets");
}

/// What a page with this block is found to be.
fn verdict(text: &str) -> String {
    match Page::parse("page.md", text) {
        Err(fault) => fault.to_string(),
        Ok(page) => {
            let faults = inventory(&page, "'known'", "");
            let link = links::check(&page).err();
            let first = faults.into_iter().next().or(link).or_else(|| Session::new(&page).run().err());
            first.map_or_else(|| "nothing wrong".to_owned(), |fault| fault.to_string())
        }
    }
}

#[test]
fn the_runner_says_what_is_wrong_and_where() {
    let cases = [
        ("# t\n\n```sh\necho one\n```\n```text\none\n```\n", "nothing wrong"),
        ("# t\n\n```sh\nfalse\n```\n", "page.md:3: it ended with exit status: 1"),
        ("```sh\nholdline no-such-command\n```\n", "page.md:1: it ended with exit status: 2"),
        ("```sh\necho one\n```\n\n```text\ntwo\n```\n", "page.md:5: this is said to be printed:\ntwo\nand this is:\none"),
        ("<!-- run: exits 3 -->\n```sh\nexit 3\n```\n", "nothing wrong"),
        ("<!-- run: exits 3 -->\n```sh\ntrue\n```\n", "page.md:2: it ended with exit status: 0"),
        ("<!-- run: background b until Listening -->\n```sh\ntrue\n```\n", "page.md:2: it did not print \"Listening\""),
        ("```toml\n[server]\nprot = 1\n```\n", "page.md:1: unknown key \"server.prot\""),
        ("```toml\n[[apps.holds]]\nchannel = \"private-order.{id}\"\nresource = \"order:{id}\"\nevent = \"Order\"\n```\n", "nothing wrong"),
        ("<!-- sql: postgres sqlite -->\n```sql\nSELECT 1;\n```\n", "nothing wrong"),
        ("<!-- sql: sqlite -->\n```sql\nSELECT nothing FROM nowhere;\n```\n", "page.md:2: sqlite: "),
        ("<!-- sql: postgres -->\n```sql\nSELECT nothing FROM nowhere;\n```\n", "page.md:2: postgres: ERROR"),
        ("```sql\nSELECT 1;\n```\n", "page.md:1: sql: postgres, or sql: sqlite"),
        ("<!-- check: broker -->\n```ini\nSOKETI_PORT=7001\n```\n", "nothing wrong"),
        ("<!-- check: broker -->\n```ini\nSOKETI_DEBUG=1\n```\n", "page.md:2: SOKETI_DEBUG set nothing"),
        ("```nginx\nserver { listen 80; no_such_thing on; }\n```\n", "page.md:1: nginx says: "),
        ("```yaml\nscrape_configs: [{ job_nam: x }]\n```\n", "page.md:1: promtool says: "),
        ("<!-- check: cargo -->\n```toml\n[dependencies]\nholdline = { path = \"../nowhere\" }\n```\n", "page.md:2: cargo says: "),
        ("```zig\nconst x = 1;\n```\n", "page.md:1: there is no way to check a block of \"zig\""),
        ("```js\n1;\n```\n", "page.md:1: a block of \"js\" needs the name of its test"),
        ("<!-- test: unknown -->\n```js\n1;\n```\n", "page.md:2: tests/clients/guides.test.mjs has no 'unknown'"),
        ("<!-- test: known -->\n```js\n1;\n```\n", "nothing wrong"),
        ("```rust\n1;\n```\n", "page.md:1: src/lib.rs does not include this page"),
        ("```rust,ignore\n1;\n```\n", "page.md:1: \"ignore\" keeps this block"),
        ("```text\nwho printed this?\n```\n", "page.md:1: there is nothing to compare this with"),
        ("<!-- runn: x -->\n", "page.md:1: the runner does not know the note \"runn\""),
        ("<!-- run: exits 1 -->\nprose\n", "page.md:1: no block follows this note"),
        ("```sh\ntrue\n", "page.md:1: this block has no end"),
        ("\n[a](no-such-file.md)\n", "page.md:2: the link to no-such-file.md leads nowhere"),
        ("# A title\n[a](#a-title) [b](#b-title)\n", "page.md:2: the link to #b-title leads nowhere"),
        ("[a][b]\n", "page.md:1: nothing is called [b]"),
        ("<!-- stop: nobody -->\n", "page.md:1: nothing of this name runs"),
    ];
    for (text, expected) in cases {
        let found = verdict(text);
        let (place, reason) = expected.split_once(": ").unwrap_or((expected, ""));
        assert!(found.starts_with(place) && found.contains(reason), "{text}\nexpected: {expected}\nfound: {found}");
    }
}

#[test]
fn a_wildcard_is_any_text_and_a_line_of_it_any_lines() {
    let yes =
        [("a\n", "a\n"), ("…\nb\n", "a\nb\n"), ("…\nb\n…\n", "b\n"), ("a … c\n", "a b c\n"), ("a   b\n", "a\tb\n"), ("…x…\n", "axb\n")];
    let no = [("a\n", "a\nb\n"), ("…\nb\n", "a\n"), ("a …c\n", "a b\n"), ("", "a\n")];
    for (expected, printed) in yes {
        assert!(compare::matches(expected, printed).is_ok(), "{expected:?} {printed:?}");
    }
    for (expected, printed) in no {
        assert!(compare::matches(expected, printed).is_err(), "{expected:?} {printed:?}");
    }
}
