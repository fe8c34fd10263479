//! The effective configuration as a file, with the origin of each value.

use super::{load::Loaded, section::Section};

/// The column at which a comment starts, when the value leaves room.
const COMMENT_COLUMN: usize = 40;

impl Loaded {
    /// Every key with its value and, in a comment, where the value came from. It is TOML; secrets are `<redacted>`.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        self.print(&self.settings, "", "", &mut text);
        text
    }

    /// `prefix` is what stands before a key in [`Origins`](super::Origins), `path` the same as the header of a list has it.
    fn print(&self, section: &dyn Section, prefix: &str, path: &str, text: &mut String) {
        let mut current = None;
        for (key, value) in section.values() {
            let (group, name) = key.rsplit_once('.').unwrap_or(("", &key));
            if current.as_deref() != Some(group) {
                let gap = if text.is_empty() { "" } else { "\n" };
                let header = match (path, group) {
                    ("", group) => format!("[{group}]"),
                    (path, "") => format!("[[{path}]]"),
                    (path, group) => format!("[{path}.{group}]"),
                };
                text.push_str(&format!("{gap}{header}\n"));
                current = Some(group.to_owned());
            }
            let line = format!("{name} = {value}");
            // A comment ends with its line, whatever a file is called.
            let origin = self.origins.of(&format!("{prefix}{key}")).to_string().escape_debug().to_string();
            text.push_str(&format!("{line:<COMMENT_COLUMN$} # {origin}\n"));
        }
        for (list, entries) in section.lists() {
            let path = if path.is_empty() { list.to_owned() } else { format!("{path}.{list}") };
            for (i, entry) in entries.into_iter().enumerate() {
                self.print(entry, &format!("{prefix}{list}[{i}]."), &path, text);
            }
        }
    }
}
