//! A caller's wish to stop, which any number of waits can watch.

use futures_util::future::poll_fn;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Set once, seen by every clone.
#[derive(Debug, Clone, Default)]
pub struct Stop(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stopped: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Stop {
    /// Asks everything that watches to stop.
    pub fn stop(&self) {
        self.0.stopped.set(true);
        for waker in self.0.wakers.take() {
            waker.wake();
        }
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.get()
    }

    /// Waits until it is asked.
    pub async fn stopped(&self) {
        poll_fn(|context| {
            if self.is_stopped() {
                return Poll::Ready(());
            }
            let mut wakers = self.0.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
