//! Where work is done that waits for the disk.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{self, JoinError, spawn_blocking},
};

/// Does `work`, which blocks, where it keeps nobody else waiting.
///
/// In a task that is a thread beside: others share the task's own. The future a program was started
/// with has its thread to itself, and handing each of a command's many short pieces of work to another
/// thread and back takes longer than most of them: there they are done on the spot.
///
/// # Errors
///
/// The work panicked in another thread, or the runtime is shutting down.
///
/// # Panics
///
/// When there is no runtime, or when work that is done on the spot does.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    let has_its_own_thread = task::try_id().is_none();
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread if has_its_own_thread => Ok(task::block_in_place(work)),
        _ => spawn_blocking(work).await,
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use super::*;

    async fn at_work() -> ThreadId {
        offload(|| thread::current().id()).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn only_who_has_a_thread_of_its_own_works_there() {
        let own = thread::current().id();
        assert_eq!(at_work().await, own);
        let (task, beside) = tokio::spawn(async { (thread::current().id(), at_work().await) }).await.unwrap();
        assert!(task != own && beside != own && beside != task);
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_is_not_held_up() {
        assert_ne!(at_work().await, thread::current().id());
    }
}
