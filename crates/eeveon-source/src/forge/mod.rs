//! Webhooks of forges: bytes and headers in, facts out. Nothing here opens a socket.
//!
//! A [`Hook`] is one URL for one project and one forge, and does not exist without a secret.
//! [`Hook::verify`] proves over the raw bytes that whoever calls knows the secret; only what comes out
//! of that can be read ([`Authentic::parse`]); [`decide`] says what is to be deployed, and why or why not.
//!
//! A delivery is a hint to look, never an order: [`Decision::deploy`] names a branch or tag, and the
//! commit is whatever the repository's own server says it is at that moment. So a delivery that is
//! repeated, late or out of order deploys nothing that should not be deployed. Repeated ones are told
//! by [`Delivery::id`], which the caller remembers, and remembers only after `verify`: ids from
//! strangers would push out real ones.
//!
//! # What proves a delivery
//!
//! | forge | proof | covers |
//! |---|---|---|
//! | GitHub | `X-Hub-Signature-256` | the body |
//! | Gitea | `X-Gitea-Signature` | the body |
//! | Forgejo | `X-Forgejo-Signature` | the body |
//! | Bitbucket Cloud, Data Center | `X-Hub-Signature: sha256=` | the body |
//! | GitLab, secret `whsec_...` (19 and newer) | `webhook-signature` | id, time, body |
//! | GitLab, other secrets | `X-Gitlab-Token` | nothing: it is a password |
//! | Azure DevOps | the password of basic authentication, or `X-EEveon-Token` | nothing: it is a password |
//! | anything else | `webhook-signature` (Standard Webhooks) | id, time, body |
//!
//! # What anything else sends
//!
//! JSON, signed after <https://www.standardwebhooks.com/>. `before`, `after`, `paths`, `repository` and
//! `sender` may be left out; an `after` of zeros says that the branch or tag was removed.
//!
//! ```json
//! {"type": "push", "data": {"ref": "refs/heads/main", "after": "0123...", "paths": ["src/a.rs"]}}
//! {"type": "release", "data": {"tag": "v1.2.0", "prerelease": false}}
//! {"type": "ping"}
//! ```

mod azure;
mod bitbucket;
mod event;
mod filter;
mod generic;
mod github;
mod gitlab;
mod headers;
mod list;
mod parse;
mod provider;
mod steps;
mod verify;

pub use event::{Delivery, DeliveryId, Event, ReleaseAction, RepoNames};
pub use filter::{Decision, Filter, decide, is_tag_of, selects};
pub use provider::Provider;
pub use steps::steps;
pub use verify::{Authentic, Hook};
