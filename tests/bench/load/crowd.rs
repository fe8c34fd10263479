//! Who was told of whose coming and going on a presence channel, in one round: everybody of everybody else, once, and the coming first.

use super::report::Faults;

/// Both kinds of notification have it, wherever a server puts its fields.
const MEMBER: &[u8] = b"member_";
/// Users are called u-0, u-1, …
const USER: &[u8] = b"\"u-";
/// Neither stands behind so many bytes; a roster is long.
const HEAD: usize = 160;

pub(crate) struct Crowd {
    users: usize,
    /// Of each socket and user.
    came: Vec<bool>,
    went: Vec<bool>,
    wrong: Faults,
    places: [usize; 2],
    /// Notifications that came, but not twice.
    pub(crate) joined: u64,
    pub(crate) left: u64,
    /// Subscriptions that were answered.
    pub(crate) welcomed: usize,
}

impl Crowd {
    pub(crate) fn new(users: usize) -> Self {
        let none = vec![false; users * users];
        Self { users, came: none.clone(), went: none, wrong: Faults::default(), places: [0; 2], joined: 0, left: 0, welcomed: 0 }
    }

    /// A new round.
    pub(crate) fn begin(&mut self) {
        self.came.fill(false);
        self.went.fill(false);
        (self.wrong, self.joined, self.left, self.welcomed) = (Faults::default(), 0, 0, 0);
    }

    /// One message. `None`: it is none of ours; otherwise, whether it told something new.
    pub(crate) fn told(&mut self, socket: usize, message: &[u8]) -> Option<bool> {
        let message = &message[..message.len().min(HEAD)];
        if !find(message, MEMBER, &mut self.places[0]) {
            let welcome = find(message, b"subscription_succeeded", &mut 0);
            self.welcomed += usize::from(welcome);
            return welcome.then_some(false);
        }
        let added = message.get(self.places[0] + MEMBER.len()) == Some(&b'a');
        if !find(message, USER, &mut self.places[1]) {
            return None;
        }
        let digits = message[self.places[1] + USER.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        let user = digits.fold(0, |user, digit| user * 10 + usize::from(digit - b'0'));
        let at = socket * self.users + user;
        let (seen, count) = if added { (self.came.get_mut(at)?, &mut self.joined) } else { (self.went.get_mut(at)?, &mut self.left) };
        let new = !std::mem::replace(seen, true);
        *count += u64::from(new);
        self.wrong.duplicated += u64::from(!new);
        // Nobody comes after he has gone. (Whoever goes without having come was in the roster.)
        self.wrong.reordered += u64::from(new && added && self.went[at]);
        Some(new)
    }

    /// At the end of a round in which so many comings and so many goings were owed.
    pub(crate) fn faults(&self, owed: u64) -> Faults {
        Faults { lost: 2 * owed - self.joined.min(owed) - self.left.min(owed), ..self.wrong }
    }
}

/// Whether `text` stands in `message`, looked for first where it stood last.
fn find(message: &[u8], text: &[u8], place: &mut usize) -> bool {
    if message.get(*place..).is_some_and(|rest| rest.starts_with(text)) {
        return true;
    }
    let found = message.windows(text.len()).position(|window| window == text);
    found.inspect(|at| *place = *at).is_some()
}
