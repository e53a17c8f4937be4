//! Tells people what happened. [`Event`] is what there is to tell, made from the journal;
//! [`Notifier`] is one way of telling it; a [`Message`] is one event on its way through one channel.
//!
//! Nothing here waits or tries again: whoever delivers does, and learns from a [`NotifyError`]
//! whether it may help.

mod aside;
mod authorities;
mod credential;
mod delivery;
mod discord;
mod email;
mod error;
mod event;
mod http;
mod notifier;
mod ntfy;
mod proxy;
mod route;
mod sample;
mod setup;
mod slack;
mod teams;
mod telegram;
mod template;
mod text;
mod webhook;
mod wording;

pub use aside::NotStarted;
pub use credential::Credential;
pub use delivery::{Next, Patience, Told, after_failure, coalesce, held_until, rest_after};
pub use discord::{Discord, DiscordConfig};
pub use email::{Email, EmailConfig, MailLogin, Mailbox, Tls};
pub use error::NotifyError;
pub use event::{Event, EventKind, FORMAT, Level, Serving, tell};
pub use http::HttpOptions;
pub use notifier::{Message, Notifier};
pub use ntfy::{Ntfy, NtfyConfig};
pub use proxy::Proxies;
pub use route::Route;
pub use setup::Setup;
pub use slack::{Slack, SlackWay};
pub use teams::Teams;
pub use telegram::{Telegram, TelegramConfig};
pub use template::{Template, Templates};
pub use text::Markup;
pub use webhook::{WEBHOOK_FORMAT, Webhook, WebhookConfig, WebhookMethod};
pub use wording::{Fact, Wording};
