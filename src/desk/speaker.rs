//! Who speaks: what a front end knows of a person, and who that is to a service.

use std::fmt;

use nix::unistd::{Uid, User};

use super::{
    message::{Refusal, Wish},
    token::{self, TokenHash},
};
use crate::model::{
    approval::Person,
    id::{PersonName, TelegramUser},
    secret::Secret,
    service::Service,
};

/// Who speaks, as far as the front end itself knows.
#[derive(Clone, PartialEq, Eq)]
pub enum Speaker {
    /// A user of the controller's host, who may show a personal token.
    Local {
        /// The token.
        token: Option<Secret>,
        /// The user, as the kernel says.
        user: Uid,
    },
    /// Who logged in with a personal token.
    Holder(TokenHash),
    /// Who wrote in a chat, as Telegram says.
    Telegram(TelegramUser),
}

impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { user, .. } => write!(f, "Local({user})"),
            Self::Holder(_) => f.write_str("Holder(…)"),
            Self::Telegram(user) => write!(f, "Telegram({user})"),
        }
    }
}

impl Speaker {
    /// The controller's own process.
    #[must_use]
    pub fn host() -> Self {
        Self::Local {
            token: None,
            user: nix::unistd::geteuid(),
        }
    }

    /// Whose name a wish is written down under at this service.
    ///
    /// On the controller's host a pause needs no token: whoever can reach the socket could stop the controller as well,
    /// and the brake has to work at once. Nor does a service whose team has no tokens; then it is the local user who is
    /// written down.
    ///
    /// # Errors
    /// Where the speaker is nobody of the service's team.
    pub fn named(&self, service: &Service, wish: &Wish) -> Result<PersonName, Refusal> {
        let people = &service.team.people;
        let Self::Local { token, user } = self else {
            let person = self.person(service);
            return person
                .map(|person| person.name.clone())
                .ok_or_else(|| self.unknown(service));
        };
        let is_brake = matches!(wish, Wish::Pause { .. });
        if let Some(token) = token {
            match token::owner(people, &TokenHash::of(token)) {
                Some(person) => return Ok(person.name.clone()),
                None if is_brake => {}
                None => return Err(self.unknown(service)),
            }
        }
        if !is_brake && people.iter().any(Person::is_known) {
            return Err(Refusal::TokenNeeded);
        }
        let name = User::from_uid(*user)
            .ok()
            .flatten()
            .map_or_else(|| user.to_string(), |user| user.name);
        Ok(PersonName::new(format!("local/{name}")))
    }

    /// The person of the service's team that this is; none where it is nobody's.
    #[must_use]
    pub fn person<'a>(&self, service: &'a Service) -> Option<&'a Person> {
        let people = &service.team.people;
        match self {
            Self::Local { token, .. } => token::owner(people, &TokenHash::of(token.as_ref()?)),
            Self::Holder(hash) => token::owner(people, hash),
            Self::Telegram(user) => people.iter().find(|p| p.telegram == Some(*user)),
        }
    }

    /// Whether this one may look at a service. Whoever reaches the control socket could read its files as well.
    #[must_use]
    pub fn sees(&self, service: &Service) -> bool {
        match self {
            Self::Local { .. } => true,
            Self::Holder(_) | Self::Telegram(_) => self.person(service).is_some(),
        }
    }

    fn unknown(&self, service: &Service) -> Refusal {
        let service = service.name.clone();
        match self {
            Self::Local { .. } | Self::Holder(_) => Refusal::TokenUnknown { service },
            Self::Telegram(user) => Refusal::Stranger {
                service,
                who: format!("Telegram user {user}"),
            },
        }
    }
}
