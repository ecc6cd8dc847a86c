//! Polls a task again at once when it woke itself, instead of through the scheduler.
//!
//! A connection that passes a body on wakes itself for every piece: one half of it makes room, the other fills it. The
//! scheduler would queue the task for that and wake another thread to take it, piece by piece, which costs more than the
//! piece does.
//!
//! **Invariant**: no wake is lost, and a task that wakes itself without end still lets others run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// So often a task is polled again before others have their turn.
const AT_ONCE: usize = 32;

/// A future that is polled again at once when it woke itself.
pub(super) struct Eager<F> {
    inner: F,
    calls: Arc<Calls>,
    waker: Waker,
}

/// The wakes of one task.
#[derive(Default)]
struct Calls {
    polling: AtomicBool,
    woken: AtomicBool,
    scheduler: AtomicWaker,
}

impl<F> Eager<F> {
    pub(super) fn new(inner: F) -> Self {
        let calls = Arc::<Calls>::default();
        Self {
            inner,
            waker: Waker::from(Arc::clone(&calls)),
            calls,
        }
    }
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // This order, and the other way round in `poll`: one of the two sees the other.
        self.woken.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst) {
            self.scheduler.wake();
        }
    }
}

impl<F: Future + Unpin> Future for Eager<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.calls.scheduler.register(cx.waker());
        for _ in 0..AT_ONCE {
            this.calls.woken.store(false, Ordering::SeqCst);
            this.calls.polling.store(true, Ordering::SeqCst);
            let polled = Pin::new(&mut this.inner).poll(&mut Context::from_waker(&this.waker));
            this.calls.polling.store(false, Ordering::SeqCst);
            if polled.is_ready() || !this.calls.woken.load(Ordering::SeqCst) {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use super::{AT_ONCE, Eager};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once a task that wakes itself `wakes` times; how often it was polled and its scheduler woken.
    fn poll_once(wakes: usize) -> (usize, usize, bool) {
        let count = Arc::<Count>::default();
        let waker = Waker::from(Arc::clone(&count));
        let mut polls = 0;
        let mut eager = Eager::new(Box::pin(poll_fn(|cx| {
            polls += 1;
            if polls > wakes {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })));
        let polled = std::pin::Pin::new(&mut eager).poll(&mut Context::from_waker(&waker));
        drop(eager);
        (polls, count.0.load(Ordering::SeqCst), polled.is_ready())
    }

    #[test]
    fn a_task_that_woke_itself_is_polled_again_at_once() {
        assert_eq!(poll_once(3), (4, 0, true));
    }

    #[test]
    fn a_task_that_wakes_itself_without_end_lets_others_run() {
        assert_eq!(poll_once(usize::MAX), (AT_ONCE, 1, false));
    }

    #[test]
    fn a_wake_between_polls_reaches_the_scheduler() {
        let count = Arc::<Count>::default();
        let waker = Waker::from(Arc::clone(&count));
        let mut inner: Option<Waker> = None;
        let mut eager = Eager::new(Box::pin(poll_fn(|cx| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        })));
        let polled = std::pin::Pin::new(&mut eager).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(eager);
        inner.expect("it was polled").wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}
