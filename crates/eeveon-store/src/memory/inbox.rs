//! Deliveries of webhooks, and small states.

use std::collections::{BTreeMap, VecDeque};

use eeveon_core::ProjectName;

use crate::{
    DELIVERIES_KEPT, Delivery, StoreError,
    inbox::{check_delivery, check_states},
};

#[derive(Debug, Default)]
pub(super) struct Inbox {
    states: BTreeMap<String, String>,
    /// Newest first.
    deliveries: BTreeMap<ProjectName, VecDeque<Delivery>>,
}

impl Inbox {
    pub(super) fn state(&self, key: &str) -> Option<String> {
        self.states.get(key).cloned()
    }

    pub(super) fn save(&mut self, states: &[(String, Option<String>)]) -> Result<(), StoreError> {
        check_states(states)?;
        for (key, value) in states {
            match value {
                Some(value) => self.states.insert(key.clone(), value.clone()),
                None => self.states.remove(key),
            };
        }
        Ok(())
    }

    pub(super) fn take(
        &mut self,
        delivery: &Delivery,
        states: &[(String, Option<String>)],
    ) -> Result<bool, StoreError> {
        check_delivery(delivery)?;
        check_states(states)?;
        let before = self.delivery(&delivery.project, &delivery.provider, &delivery.id);
        if before.is_some_and(|before| !delivery.replaces(&before)) {
            return Ok(false);
        }
        self.save(states)?;
        let of_project = self.deliveries.entry(delivery.project.clone()).or_default();
        of_project.retain(|it| it.provider != delivery.provider || it.id != delivery.id);
        of_project.push_front(delivery.clone());
        of_project.truncate(DELIVERIES_KEPT);
        Ok(true)
    }

    pub(super) fn newest(&self, project: &ProjectName, limit: u32) -> Vec<Delivery> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.deliveries.get(project).into_iter().flatten().take(limit).cloned().collect()
    }

    pub(super) fn delivery(&self, project: &ProjectName, provider: &str, id: &str) -> Option<Delivery> {
        let mut of_project = self.deliveries.get(project).into_iter().flatten();
        of_project.find(|it| it.provider == provider && it.id == id).cloned()
    }

    pub(super) fn forget_project(&mut self, project: &ProjectName) {
        self.deliveries.remove(project);
    }
}
