//! In whose name listeners send: the key and the secret of each application, those that come and go while the broker runs included.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{sync::watch, time::timeout};

use crate::{domain::FormerKey, lifecycle::listener::Retry, protocol::SigningKey};

/// How long a look at the applications that are served may take.
const LOOKED_WITHIN: Duration = Duration::from_secs(10);

/// What requests of one application are signed with.
#[derive(Clone)]
pub(crate) struct Signer {
    /// `X-Pusher-Key`.
    pub(crate) app_key: String,
    /// What bodies are signed with.
    pub(crate) signing_key: SigningKey,
    /// The secret before that one: who refuses the signature may still have it.
    pub(crate) former_key: Option<FormerKey>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("app_key", &self.app_key).finish_non_exhaustive()
    }
}

/// The signers of all applications, by id. Clones have the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: RwLock<HashMap<String, Arc<Signer>>>,
    /// How often it was looked which applications there are; none if they never change.
    looks: Option<watch::Sender<u64>>,
}

impl Signers {
    /// Those of applications that come and go: [`looked`](Self::looked) says that the known ones are all there are.
    pub(crate) fn growing() -> Self {
        Self(Arc::new(Inner { looks: Some(watch::Sender::new(0)), ..Inner::default() }))
    }

    /// From here on this is what the application signs with. One that is gone keeps its signer: the ends of what its connections held are
    /// still to be told.
    pub(crate) fn set(&self, app_id: &str, signer: Signer) {
        self.0.known.write().insert(app_id.to_owned(), Arc::new(signer));
    }

    /// The same for an application that has none yet.
    pub(crate) fn add(&self, app_id: &str, signer: impl FnOnce() -> Signer) {
        self.0.known.write().entry(app_id.to_owned()).or_insert_with(|| Arc::new(signer()));
    }

    /// All applications that there are now are known.
    pub(crate) fn looked(&self) {
        if let Some(looks) = &self.0.looks {
            looks.send_modify(|looks| *looks += 1);
        }
    }

    fn known(&self, app_id: &str) -> Option<Arc<Signer>> {
        self.0.known.read().get(app_id).cloned()
    }

    /// Whose name an entry of the log is sent in; nobody's, if there is no such application any more. One that another node serves may
    /// not be known here yet: then this waits until it has been looked for.
    ///
    /// # Errors
    /// [`Retry`] when nobody could look.
    pub(super) async fn of(&self, app_id: &str) -> Result<Option<Arc<Signer>>, Retry> {
        if let (None, Some(looks)) = (self.known(app_id), &self.0.looks) {
            let mut seen = looks.subscribe();
            // The look that is under way may have begun before the application was there.
            let enough = *seen.borrow() + 2;
            let looked = timeout(LOOKED_WITHIN, seen.wait_for(|looks| *looks >= enough || self.known(app_id).is_some())).await;
            if !matches!(looked, Ok(Ok(_))) {
                return Err(Retry::unavailable("the table of applications cannot be read"));
            }
        }
        Ok(self.known(app_id))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn signer(key: &str) -> Signer {
        Signer { app_key: key.to_owned(), signing_key: SigningKey::new("s"), former_key: None }
    }

    #[tokio::test]
    async fn an_application_that_is_new_is_waited_for_and_one_that_is_gone_is_not() {
        let fixed = Signers::default();
        fixed.set("shop", signer("a"));
        assert!(fixed.of("shop").await.unwrap().is_some() && fixed.of("news").await.unwrap().is_none());

        let growing = Signers::growing();
        let mut new = Box::pin(growing.of("shop"));
        assert!(new.as_mut().now_or_never().is_none());
        growing.looked();
        assert!(new.as_mut().now_or_never().is_none(), "that look may have begun before");
        growing.set("shop", signer("b"));
        growing.looked();
        assert_eq!(new.await.unwrap().unwrap().app_key, "b");
        growing.add("shop", || signer("c"));
        assert_eq!(growing.of("shop").await.unwrap().unwrap().app_key, "b", "it has one");
        let mut gone = Box::pin(growing.of("gone"));
        assert!(gone.as_mut().now_or_never().is_none());
        growing.looked();
        growing.looked();
        assert!(gone.await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_can_look_it_is_tried_again() {
        assert!(Signers::growing().of("shop").await.is_err());
    }
}
