//! One connection of an application with rules: what is known of it, and the holds that follow.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::{AppRules, HoldRule, OnMismatch, PrincipalFrom, StillHeld, rule::USER_ID};
use crate::{
    domain::{Carrier, Handshake, Hold, Mode, Outcome, Placeholder, Principal, Reject, Subscribe, Template},
    protocol::{ChannelPattern, Claims, Member, MemberLimits, SignedUser, SocketId},
};

/// What the rules of an application need to know of one connection.
#[derive(Debug)]
pub struct Guest {
    rules: Arc<AppRules>,
    socket_id: SocketId,
    /// The user that the verified token names.
    token_user: Option<String>,
    /// The values that rules use, of the handshake and of the sign-in.
    carried: Vec<(Placeholder, String)>,
    /// What was taken when it opened and when it signed in, and is held for as long as it lives.
    lasting: Vec<Lasting>,
    still_held: StillHeld,
}

#[derive(Debug)]
struct Lasting {
    resource: String,
    event: String,
    principal: Principal,
}

/// What is known at the moment a rule applies.
#[derive(Default)]
struct Known<'a> {
    user: Option<Cow<'a, str>>,
    captures: BTreeMap<String, String>,
    subscription: Option<&'a Subscribe>,
}

/// Why a rule gives no hold.
enum Unfit {
    /// Nothing gives this value here.
    NoValue(Placeholder),
    /// A value that cannot be part of a lock.
    Refused(Reject),
}

impl Guest {
    pub(super) fn new(rules: &Arc<AppRules>, still_held: StillHeld, request: &Handshake) -> Self {
        let of_handshake = |placeholder: &Placeholder| match placeholder {
            Placeholder::Field(Carrier::Token, name) => claim(request.claims()?, name),
            Placeholder::Field(Carrier::Query, name) => request.query(name).map(str::to_owned),
            Placeholder::Field(Carrier::Header, name) => request.header(name).map(str::to_owned),
            Placeholder::Field(Carrier::Cookie, name) => request.cookie(name).map(str::to_owned),
            Placeholder::Field(Carrier::Signin | Carrier::ChannelData, _) | Placeholder::Name(_) => None,
        };
        let carried = rules.carried.iter().filter_map(|placeholder| Some((placeholder.clone(), of_handshake(placeholder)?)));
        let token_user = request.claims().and_then(|claims| claim(claims, USER_ID).or_else(|| claims.subject()));
        Self {
            socket_id: request.conn().socket_id(),
            token_user: token_user.filter(|user| !user.is_empty()),
            carried: carried.collect(),
            lasting: Vec::new(),
            rules: Arc::clone(rules),
            still_held,
        }
    }

    pub(super) fn open(&mut self) -> Result<Outcome, Reject> {
        let rules = Arc::clone(&self.rules);
        let known = Known { user: self.token_user.clone().map(Cow::Owned), ..Known::default() };
        self.for_its_life(&rules.open, &known)
    }

    pub(super) fn sign_in(&mut self, user: &SignedUser) -> Result<Outcome, Reject> {
        self.forget_what_is_lost();
        let rules = Arc::clone(&self.rules);
        // A connection stays with its user, but may sign in again, with other data.
        self.carried.retain(|(placeholder, _)| !matches!(placeholder, Placeholder::Field(Carrier::Signin, _)));
        let of_user = |placeholder: &Placeholder| match placeholder {
            Placeholder::Field(Carrier::Signin, name) => user.field(name),
            _ => None,
        };
        self.carried.extend(rules.carried.iter().filter_map(|placeholder| Some((placeholder.clone(), of_user(placeholder)?))));
        self.for_its_life(&rules.signin, &Known { user: Some(Cow::Borrowed(&user.id)), ..Known::default() })
    }

    pub(super) fn subscribe(&mut self, sub: &Subscribe) -> Result<Outcome, Reject> {
        let channel = sub.channel.as_str();
        let matching = |(pattern, rule): &'_ (ChannelPattern, HoldRule)| {
            channel.starts_with(pattern.prefix()).then(|| pattern.captures(channel)).flatten().map(|captures| (rule.clone(), captures))
        };
        let Some((rule, captures)) = self.rules.subscribe.iter().find_map(matching) else { return Ok(Outcome::accept()) };
        self.forget_what_is_lost();
        let known = Known { user: self.user_of(sub), captures, subscription: Some(sub) };
        let hold = self.hold(&rule, &known).map_err(|unfit| match unfit {
            Unfit::NoValue(placeholder) => {
                let limit = self.rules.limits.max_resource_bytes;
                invalid(format!("No value for {placeholder} of {}: 1 to {limit} bytes are needed", rule.resource.as_str()))
            }
            Unfit::Refused(reject) => reject,
        })?;
        self.beside_lasting(&rule, hold, Outcome::accept())
    }

    /// The connection was refused what it asked for when it opened or signed in.
    pub(super) fn did_not_get(&mut self, hold: &Hold) {
        self.lasting.retain(|lasting| lasting.resource != hold.resource());
    }

    /// What somebody took over or released, what was let go in a switch, and what the store never granted, does not count any more.
    fn forget_what_is_lost(&mut self) {
        if let StillHeld(Some(still_held)) = &self.still_held {
            self.lasting.retain(|held| still_held(self.socket_id, &held.resource));
        }
    }

    /// The holds of all rules that have their values.
    fn for_its_life(&mut self, rules: &[HoldRule], known: &Known<'_>) -> Result<Outcome, Reject> {
        let mut outcome = Outcome::accept();
        let mut taken = Vec::new();
        for rule in rules {
            let hold = match self.hold(rule, known) {
                Ok(hold) => hold,
                Err(Unfit::NoValue(_)) => continue,
                Err(Unfit::Refused(reject)) => return Err(reject),
            };
            // One outcome takes a resource once, whichever rules agree on it.
            if outcome.holds().iter().any(|earlier| earlier.resource() == hold.resource()) {
                continue;
            }
            taken.push(Lasting { resource: hold.resource().to_owned(), event: rule.event.clone(), principal: hold.principal().clone() });
            outcome = self.beside_lasting(rule, hold, outcome)?;
        }
        self.lasting.retain(|earlier| taken.iter().all(|new| new.resource != earlier.resource));
        self.lasting.extend(taken);
        Ok(outcome)
    }

    /// Adds a hold to an outcome, unless the connection has held something else since it opened and the rule does not want both.
    fn beside_lasting(&self, rule: &HoldRule, hold: Hold, outcome: Outcome) -> Result<Outcome, Reject> {
        let wanted = hold.resource().to_owned();
        let others = || self.lasting.iter().filter(|held| held.event == rule.event && held.resource != wanted);
        let outcome = outcome.hold(hold);
        match (rule.on_mismatch, others().next()) {
            (OnMismatch::HoldBoth, _) | (_, None) => Ok(outcome),
            (OnMismatch::Warn, Some(held)) => {
                let (socket_id, held) = (self.socket_id, &held.resource);
                tracing::warn!(socket.id = %socket_id, lock.held = %held, lock.wanted = %wanted, "Connection {socket_id} takes {wanted} beside {held}, which it has held since it opened");
                Ok(outcome)
            }
            (OnMismatch::Reject, Some(Lasting { resource: held, .. })) => {
                let message = format!("This connection has held {held} since it opened, and {wanted} is not the same");
                Err(Reject::new("LockMismatch", 409, message).detail("resource", wanted.as_str()).detail("held", held.as_str()))
            }
            (OnMismatch::Switch, Some(_)) => Ok(others().fold(outcome, |outcome, held| outcome.release(held.resource.as_str()))),
        }
    }

    /// Who subscribes, as far as the application has signed it: signed in, else member or `channel_data`, else the token.
    fn user_of<'a>(&'a self, sub: &'a Subscribe) -> Option<Cow<'a, str>> {
        let signed_in = sub.user_id.as_deref().map(Cow::Borrowed);
        let member = || sub.member.as_ref().map(|member| Cow::Borrowed(&*member.user_id));
        let of_data = || Some(Cow::Owned(Member::parse(sub.channel_data.as_deref()?, ANY_SIZE).ok()?.user_id.to_string()));
        signed_in.or_else(member).or_else(of_data).or_else(|| self.token_user.as_deref().map(Cow::Borrowed))
    }

    fn hold(&self, rule: &HoldRule, known: &Known<'_>) -> Result<Hold, Unfit> {
        let limits = self.rules.limits;
        let resource = rule.resource.fill(|placeholder| self.value(placeholder, known))?;
        at_most(limits.max_resource_bytes, resource.len(), &format!("The resource {}", rule.resource.as_str()))?;
        let principal = self.principal(rule, known, &resource);
        at_most(limits.max_principal_bytes, principal.to_string().len(), "The principal, which is the user,")?;
        if matches!(&principal, Principal::User(user) if user.contains(char::is_control)) {
            return Err(Unfit::Refused(invalid("The id of the user has a control character".to_owned())));
        }
        let context = Value::Object(self.context(rule, known)?);
        at_most(limits.max_context_bytes, context.to_string().len(), "The context")?;
        let hold = Hold::new(resource, principal).event(&rule.event).context(context).grace(rule.grace);
        let hold = match rule.mode {
            Mode::Exclusive => hold.exclusive(),
            Mode::Shared => hold.shared(),
        };
        let hold = hold.if_taken(rule.if_taken).show_holder(rule.show_holder);
        Ok(hold.notify_when_free(rule.notify_when_free).fail_open(rule.fail_open))
    }

    fn principal(&self, rule: &HoldRule, known: &Known<'_>, resource: &str) -> Principal {
        // What the connection has held since before its user was known stays its own: as somebody else it would be refused by itself.
        if let Some(held) = self.lasting.iter().find(|held| held.resource == resource) {
            return held.principal.clone();
        }
        match (rule.principal, &known.user) {
            (PrincipalFrom::User, Some(user)) => Principal::User(user.clone().into_owned()),
            (PrincipalFrom::Socket, _) | (_, None) => Principal::Socket(self.socket_id),
        }
    }

    /// The captures, the user, and what the rule adds. A field whose values are missing is left out: it decides nothing.
    fn context(&self, rule: &HoldRule, known: &Known<'_>) -> Result<Map<String, Value>, Unfit> {
        let mut context: Map<String, Value> = known.captures.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        context.extend(known.user.iter().map(|user| (USER_ID.to_owned(), user.as_ref().into())));
        for (field, template) in &rule.context {
            match self.filled(template, known) {
                Ok(value) => context.extend([(field.clone(), value.into())]),
                Err(Unfit::NoValue(_)) => {}
                Err(refused) => return Err(refused),
            }
        }
        Ok(context)
    }

    fn filled(&self, template: &Template, known: &Known<'_>) -> Result<String, Unfit> {
        template.fill(|placeholder| self.value(placeholder, known))
    }

    /// What a placeholder stands for; an empty value is none.
    fn value<'a>(&'a self, placeholder: &Placeholder, known: &'a Known<'_>) -> Result<Cow<'a, str>, Unfit> {
        let found: Option<Cow<'a, str>> = match placeholder {
            Placeholder::Name(name) if **name == *USER_ID => known.user.as_deref().map(Cow::Borrowed),
            Placeholder::Name(name) => known.captures.get(&**name).map(|value| Cow::Borrowed(value.as_str())),
            Placeholder::Field(Carrier::ChannelData, name) => {
                known.subscription.and_then(|sub| sub.channel_data_field(name)).map(Cow::Owned)
            }
            // Of a sign-in that was refused afterwards nothing is known.
            Placeholder::Field(Carrier::Signin, _) if known.subscription.is_some_and(|sub| sub.user_id.is_none()) => None,
            Placeholder::Field(..) => {
                self.carried.iter().find(|(carried, _)| carried == placeholder).map(|(_, value)| Cow::Borrowed(value.as_str()))
            }
        };
        match found.filter(|value| !value.is_empty()) {
            None => Err(Unfit::NoValue(placeholder.clone())),
            Some(value) if value.contains(char::is_control) => {
                Err(Unfit::Refused(invalid(format!("The value of {placeholder} has a control character"))))
            }
            Some(value) => Ok(value),
        }
    }
}

/// Sizes of members are a matter of presence channels; only the id is wanted.
const ANY_SIZE: MemberLimits = MemberLimits { max_user_id: usize::MAX, max_user_info_bytes: usize::MAX };

fn claim(claims: &Claims, name: &str) -> Option<String> {
    match claims.get(name)? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

fn invalid(message: String) -> Reject {
    Reject::new("InvalidResource", 400, message)
}

fn at_most(limit: usize, bytes: usize, what: &str) -> Result<(), Unfit> {
    if bytes <= limit {
        return Ok(());
    }
    Err(Unfit::Refused(invalid(format!("{what} has {bytes} bytes, at most {limit} are allowed"))))
}
