//! Lines of the error log, for plugins that send them on together with the request they belong to.
//!
//! The process's log subscriber [tells](tell) every line it writes. A line that comes while a request's task is polled on its
//! worker is that [request's](RequestLines); all others are the node's ([`take_node_lines`]). Nothing is kept unless somebody
//! [wants](Wanting) it: then a request pays one list, and otherwise one comparison.
//!
//! What is kept is the process's and the thread's, not some value's that could be handed around, because so is what writes it:
//! there is one log subscriber, and it knows nothing but the thread it is called on.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tracing::info;

/// Lines kept of one request, and of the node outside of requests (as many as in Kong); further ones are not kept.
pub const MOST_LINES: usize = 1000;

static WANTING: AtomicUsize = AtomicUsize::new(0);
static NODE_LINES: Mutex<Vec<LogLine>> = Mutex::new(Vec::new());
static NODE_LINES_WAITING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static CURRENT: RefCell<Option<RequestLines>> = const { RefCell::new(None) };
    static DETAILS: RefCell<Option<Details>> = const { RefCell::new(None) };
    static TOLD_FULL: Cell<bool> = const { Cell::new(false) };
}

/// One line, or one entry of `kong.telemetry.log`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    /// nginx' level, from 1 (emerg) to 8 (debug); none for entries that have none.
    pub level: Option<u8>,
    pub text: String,
    pub attributes: Vec<(Cow<'static, str>, Value)>,
}

impl LogLine {
    /// A line of this moment.
    pub fn now(level: Option<u8>, text: String, attributes: Vec<(Cow<'static, str>, Value)>) -> Self {
        let time_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        Self { time_ns, level, text, attributes }
    }
}

/// What a line says without the words the log puts around it, from code that knows better than the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Details {
    pub text: String,
    pub attributes: Vec<(Cow<'static, str>, Value)>,
}

/// Lines are kept for as long as one of these lives.
pub struct Wanting(());

impl Wanting {
    pub fn start() -> Self {
        WANTING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Wanting {
    fn drop(&mut self) {
        if WANTING.fetch_sub(1, Ordering::Relaxed) == 1 {
            take_node_lines();
        }
    }
}

/// Whether anybody wants lines.
#[inline]
pub fn are_wanted() -> bool {
    WANTING.load(Ordering::Relaxed) > 0
}

/// A request's lines, in the order they were written; kept in its [`crate::Context`].
#[derive(Clone, Debug, Default)]
pub struct RequestLines(Rc<RefCell<Vec<LogLine>>>);

impl RequestLines {
    /// Looks at the lines so far. What is logged meanwhile may be missing.
    pub fn each(&self, look: impl FnMut(&LogLine)) {
        let lines = std::mem::take(&mut *self.0.borrow_mut());
        lines.iter().for_each(look);
        *self.0.borrow_mut() = lines;
    }
}

/// Runs what serves a request: what it logs goes into `lines`, where there are any.
pub async fn scope<F: Future>(lines: Option<RequestLines>, serving: F) -> F::Output {
    let mut serving = pin!(serving);
    poll_fn(|context| {
        let Some(lines) = &lines else { return serving.as_mut().poll(context) };
        let _scope = Scope::enter(lines.clone());
        serving.as_mut().poll(context)
    })
    .await
}

/// Puts back what was current before, whatever ends the poll.
struct Scope(Option<RequestLines>);

impl Scope {
    fn enter(lines: RequestLines) -> Self {
        Self(CURRENT.replace(Some(lines)))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Called for each line that is written, by what writes it. `line` is asked only if the line is kept.
pub fn tell(level: u8, line: impl FnOnce() -> Details) {
    if are_wanted() {
        let details = DETAILS.take().unwrap_or_else(line);
        keep(LogLine::now(Some(level), details.text, details.attributes));
    }
}

/// Writes a line that is told with these details instead of those the log knows.
pub fn with_details(details: impl FnOnce() -> Details, write: impl FnOnce()) {
    if !are_wanted() {
        return write();
    }
    DETAILS.set(Some(details()));
    write();
    // A line below the log's level was not told.
    DETAILS.take();
}

/// Keeps a line for whoever it belongs to.
pub fn keep(line: LogLine) {
    let mut line = Some(line);
    let kept = CURRENT.with_borrow(|current| {
        let Some(RequestLines(lines)) = current else { return None };
        let mut lines = lines.borrow_mut();
        let room = lines.len() < MOST_LINES;
        lines.extend(line.take_if(|_| room));
        Some(room)
    });
    let kept = kept.unwrap_or_else(|| {
        let mut lines = NODE_LINES.lock().unwrap_or_else(PoisonError::into_inner);
        let room = lines.len() < MOST_LINES;
        lines.extend(line.take_if(|_| room));
        NODE_LINES_WAITING.store(lines.len(), Ordering::Relaxed);
        room
    });
    // Told once, and with nothing held: these lines come here too.
    if TOLD_FULL.replace(!kept) == kept {
        match kept {
            true => info!(target: "notice", "[observability] OpenTelemetry logs buffer resumed accepting log entries."),
            false => info!(target: "notice", "[observability] OpenTelemetry logs buffer is full: dropping new log entries."),
        }
    }
}

/// Takes the lines that belong to no request. Never waits: what another thread is just taking or adding to is left for later.
pub fn take_node_lines() -> Vec<LogLine> {
    if NODE_LINES_WAITING.load(Ordering::Relaxed) == 0 {
        return Vec::new();
    }
    let Ok(mut lines) = NODE_LINES.try_lock() else { return Vec::new() };
    NODE_LINES_WAITING.store(0, Ordering::Relaxed);
    std::mem::take(&mut *lines)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn line(text: &str) {
        tell(4, || Details { text: text.to_owned(), attributes: Vec::new() });
    }

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| &*line.text).collect()
    }

    fn of(request: &RequestLines) -> Vec<String> {
        let mut lines = Vec::new();
        request.each(|line| lines.push(line.text.clone()));
        lines
    }

    /// The one test that keeps lines: who wants them is the process's affair.
    #[test]
    fn lines_belong_to_the_request_that_is_polled_while_they_come() {
        line("nobody wants it");
        let wanting = Wanting::start();
        line("the node's");
        let [first, second] = [RequestLines::default(), RequestLines::default()];
        let serving = |lines: &RequestLines, word: &'static str| {
            let mut begun = false;
            scope(
                Some(lines.clone()),
                poll_fn(move |_| {
                    line(word);
                    if std::mem::replace(&mut begun, true) { Poll::Ready(()) } else { Poll::Pending }
                }),
            )
        };
        let (mut one, mut other) = (pin!(serving(&first, "one")), pin!(serving(&second, "other")));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            let _ = one.as_mut().poll(&mut context);
            line("between");
            let _ = other.as_mut().poll(&mut context);
        }
        assert_eq!([of(&first), of(&second)], [["one", "one"], ["other", "other"]]);
        assert_eq!(texts(&take_node_lines()), ["the node's", "between", "between"]);
        with_details(|| Details { text: "itself".to_owned(), attributes: Vec::new() }, || line("with words around"));
        with_details(|| Details { text: "not written".to_owned(), attributes: Vec::new() }, || {});
        line("plain");
        assert_eq!(texts(&take_node_lines()), ["itself", "plain"]);
        (0..MOST_LINES + 5).for_each(|_| line("many"));
        assert_eq!(take_node_lines().len(), MOST_LINES);
        line("left behind");
        drop(wanting);
        assert_eq!(take_node_lines(), []);
    }
}
