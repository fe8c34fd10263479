//! Who is signed in, and who watches whom (protocol.md 4).
//!
//! One lock for both, so that "the state now" and "what changes from now on" cannot cross.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{Conn, Delivery, outbox::Pushed};
use crate::protocol::{ChannelName, ServerFrame, SignedUser, SocketId};

/// The signed-in users of one application.
#[derive(Debug, Default)]
pub(super) struct Users {
    state: Mutex<State>,
}

type Connections = HashMap<SocketId, Conn>;

#[derive(Debug, Default)]
struct State {
    online: HashMap<Arc<str>, Connections>,
    watchers: HashMap<Arc<str>, Connections>,
}

impl Users {
    /// Signs a connection in, or replaces the watchlist of one that is: success frame, the state of the watched users, and
    /// `online` to those who watch this user if it is the first connection.
    pub(super) fn sign_in(&self, conn: &Conn, user: &SignedUser, user_data: &str, previous: Option<&SignedUser>) {
        let mut state = self.state.lock();
        conn.push(ServerFrame::SigninSuccess { user_data }.encode());
        if let Some(previous) = previous {
            state.unwatch(conn, previous);
        } else {
            conn.set_user_id(Some(Arc::clone(&user.id)));
            let connections = state.online.entry(Arc::clone(&user.id)).or_default();
            connections.insert(conn.socket_id(), conn.clone());
            if connections.len() == 1 {
                state.announce(&user.id, true);
            }
        }
        let Some(watchlist) = &user.watchlist else { return };
        for id in watchlist {
            state.watchers.entry(Arc::clone(id)).or_default().insert(conn.socket_id(), conn.clone());
        }
        let (online, offline): (Vec<&str>, Vec<&str>) = watchlist.iter().map(|id| &**id).partition(|id| state.online.contains_key(*id));
        if !watchlist.is_empty() {
            conn.push(ServerFrame::Watchlist { online: &online, offline: &offline }.encode());
        }
    }

    /// The connection has ended: `offline` to those who watch its user if it was the last.
    pub(super) fn sign_out(&self, conn: &Conn, user: &SignedUser) {
        let mut state = self.state.lock();
        state.unwatch(conn, user);
        if remove(&mut state.online, &user.id, conn) {
            state.announce(&user.id, false);
        }
        conn.set_user_id(None);
    }

    /// Delivers to every connection signed in as `user_id`, subscribed to `channel` or not (protocol.md 4.2); says how many
    /// outboxes took it.
    pub(super) fn deliver(&self, user_id: &str, channel: &ChannelName, delivery: &Delivery<'_>) -> usize {
        let state = self.state.lock();
        let Some(connections) = state.online.get(user_id) else { return 0 };
        let Some(first) = connections.values().next() else { return 0 };
        let frame = first.share(&delivery.encode(channel));
        let receivers = connections.values().filter(|conn| Some(conn.socket_id()) != delivery.except);
        receivers.filter(|conn| conn.push_shared(frame.clone()) == Pushed::Queued).count()
    }

    /// How many users are signed in.
    pub(super) fn count(&self) -> usize {
        self.state.lock().online.len()
    }

    /// The connections of a user.
    pub(super) fn connections(&self, user_id: &str) -> Vec<Conn> {
        self.state.lock().online.get(user_id).into_iter().flat_map(HashMap::values).cloned().collect()
    }
}

impl State {
    fn unwatch(&mut self, conn: &Conn, user: &SignedUser) {
        for id in user.watchlist.iter().flatten() {
            remove(&mut self.watchers, id, conn);
        }
    }

    fn announce(&self, user_id: &str, online: bool) {
        let Some(watchers) = self.watchers.get(user_id) else { return };
        let (now_online, now_offline): (&[&str], &[&str]) = if online { (&[user_id], &[]) } else { (&[], &[user_id]) };
        let Some(first) = watchers.values().next() else { return };
        let frame = first.share(&ServerFrame::Watchlist { online: now_online, offline: now_offline }.encode());
        for watcher in watchers.values() {
            watcher.push_shared(frame.clone());
        }
    }
}

/// Takes a connection out of one list; `true` when the list is gone with it.
fn remove(lists: &mut HashMap<Arc<str>, Connections>, id: &str, conn: &Conn) -> bool {
    let Some(list) = lists.get_mut(id) else { return false };
    list.remove(&conn.socket_id());
    let empty = list.is_empty();
    if empty {
        lists.remove(id);
    }
    empty
}

#[cfg(test)]
mod tests {
    use super::{
        super::conn::tests::{conn, received},
        *,
    };

    fn user(id: &str, watchlist: Option<&[&str]>) -> SignedUser {
        let watchlist = watchlist.map(|ids| ids.iter().map(|id| (*id).into()).collect());
        SignedUser { id: id.into(), user_info: None, watchlist, user_data: "{}".into() }
    }

    #[test]
    fn a_watcher_hears_the_first_and_the_last_connection() {
        let users = Users::default();
        let (watcher, tab1, tab2) = (conn(1), conn(2), conn(3));
        let (alice, bob) = (user("a", Some(&["b", "c"])), user("b", None));
        users.sign_in(&watcher, &alice, "{}", None);
        let first = received(&watcher);
        assert!(first[0].contains("signin_success"));
        assert!(first[1].contains(r#"\"name\":\"offline\",\"user_ids\":[\"b\",\"c\"]"#), "{first:?}");
        users.sign_in(&tab1, &bob, "{}", None);
        users.sign_in(&tab2, &bob, "{}", None);
        users.sign_out(&tab1, &bob);
        let online = received(&watcher);
        assert_eq!(online.len(), 1);
        assert!(online[0].contains(r#"\"name\":\"online\",\"user_ids\":[\"b\"]"#));
        users.sign_out(&tab2, &bob);
        assert!(received(&watcher)[0].contains("offline"));
        assert_eq!(received(&tab1).len(), 1, "no watchlist, no watchlist frame");
    }

    #[test]
    fn a_second_sign_in_replaces_the_watchlist() {
        let users = Users::default();
        let watcher = conn(1);
        let (old, new) = (user("a", Some(&["b"])), user("a", Some(&["c"])));
        users.sign_in(&watcher, &old, "{}", None);
        users.sign_in(&watcher, &new, "{}", Some(&old));
        received(&watcher);
        users.sign_in(&conn(2), &user("b", None), "{}", None);
        assert_eq!(received(&watcher), Vec::<String>::new());
        users.sign_in(&conn(3), &user("c", None), "{}", None);
        assert_eq!(received(&watcher).len(), 1);
        assert_eq!(users.connections("a").len(), 1);
    }

    #[test]
    fn nothing_is_left_behind() {
        let users = Users::default();
        let (one, alice) = (conn(1), user("a", Some(&["b", "b", "c"])));
        users.sign_in(&one, &alice, "{}", None);
        users.sign_out(&one, &alice);
        let state = users.state.lock();
        assert!(state.online.is_empty() && state.watchers.is_empty());
    }
}
