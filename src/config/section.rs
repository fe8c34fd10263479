//! A group of keys, and the macro that declares one: the single source of names, types, defaults and rules.

use super::{
    error::{Reason, Violation},
    rules::Given,
};

/// A struct whose fields are keys. A key inside of it is named without the section: `port`, `limits.max_batch`.
pub(super) trait Section: Default {
    /// Every key, in the order of declaration.
    fn keys() -> Vec<String>;

    /// Reads, checks and stores a value. `None` when there is no such key.
    fn set(&mut self, key: &str, given: Given<'_>) -> Option<Result<(), Reason>>;

    /// The value as it stands in a file; a secret as `<redacted>`.
    fn get(&self, key: &str) -> Option<toml::Value>;

    /// Whether every value keeps its rule.
    fn check(&self) -> Result<(), Violation>;
}

/// Declares a settings struct: `key: type = default, rule;` then groups of keys, then lists that are read elsewhere.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( $(#[$key_meta:meta])* $key:ident: $key_type:ty = $default:expr, $rule:expr; )*
        }
        $( sections { $( $(#[$sub_meta:meta])* $sub:ident: $sub_type:ty; )* } )?
        $( lists { $( $(#[$list_meta:meta])* $list:ident: $list_type:ty = $list_default:expr; )* } )?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$key_meta])* pub $key: $key_type, )*
            $( $( $(#[$sub_meta])* pub $sub: $sub_type, )* )?
            $( $( $(#[$list_meta])* pub $list: $list_type, )* )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $key: $default, )*
                    $( $( $sub: Default::default(), )* )?
                    $( $( $list: $list_default, )* )?
                }
            }
        }

        impl $crate::config::section::Section for $name {
            fn keys() -> Vec<String> {
                #[allow(unused_mut, reason = "a section without groups has nothing to add")]
                let mut keys: Vec<String> = vec![$( stringify!($key).to_owned() ),*];
                $( $( keys.extend(<$sub_type>::keys().iter().map(|key| format!("{}.{key}", stringify!($sub)))); )* )?
                keys
            }

            fn set(
                &mut self,
                key: &str,
                #[allow(unused_variables, reason = "a section of groups reads nothing itself")] given: $crate::config::rules::Given<'_>,
            ) -> Option<Result<(), $crate::config::error::Reason>> {
                #[allow(unused_imports, reason = "a section of groups has no rule")]
                use $crate::config::rules::Rule;
                $( if key == stringify!($key) {
                    return Some($rule.read(given).map(|value| self.$key = value));
                } )*
                $( $( if let Some(key) = key.strip_prefix(concat!(stringify!($sub), ".")) {
                    return self.$sub.set(key, given);
                } )* )?
                None
            }

            fn get(&self, key: &str) -> Option<toml::Value> {
                #[allow(unused_imports, reason = "a section of groups has no rule")]
                use $crate::config::rules::Rule;
                $( if key == stringify!($key) {
                    return Some($rule.encode(&self.$key));
                } )*
                $( $( if let Some(key) = key.strip_prefix(concat!(stringify!($sub), ".")) {
                    return self.$sub.get(key);
                } )* )?
                None
            }

            fn check(&self) -> Result<(), $crate::config::error::Violation> {
                #[allow(unused_imports, reason = "a section of groups has no rule")]
                use $crate::config::rules::Rule;
                $( $rule.check(&self.$key).map_err(|reason| {
                    $crate::config::error::Violation { key: stringify!($key).to_owned(), reason }
                })?; )*
                $( $( self.$sub.check().map_err(|violation| $crate::config::error::Violation {
                    key: format!("{}.{}", stringify!($sub), violation.key),
                    ..violation
                })?; )* )?
                Ok(())
            }
        }
    };
}
pub(super) use section;
