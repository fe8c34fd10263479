//! Why an entry has to come again.

use std::{any::Any, error::Error, fmt, time::Duration};

use crate::lifecycle::store;

/// A listener's "not yet". `?` makes one of any error.
///
/// Not an error itself, so that every error can become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub(super) message: String,
    pub(super) after: Option<Duration>,
    pub(super) fault: Fault,
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lifecycle) enum Fault {
    /// The entry's: others may succeed, so it is counted, and others go on.
    Entry,
    /// That of what the listener needs: nothing succeeds until it is back, so the shard waits and nothing is counted.
    Outage,
}

impl Retry {
    /// This entry failed. After some attempts it is put aside, with all that follows it for its resource.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), after: None, fault: Fault::Entry }
    }

    /// What the listener works with is away: no entry would succeed, and none is given up for it.
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self { fault: Fault::Outage, ..Self::new(message) }
    }

    /// Not before that; otherwise in 0.1 s, twice as long after each failure, at most 30 s.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = Some(delay);
        self
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(in crate::lifecycle) fn fault(&self) -> Fault {
        self.fault
    }

    pub(in crate::lifecycle) fn delay(&self) -> Option<Duration> {
        self.after
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error + 'static> From<E> for Retry {
    /// The error and its causes. A database that does not answer is an outage.
    fn from(error: E) -> Self {
        let outage = (&error as &dyn Any).downcast_ref::<sqlx::Error>().is_some_and(is_outage);
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            let text = source.to_string();
            // Many errors print their cause themselves.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = source.source();
        }
        if outage { Self::unavailable(message) } else { Self::new(message) }
    }
}

/// Whether the database is away, and not only unwilling about one row: a lock that cannot be had is the entry's fault.
pub(in crate::lifecycle) fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| store::is_outage(&code)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the ledger is closed")]
    struct Closed(#[source] std::io::Error);

    #[test]
    fn any_error_becomes_one_with_its_causes() {
        let retry = Retry::from(Closed(std::io::Error::other("on Sundays")));
        assert_eq!((retry.message(), retry.fault()), ("the ledger is closed: on Sundays", Fault::Entry));
        assert_eq!(Retry::from(sqlx::Error::RowNotFound).fault(), Fault::Entry);
        assert_eq!(Retry::from(sqlx::Error::PoolTimedOut).fault(), Fault::Outage);
        assert_eq!(Retry::from(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())).fault(), Fault::Outage);
        assert_eq!(Retry::new("no").after(Duration::from_secs(1)).delay(), Some(Duration::from_secs(1)));
    }
}
