//! A page of the guides as the runner sees it: fenced blocks, and notes to the runner in HTML comments, which no reader sees.

use std::fmt;

/// What a note may say: `<!-- verb: rest -->`. Those of [`FOR_THE_PAGE`] act where they stand, the others on the next block.
pub(crate) const FOR_THE_PAGE: [&str; 4] = ["ports", "instead", "stop", "setup"];
const FOR_A_BLOCK: [&str; 10] = ["run", "file", "append", "output", "picture", "sql", "test", "check", "with", "from"];
/// Comments that belong to somebody else.
const NOT_OURS: [&str; 2] = ["figures", "end of the figures"];

/// Where something stands, and what is wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) place: String,
    pub(crate) reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// A note to the runner.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) line: usize,
    pub(crate) verb: String,
    pub(crate) rest: String,
}

/// A fenced block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The line of its opening fence.
    pub(crate) line: usize,
    pub(crate) language: String,
    /// What stands behind the language.
    pub(crate) attributes: Vec<String>,
    pub(crate) text: String,
    pub(crate) notes: Vec<Note>,
}

impl Block {
    /// What its note of this verb says.
    pub(crate) fn note(&self, verb: &str) -> Option<&str> {
        self.notes.iter().find(|note| note.verb == verb).map(|note| note.rest.as_str())
    }
}

/// What follows one another on a page.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Note(Note),
    Block(Block),
}

/// A page.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) items: Vec<Item>,
}

impl Page {
    /// Reads a file of the repository.
    pub(crate) fn read(path: &str) -> Result<Page, Fault> {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = std::fs::read_to_string(file).map_err(|error| Fault { place: path.to_owned(), reason: error.to_string() })?;
        Page::parse(path, text)
    }

    pub(crate) fn parse(path: &str, text: impl Into<String>) -> Result<Page, Fault> {
        let text = text.into();
        let (mut items, mut notes, mut lines) = (Vec::new(), Vec::new(), text.lines().enumerate());
        while let Some((index, line)) = lines.next() {
            let number = index + 1;
            let wrong = |reason: String| Fault { place: format!("{path}:{number}"), reason };
            if let Some(comment) = line.trim().strip_prefix("<!--").and_then(|line| line.strip_suffix("-->")) {
                let (verb, rest) = comment.trim().split_once(':').unwrap_or((comment.trim(), ""));
                let note = Note { line: number, verb: verb.to_owned(), rest: rest.trim().to_owned() };
                match verb {
                    _ if NOT_OURS.contains(&verb) => {}
                    _ if FOR_THE_PAGE.contains(&verb) => items.push(Item::Note(note)),
                    _ if FOR_A_BLOCK.contains(&verb) => notes.push(note),
                    _ => return Err(wrong(format!("the runner does not know the note \"{verb}\""))),
                }
            } else if let Some(info) = line.trim_start().strip_prefix("```") {
                let indent = line.len() - line.trim_start().len();
                let mut words = info.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned);
                // As for rustdoc, a block without a language is Rust.
                let mut language = words.next().unwrap_or_else(|| "rust".to_owned());
                let mut attributes: Vec<String> = words.collect();
                if ["no_run", "should_panic", "ignore", "compile_fail"].contains(&language.as_str()) {
                    attributes.push(std::mem::replace(&mut language, "rust".to_owned()));
                }
                let mut body = String::new();
                loop {
                    let Some((_, line)) = lines.next() else { return Err(wrong("this block has no end".to_owned())) };
                    if line.trim() == "```" {
                        break;
                    }
                    body.push_str(line.get(indent..).unwrap_or_default());
                    body.push('\n');
                }
                items.push(Item::Block(Block { line: number, language, attributes, text: body, notes: std::mem::take(&mut notes) }));
            } else if !line.trim().is_empty()
                && let Some(note) = notes.first()
            {
                return Err(Fault { place: format!("{path}:{}", note.line), reason: "no block follows this note".to_owned() });
            }
        }
        Ok(Page { path: path.to_owned(), text, items })
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.items.iter().filter_map(|item| match item {
            Item::Block(block) => Some(block),
            Item::Note(_) => None,
        })
    }

    /// A fault at a line of this page.
    pub(crate) fn fault(&self, line: usize, reason: impl Into<String>) -> Fault {
        Fault { place: format!("{}:{line}", self.path), reason: reason.into() }
    }

    /// The lines outside of blocks and comments, with their numbers.
    pub(crate) fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let mut prose = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                inside = !inside;
            } else if !inside && !line.trim_start().starts_with("<!--") {
                prose.push((index + 1, line));
            }
        }
        prose
    }
}
