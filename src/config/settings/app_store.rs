//! Applications that are kept in a table instead of the file.

use crate::config::{rules::Flag, section::section};

section! {
    /// `[app_store]`: applications from the store, beside those of the file.
    AppStoreSettings {
        /// Whether the applications in the table `app` of the store are served, too.
        enabled: bool = false, Flag;
    }
}
