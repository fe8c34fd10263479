//! The effective configuration as a file, with the origin of each value.

use super::{load::Loaded, section::Section};

/// The column at which a comment starts, when the value leaves room.
const COMMENT_COLUMN: usize = 40;

impl Loaded {
    /// Every key with its value and, in a comment, where the value came from. It is TOML; secrets are `<redacted>`.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        self.print(&self.settings, "", |group| format!("[{group}]"), &mut text);
        for (i, app) in self.settings.apps.iter().enumerate() {
            let header = |group: &str| if group.is_empty() { "[[apps]]".to_owned() } else { format!("[apps.{group}]") };
            self.print(app, &format!("apps[{i}]."), header, &mut text);
        }
        text
    }

    fn print<S: Section>(&self, section: &S, prefix: &str, header: impl Fn(&str) -> String, text: &mut String) {
        let mut current = None;
        for key in S::keys() {
            let Some(value) = section.get(&key) else { continue };
            let (group, name) = key.rsplit_once('.').unwrap_or(("", &key));
            if current.as_deref() != Some(group) {
                let gap = if text.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}{}\n", header(group)));
                current = Some(group.to_owned());
            }
            let line = format!("{name} = {value}");
            // A comment ends with its line, whatever a file is called.
            let origin = self.origins.of(&format!("{prefix}{key}")).to_string().escape_debug().to_string();
            text.push_str(&format!("{line:<COMMENT_COLUMN$} # {origin}\n"));
        }
    }
}
