use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};

/// How long one case may take. Generous: a slow machine must not fail a suite.
const CASE_DEADLINE: Duration = Duration::from_secs(120);
/// How long a condition may take to become true.
const CONDITION_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

pub(crate) type CaseFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One sentence of a contract.
pub(crate) struct Case<S: ?Sized + 'static> {
    pub(crate) name: &'static str,
    pub(crate) run: for<'a> fn(&'a S) -> CaseFuture<'a>,
}

/// A list of [`Case`]s from functions `async fn name(subject: &S)`.
macro_rules! cases {
    ($subject:ty: $($case:ident),+ $(,)?) => {
        &[$($crate::case::Case::<$subject> { name: stringify!($case), run: |subject| Box::pin($case(subject)) }),+]
    };
}
pub(crate) use cases;

/// Runs one case and says why it failed.
pub(crate) async fn attempt(case: impl Future<Output = ()>) -> Result<(), String> {
    match timeout(CASE_DEADLINE, AssertUnwindSafe(case).catch_unwind()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(panic)) => Err(panic_text(panic.as_ref())),
        Err(_) => Err(format!("did not end within {} s", CASE_DEADLINE.as_secs())),
    }
}

/// The results of a suite.
#[derive(Default)]
pub(crate) struct Verdict {
    passed: usize,
    failed: Vec<String>,
}

impl Verdict {
    #[expect(clippy::print_stdout, reason = "the test harness shows what a test prints when it fails")]
    pub(crate) fn record(&mut self, name: &str, took: Duration, result: Result<(), String>) {
        let (sentence, seconds) = (name.replace('_', " "), took.as_secs_f64());
        match result {
            Ok(()) => {
                println!("ok      {sentence} ({seconds:.1} s)");
                self.passed += 1;
            }
            Err(reason) => {
                println!("FAILED  {sentence}: {reason}");
                self.failed.push(format!("{sentence}: {reason}"));
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "as above")]
    pub(crate) fn not_applicable(name: &str, why: &str) {
        println!("n/a     {}: {why}", name.replace('_', " "));
    }

    /// # Panics
    ///
    /// With the list of failed cases when there is one.
    pub(crate) fn conclude(self, suite: &str) {
        assert!(
            self.failed.is_empty(),
            "{suite}: {} of {} cases failed\n  - {}",
            self.failed.len(),
            self.failed.len() + self.passed,
            self.failed.join("\n  - ")
        );
    }
}

/// Looks at a condition until it gives a value.
///
/// # Panics
///
/// When it gives none in time.
pub(crate) async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + CONDITION_DEADLINE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", CONDITION_DEADLINE.as_secs());
        sleep(LOOK_INTERVAL).await;
    }
}

/// A deadline for a loop that needs the borrow that [`eventually`] would take.
pub(crate) struct Patience {
    deadline: Instant,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { deadline: Instant::now() + CONDITION_DEADLINE }
    }

    /// # Panics
    ///
    /// When the time is up.
    pub(crate) async fn wait(&self, what: impl FnOnce() -> String) {
        assert!(Instant::now() < self.deadline, "not within {} s: {}", CONDITION_DEADLINE.as_secs(), what());
        sleep(LOOK_INTERVAL).await;
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panicked".to_owned())
}
