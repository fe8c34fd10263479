//! Names and values that a client has sent, kept in one piece of memory for as long as a handshake is looked at.

use std::fmt;

/// A list of names with their values, in their order.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Pairs {
    text: String,
    /// Where each name ends, and each value.
    ends: Vec<[usize; 2]>,
}

impl Pairs {
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str(value);
        self.ends.push([name_end, self.text.len()]);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |[name_end, value_end]| {
            let pair = (&self.text[start..*name_end], &self.text[*name_end..*value_end]);
            start = *value_end;
            pair
        })
    }

    /// The first value whose name is like this.
    pub(crate) fn find(&self, is: impl Fn(&str) -> bool) -> Option<&str> {
        self.iter().find(|(name, _)| is(name)).map(|(_, value)| value)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Pairs {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> Self {
        // What a browser sends, as a rule.
        let mut all = Self { text: String::with_capacity(512), ends: Vec::with_capacity(16) };
        pairs.into_iter().for_each(|(name, value)| all.push(name.as_ref(), value.as_ref()));
        all
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_as_they_went_in() {
        let all = [("a", "1"), ("", ""), ("a", "2"), ("é", ""), ("", "x")];
        let pairs: Pairs = all.into_iter().collect();
        assert!(pairs.iter().eq(all));
        assert_eq!(pairs.find(|name| name == "a"), Some("1"), "the first of them");
        assert_eq!(pairs.find(|name| name == "b"), None);
        assert_eq!(format!("{pairs:?}"), format!("{all:?}"));
    }
}
