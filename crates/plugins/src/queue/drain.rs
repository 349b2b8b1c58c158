//! What happens to queues when the node stops: they send what they hold at once, as far as the time given allows.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use portcullis_plugin::Env;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// The tasks of all queues of the process.
pub struct Running {
    closing: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Default for Running {
    fn default() -> Self {
        Self { closing: watch::Sender::new(false), tasks: Mutex::default() }
    }
}

impl Running {
    /// Starts a queue's task, which is told when to come to an end.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, runtime: &Handle, task: impl FnOnce(watch::Receiver<bool>) -> F) {
        let task = runtime.spawn(task(self.closing.subscribe()));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }
}

/// Tells all queues to send what they hold and waits for them, but no longer than this. Called once, when no request is
/// under way any more: a queue takes nothing in afterwards.
pub async fn drain(env: &Env, patience: Duration) {
    let running = env.state.get::<Running>();
    let deadline = Instant::now() + patience;
    running.closing.send_replace(true);
    let tasks = std::mem::take(&mut *running.tasks.lock().unwrap_or_else(PoisonError::into_inner));
    for task in tasks {
        if timeout_at(deadline, task).await.is_err() {
            tracing::warn!("stopping with entries that could not be sent");
            return;
        }
    }
}
