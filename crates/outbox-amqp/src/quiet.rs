use std::cell::RefCell;

use tracing::subscriber::{DefaultGuard, NoSubscriber};

thread_local! {
    static QUIET: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

/// Keeps the calling thread from writing to the log until it ends.
///
/// For lapin's own thread: it logs each returned message with its payload, and its frames, credentials among them, at trace level. What matters of
/// it reaches the relay as an outcome.
pub(crate) fn silence_this_thread() {
    QUIET.with_borrow_mut(|guard| {
        guard.get_or_insert_with(|| tracing::subscriber::set_default(NoSubscriber::default()));
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Dispatch, Event, Metadata, Subscriber};

    use super::*;

    #[derive(Clone, Default)]
    struct Counter(Arc<AtomicUsize>);

    impl Subscriber for Counter {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_silenced_thread_logs_nothing_and_others_do() {
        let counter = Counter::default();
        let dispatch = Dispatch::new(counter.clone());
        let quiet = dispatch.clone();
        std::thread::spawn(move || {
            tracing::dispatcher::with_default(&quiet, || {
                silence_this_thread();
                tracing::warn!("with a payload");
            });
        })
        .join()
        .unwrap();
        assert_eq!(counter.0.load(Ordering::Relaxed), 0);
        tracing::dispatcher::with_default(&dispatch, || tracing::warn!("heard"));
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    }
}
