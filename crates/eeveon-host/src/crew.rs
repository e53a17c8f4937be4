//! Work shared out to several threads.

use std::{
    panic::resume_unwind,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use eeveon_core::{Permit, StepError};

/// How many units make another thread worth its start.
const WORTHWHILE: usize = 4;

/// What is left to do. Each thread takes from it until nothing is left or some thread failed.
#[derive(Debug)]
pub(crate) struct Rest<'a, U> {
    units: &'a [U],
    next: &'a AtomicUsize,
    stop: &'a AtomicBool,
}

impl<'a, U> Iterator for Rest<'a, U> {
    type Item = &'a U;

    fn next(&mut self) -> Option<&'a U> {
        match self.stop.load(Ordering::Relaxed) {
            true => None,
            false => self.units.get(self.next.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// Does `units` in several threads, if there are more than a few, and returns what each thread
/// made of its share. `permit` is looked at by `work` as often as it needs.
///
/// # Errors
///
/// The first one of any thread; the others stop then.
pub(crate) fn share<U: Sync, R: Send>(
    permit: &Permit,
    units: &[U],
    work: impl Fn(Rest<'_, U>) -> Result<R, StepError> + Sync,
) -> Result<Vec<R>, StepError> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failed = Mutex::new(None);
    let run = || {
        work(Rest { units, next: &next, stop: &stop })
            .inspect_err(|_| stop.store(true, Ordering::Relaxed))
            .map_err(|error| {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            })
            .ok()
    };
    permit.check()?;
    // Twice as many as there are cores: the disk makes each of them wait now and then.
    let most = || thread::available_parallelism().map_or(1, usize::from).saturating_mul(2).min(16);
    let made = match units.len() / WORTHWHILE {
        0 | 1 => run().into_iter().collect(),
        worthwhile => thread::scope(|scope| {
            let threads = worthwhile.min(most());
            // Fewer threads do the same, where the system allows no more.
            let spawn = |_| thread::Builder::new().spawn_scoped(scope, run).ok();
            let others: Vec<_> = (1..threads).filter_map(spawn).collect();
            let mut made: Vec<R> = run().into_iter().collect();
            for other in others {
                made.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            made
        }),
    };
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(made),
    }
}

#[cfg(test)]
mod tests {
    use eeveon_core::{Fence, action::Stopped};
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn permit() -> Permit {
        Permit::new(Fence(1), CancellationToken::new())
    }

    #[test]
    fn everything_is_done_once() {
        let units: Vec<usize> = (0..1000).collect();
        let made = share(&permit(), &units, |rest| Ok(rest.copied().collect::<Vec<_>>())).unwrap();
        let mut all: Vec<_> = made.into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, units);
    }

    #[test]
    fn one_failure_ends_all() {
        let units: Vec<usize> = (0..100_000).collect();
        let done = AtomicUsize::new(0);
        let result = share(&permit(), &units, |rest| {
            for unit in rest {
                if *unit == 10 {
                    return Err(Stopped.into());
                }
                done.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
            }
            Ok(())
        });
        assert_eq!(result.unwrap_err().diagnosis().code(), "engine/cancelled");
        assert!(done.into_inner() < units.len());
    }
}
