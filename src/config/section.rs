//! A group of keys, and the macro that declares one: the single source of names, types, defaults and rules.

use super::{
    apply::Reading,
    error::{ConfigError, Reason, Violation},
    rules::Given,
};

/// A struct whose fields are keys. A key inside of it is named without the section: `port`, `limits.max_batch`.
pub(super) trait Section {
    /// Every key, in the order of declaration; those of lists excluded.
    fn keys() -> Vec<String>
    where
        Self: Sized;

    /// The keys that an entry of a list has to give.
    fn required() -> &'static [&'static str]
    where
        Self: Sized;

    /// The lists of tables.
    fn list_names() -> &'static [&'static str]
    where
        Self: Sized;

    /// Reads, checks and stores a value. `None` when there is no such key.
    fn set(&mut self, key: &str, given: Given<'_>) -> Option<Result<(), Reason>>;

    /// Reads and stores a whole list of tables. `None` when there is no such list.
    fn set_list(&mut self, list: &str, value: &toml::Value, reading: &mut Reading<'_>) -> Option<Result<(), ConfigError>>;

    /// Every key with its value as it stands in a file; a secret as `<redacted>`.
    fn values(&self) -> Vec<(String, toml::Value)>;

    /// Every list of tables with its entries.
    fn lists(&self) -> Vec<(&'static str, Vec<&dyn Section>)>;

    /// Whether every value keeps its rule.
    fn check(&self) -> Result<(), Violation>;
}

/// Declares a settings struct: `key: type = default, rule;` then groups of keys, then lists of tables.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $name:ident $( requires $( $required:ident ),+ )? {
            $( $(#[$key_meta:meta])* $key:ident: $key_type:ty = $default:expr, $rule:expr; )*
        }
        $( sections { $( $(#[$sub_meta:meta])* $sub:ident: $sub_type:ty; )* } )?
        $( lists { $( $(#[$list_meta:meta])* $list:ident: $entry_type:ty = $list_default:expr; )* } )?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$key_meta])* pub $key: $key_type, )*
            $( $( $(#[$sub_meta])* pub $sub: $sub_type, )* )?
            $( $( $(#[$list_meta])* pub $list: Vec<$entry_type>, )* )?
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

            fn required() -> &'static [&'static str] {
                &[$( $( stringify!($required) ),+ )?]
            }

            fn list_names() -> &'static [&'static str] {
                &[$( $( stringify!($list) ),* )?]
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

            #[allow(unused_variables, reason = "most sections have no lists")]
            fn set_list(
                &mut self,
                list: &str,
                value: &toml::Value,
                reading: &mut $crate::config::apply::Reading<'_>,
            ) -> Option<Result<(), $crate::config::error::ConfigError>> {
                $( $( if list == stringify!($list) {
                    return Some(reading.list(list, value).map(|entries: Vec<$entry_type>| self.$list = entries));
                } )* )?
                None
            }

            fn values(&self) -> Vec<(String, toml::Value)> {
                #[allow(unused_imports, reason = "a section of groups has no rule")]
                use $crate::config::rules::Rule;
                #[allow(unused_mut, reason = "a section without groups has nothing to add")]
                let mut values: Vec<(String, toml::Value)> = vec![$( (stringify!($key).to_owned(), $rule.encode(&self.$key)) ),*];
                $( $( values.extend(self.$sub.values().into_iter().map(|(key, value)| (format!("{}.{key}", stringify!($sub)), value))); )* )?
                values
            }

            fn lists(&self) -> Vec<(&'static str, Vec<&dyn $crate::config::section::Section>)> {
                vec![$( $( (stringify!($list), self.$list.iter().map(|entry| entry as &dyn $crate::config::section::Section).collect()) ),* )?]
            }

            fn check(&self) -> Result<(), $crate::config::error::Violation> {
                #[allow(unused_imports, reason = "a section of groups has no rule")]
                use $crate::config::rules::Rule;
                $( $rule.check(&self.$key).map_err(|reason| {
                    $crate::config::error::Violation { key: stringify!($key).to_owned(), reason }
                })?; )*
                $( $( self.$sub.check().map_err(|violation| violation.below(stringify!($sub)))?; )* )?
                $( $( for (i, entry) in self.$list.iter().enumerate() {
                    entry.check().map_err(|violation| violation.below(&format!("{}[{i}]", stringify!($list))))?;
                } )* )?
                Ok(())
            }
        }
    };
}
pub(super) use section;
