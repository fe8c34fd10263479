//! The members of one presence channel, by user id, with a count of their connections (protocol.md 2.4).

use std::sync::Arc;

use indexmap::IndexMap;

use crate::protocol::Member;

/// Who is on a presence channel. A user with several connections is one member.
#[derive(Debug, Default)]
pub(super) struct Presence {
    members: IndexMap<Arc<str>, Counted>,
}

#[derive(Debug)]
struct Counted {
    member: Member,
    connections: usize,
}

impl Presence {
    /// Counts one more connection of a user. `true`: the user was not there before. A later connection does not change the
    /// `user_info` of the first.
    pub(super) fn join(&mut self, member: &Member) -> bool {
        let entry = self.members.entry(Arc::clone(&member.user_id));
        let counted = entry.or_insert_with(|| Counted { member: member.clone(), connections: 0 });
        counted.connections += 1;
        counted.connections == 1
    }

    /// Counts one connection less. `true`: it was the user's last.
    pub(super) fn leave(&mut self, user_id: &str) -> bool {
        let Some(counted) = self.members.get_mut(user_id) else { return false };
        counted.connections -= 1;
        if counted.connections > 0 {
            return false;
        }
        self.members.swap_remove(user_id);
        if self.members.is_empty() {
            self.members = IndexMap::new();
        }
        true
    }

    pub(super) fn contains(&self, user_id: &str) -> bool {
        self.members.contains_key(user_id)
    }

    /// Distinct users.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn members(&self) -> impl ExactSizeIterator<Item = &Member> + Clone {
        self.members.values().map(|counted| &counted.member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, info: &str) -> Member {
        Member { user_id: id.into(), user_info: Some(info.into()) }
    }

    #[test]
    fn a_user_is_there_from_the_first_connection_to_the_last() {
        let mut presence = Presence::default();
        assert!(presence.join(&member("42", "1")));
        assert!(!presence.join(&member("42", "2")));
        assert_eq!(presence.len(), 1);
        assert_eq!(presence.members().next().unwrap().user_info.as_deref(), Some("1"), "the first info stays");
        assert!(!presence.leave("42"));
        assert!(presence.leave("42"));
        assert!(!presence.leave("42"));
        assert!(!presence.contains("42"));
    }
}
