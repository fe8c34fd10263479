//! A configuration file: its values, and the line of each for the error that names it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    apply::Source,
    error::{ConfigError, Place},
    origin::Origin,
};

/// A file that is valid TOML.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) table: toml::Table,
    text: String,
}

impl File {
    /// Reads a file that has to be there.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::UnreadableFile { path: path.to_owned(), source })?;
        let table = text.parse().map_err(|error: toml::de::Error| syntax(path, &text, &error))?;
        Ok(Self { path: path.to_owned(), table, text })
    }

    /// Reads a file that may be missing, but not unreadable.
    pub(super) fn read_if_present(path: &Path) -> Result<Option<Self>, ConfigError> {
        match Self::read(path) {
            Ok(file) => Ok(Some(file)),
            Err(ConfigError::UnreadableFile { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Source for File {
    fn origin(&self) -> Origin {
        Origin::File(self.path.clone())
    }

    fn place(&self, key: &str) -> Place {
        Place { origin: self.origin(), line: line_of(&self.text, key) }
    }
}

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let message = error.message().replace('\n', ", ");
    ConfigError::Syntax { path: path.to_owned(), line: line_at(text, before.len()), column, message }
}

/// The line of a dotted key, or of the innermost table around it.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = Some(document.get_ref());
    let mut start = None;
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.strip_suffix(']').and_then(|index| index.parse::<usize>().ok())),
            None => (part, None),
        };
        let Some((found, value)) = table.and_then(|table| table.iter().find(|(found, _)| found.get_ref() == name)) else { break };
        start = Some(found.span().start);
        table = match (value.get_ref(), index) {
            (DeValue::Array(list), Some(index)) => list.get(index).and_then(|entry| {
                start = Some(entry.span().start);
                entry.get_ref().as_table()
            }),
            (value, _) => value.as_table(),
        };
    }
    start.map(|start| line_at(text, start))
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# comment\n[server]\nport = 1\n\n[[apps]]\nid = \"a\"\n\n[[apps]]\nid = \"b\"\n[apps.limits]\nmax_batch = 0\n";

    #[test]
    fn a_key_is_found_in_its_line() {
        assert_eq!(line_of(TEXT, "server.port"), Some(3));
        assert_eq!(line_of(TEXT, "apps[0].id"), Some(6));
        assert_eq!(line_of(TEXT, "apps[1].id"), Some(9));
        assert_eq!(line_of(TEXT, "apps[1].limits.max_batch"), Some(11));
    }

    #[test]
    fn a_missing_key_is_placed_at_its_table() {
        assert_eq!(line_of(TEXT, "apps[1].secret"), Some(8));
        assert_eq!(line_of(TEXT, "nowhere"), None);
    }

    #[test]
    fn a_syntax_error_names_line_and_column_but_not_the_text() {
        let text = "[[apps]]\nsecret = \"s3cret\n";
        let error = text.parse::<toml::Table>().unwrap_err();
        let shown = syntax(Path::new("x.toml"), text, &error).to_string();
        assert!(shown.starts_with("x.toml:2:"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_file_may_be_missing_only_when_nobody_named_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdline.toml");
        assert!(File::read_if_present(&path).unwrap().is_none());
        let error = File::read(&path).err().unwrap().to_string();
        assert!(error.contains("cannot read the configuration file") && error.contains("holdline.toml"), "{error}");
        assert!(File::read_if_present(directory.path()).is_err(), "a directory is not a missing file");
    }
}
