//! Closed lists of words, as they stand in the log, on the wire and in APIs: one enum each, written and read in one place.

/// A word that is on no list of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not a word for {what}")]
pub struct UnknownWord {
    /// What was read.
    pub what: &'static str,
    /// The word.
    pub word: String,
}

/// Declares a closed list: an enum with `ALL`, `as_str` and `parse`.
macro_rules! words {
    ($(#[$meta:meta])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        pub enum $name {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Reads the word.
            ///
            /// # Errors
            /// [`UnknownWord`]($crate::domain::UnknownWord) for any other.
            pub fn parse(word: &str) -> Result<Self, $crate::domain::UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::domain::UnknownWord { what: stringify!($name), word: word.to_owned() }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;
