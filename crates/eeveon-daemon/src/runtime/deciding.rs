//! How the loop decides: what happened goes to the queue, then to the store, and only then into the world.

use eeveon_core::Durability;
use eeveon_store::Delivery;
use tokio::sync::mpsc;

use super::Daemon;
use crate::{
    Answer, Ask, DaemonError, Decision, End, Event, Fate, News, Queue, Taken, Want,
    saved::{self, Ended},
};

impl Daemon {
    /// Takes on a request, and the delivery it came with, in one moment.
    pub(super) async fn take(
        &mut self,
        mut ask: Ask,
        delivery: Option<&Delivery>,
        news: Option<mpsc::Sender<News>>,
    ) -> Result<Taken, DaemonError> {
        let project = ask.project.clone();
        if !ask.is_automatic() || delivery.is_some() {
            // Whoever asks in person does not wait for what is tried again; nor does news from the forge,
            // which is there, then.
            self.paused.remove(&project);
        }
        self.hold_or_release(&project, self.clock.now()).await?;
        let mut queue = self.queue.clone();
        // Whoever asks from outside saw what it saw now.
        if let Want::Newest { seen, .. } = &mut ask.want {
            *seen = queue.seen_now();
        }
        let decisions = queue.handle(Event::Asked(ask));
        let answered = decisions.iter().find_map(|it| match it {
            Decision::Answer { request, answer } => Some((*request, answer.clone())),
            _ => None,
        });
        let Some((request, answer)) = answered else { return Err(DaemonError::Gone) };
        if let Answer::Refused(refusal) = answer {
            // Nothing happened, so a delivery that is made again is no repetition.
            return Err(DaemonError::Refused(refusal));
        }
        let does = if let Answer::Coalesced { into, .. } = &answer { *into } else { request };
        let states = self.states(&queue, self.decided.iter().chain(&decisions))?;
        let saved = match delivery {
            Some(delivery) => {
                let delivery = Delivery { request: Some(does.0), ..delivery.clone() };
                self.store.take_delivery(&delivery, &states).await
            }
            None => self.store.save_states(&states, Durability::Power).await.map(|()| true),
        };
        match saved {
            Ok(true) => self.queue = queue,
            Ok(false) => return Ok(Taken::Repeated),
            Err(error) => {
                let error = DaemonError::from(error);
                self.not_saved(error.clone());
                if delivery.is_some() {
                    // Perhaps the store did take it. Sent again it would count as a repetition then.
                    self.queue = queue;
                    self.decided.extend(decisions);
                }
                return Err(error);
            }
        }
        self.polling.heard(&project, self.clock.now());
        if let Some(news) = news {
            self.follow(does, news);
        }
        self.saved_again();
        self.decided.extend(decisions);
        self.act();
        Ok(Taken::Answered { request, answer })
    }

    /// Lets something happen: to the queue, then to the store, then to the world.
    pub(super) async fn event(&mut self, event: Event) -> Result<(), DaemonError> {
        let decisions = self.queue.handle(event);
        self.decided.extend(decisions);
        self.save_and_act().await
    }

    /// Saves how things stand, and does what was decided. While the store does not take it nothing is done,
    /// and it is tried again.
    pub(super) async fn save_and_act(&mut self) -> Result<(), DaemonError> {
        let states = self.states(&self.queue, &self.decided)?;
        match self.store.save_states(&states, Durability::Process).await {
            Ok(()) => {
                self.saved_again();
                self.act();
            }
            Err(error) => self.not_saved(error.into()),
        }
        Ok(())
    }

    /// Returns what is to be saved before `decisions` may be acted on.
    fn states<'a>(
        &self,
        queue: &Queue,
        decisions: impl IntoIterator<Item = &'a Decision>,
    ) -> Result<Vec<(String, Option<String>)>, DaemonError> {
        let mut states = saved::states(queue, &self.progress, &self.memory)?;
        for decision in decisions {
            if let Decision::Told { request, fate } = decision {
                let end = End { fate: *fate, done: self.done.get(request).cloned() };
                states.push(Ended::state(*request, end)?);
            }
        }
        Ok(states)
    }

    fn not_saved(&mut self, error: DaemonError) {
        if self.unsaved.is_none() {
            self.world
                .say(None, &format!("nothing is taken on or begun, because it cannot be saved: {error}"));
        }
        self.unsaved = Some(error);
    }

    fn saved_again(&mut self) {
        if self.unsaved.take().is_some() {
            self.world.say(None, "it can be saved again, and goes on");
        }
    }

    fn act(&mut self) {
        for decision in std::mem::take(&mut self.decided) {
            match decision {
                Decision::Start(start) => self.start(start),
                Decision::Stop(request) => {
                    if let Some(underway) = self.underway.get(&request) {
                        underway.stop.cancel();
                    }
                }
                Decision::Told { request, fate } => {
                    let done = self.done.remove(&request);
                    if let Fate::SetAside { deaths } = fate {
                        let words =
                            format!("request {request} is set aside: it ended in a crash {deaths} times");
                        self.world.say(None, &words);
                        self.settle_after(request);
                    }
                    if let Fate::Replaced { by } = fate {
                        self.tell_followers(request, &News::Replaced { by });
                        let followers = self.followers.remove(&request).unwrap_or_default();
                        followers.into_iter().for_each(|it| self.follow(by, it));
                    } else {
                        self.tell_followers(request, &News::Ended(End { fate, done }));
                        self.followers.remove(&request);
                    }
                }
                Decision::Answer { .. } | Decision::Unknown(_) => {}
                Decision::Drained => self.drained = true,
            }
        }
    }
}
