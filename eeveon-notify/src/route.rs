//! Which events a channel wants.

use crate::{Event, EventKind, Level};

/// The levels and events a channel asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Every event of these levels.
    pub levels: Vec<Level>,
    /// And these events, whatever their level.
    pub events: Vec<EventKind>,
}

impl Default for Route {
    /// Everything but what is merely good to know.
    fn default() -> Self {
        Self { levels: vec![Level::Success, Level::Failure, Level::Warning], events: Vec::new() }
    }
}

impl Route {
    /// Tells whether the channel wants `event`. A test message is for everyone.
    pub fn wants(&self, event: &Event) -> bool {
        event.kind == EventKind::Test
            || self.levels.contains(&event.level())
            || self.events.contains(&event.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn wanted(route: &Route) -> Vec<EventKind> {
        let mut kinds: Vec<EventKind> =
            sample::all().into_iter().filter(|event| route.wants(event)).map(|event| event.kind).collect();
        kinds.dedup();
        kinds
    }

    #[test]
    fn by_default_everything_but_information_is_told() {
        let told = wanted(&Route::default());
        assert!(!told.contains(&EventKind::Started));
        assert_eq!(told.len(), EventKind::ALL.len() - 1);
    }

    #[test]
    fn events_are_named_beside_levels() {
        let route =
            Route { levels: vec![Level::Failure], events: vec![EventKind::Parked, EventKind::Started] };
        let expected = [
            EventKind::Started,
            EventKind::NotStarted,
            EventKind::Failed,
            EventKind::RolledBack,
            EventKind::Parked,
            EventKind::Test,
        ];
        assert_eq!(wanted(&route), expected);
        assert_eq!(wanted(&Route { levels: Vec::new(), events: Vec::new() }), [EventKind::Test]);
    }
}
