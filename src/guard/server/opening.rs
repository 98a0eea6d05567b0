//! What was called off while it was being opened: an end waits until all of it is over, also one that began after another
//! end had waited in vain.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::Poll,
};

use tokio::task::JoinHandle;

use super::ServerError;

#[derive(Default)]
pub(super) struct Openings(Mutex<Vec<JoinHandle<()>>>);

impl Openings {
    pub fn keep(&self, opening: Option<JoinHandle<()>>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(opening);
    }

    /// Waits until none is under way.
    pub async fn over(&self) -> Result<(), ServerError> {
        poll_fn(|context| {
            let mut openings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut panicked = None;
            openings.retain_mut(|opening| match Pin::new(opening).poll(context) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => {
                    panicked = Some(error);
                    false
                }
            });
            match panicked {
                Some(error) => Poll::Ready(Err(ServerError::Task(error))),
                None if openings.is_empty() => Poll::Ready(Ok(())),
                None => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_after_another_waited_in_vain_waits_for_the_same() {
        let (go, gone) = oneshot::channel::<()>();
        let openings = Openings::default();
        openings.keep(Some(tokio::spawn(async {
            let _ = gone.await;
        })));
        assert!(poll!(pin!(openings.over())).is_pending());
        openings.keep(None);
        assert!(poll!(pin!(openings.over())).is_pending());
        go.send(()).unwrap();
        openings.over().await.unwrap();
        openings.over().await.unwrap();
    }
}
