//! What every channel is made with.

use std::{fmt, sync::Arc};

use eeveon_core::Secrets;

use crate::{HttpOptions, Templates};

/// What every channel is made with.
pub struct Setup {
    /// What to call the channel in messages, such as `slack`. Nothing secret.
    pub name: String,
    /// Finds addresses and tokens.
    pub secrets: Arc<dyn Secrets>,
    /// The operator's own words, if there are any.
    pub templates: Templates,
    /// How the service is reached, where that is HTTP.
    pub http: HttpOptions,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever finds secrets may keep them, and not everyone is careful with `Debug`.
        f.debug_struct("Setup").field("name", &self.name).finish_non_exhaustive()
    }
}
