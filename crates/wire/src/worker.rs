//! What the connections of one worker thread share: settings, recycled buffers, the clock and its coarse deadlines.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::head::{RequestHead, ResponseHead};

/// Size of a read buffer. A request head has to fit.
pub(crate) const BUFFER_SIZE: usize = 32 * 1024;
const BUFFERS_KEPT: usize = 256;
const VECTORS_KEPT: usize = 1024;
/// Vectors and heads that grew larger than this are given back to the allocator.
const CAPACITY_KEPT: usize = 64 * 1024;

/// Limits and timeouts of client connections; the defaults are nginx' and Kong's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From the first byte of a request head (or the accept) to its last.
    pub client_header_timeout: Duration,
    /// Between two reads of a request body.
    pub client_body_timeout: Duration,
    /// Between two writes to a client.
    pub send_timeout: Duration,
    /// How long an idle client connection stays open; zero turns keep-alive off.
    pub keepalive_timeout: Duration,
    /// Requests on one client connection before it is closed.
    pub keepalive_requests: u64,
    /// Largest request body in bytes, 0 = no limit.
    pub max_body_size: u64,
    /// Largest response head taken from an upstream, in bytes (Kong's `proxy_buffer_size`).
    pub response_head_limit: usize,
    /// Client connections this worker serves at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Streams an HTTP/2 client may have open at once.
    pub http2_max_concurrent_streams: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client_header_timeout: Duration::from_secs(60),
            client_body_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(60),
            keepalive_timeout: Duration::from_secs(75),
            keepalive_requests: 10_000,
            max_body_size: 0,
            response_head_limit: 4096,
            max_connections: 16_384,
            http2_max_concurrent_streams: 128,
        }
    }
}

/// The clock of a worker. Reading it is cheap; reading what was read last is cheaper.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    last: Cell<Instant>,
}

impl Clock {
    fn new() -> Self {
        let now = Instant::now();
        Self { started: now, last: Cell::new(now) }
    }
    /// Reads the clock.
    #[inline]
    pub fn now(&self) -> Instant {
        let now = Instant::now();
        self.last.set(now);
        now
    }
    /// What was read last on this worker: at most one request head, response head or second old.
    #[inline]
    pub fn last(&self) -> Instant {
        self.last.get()
    }
    fn milliseconds(&self) -> u64 {
        milliseconds(self.now().duration_since(self.started))
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(u64::from(duration.subsec_millis()))
}

/// Something that wants to look after itself once a second (idle pools).
pub(crate) trait Sweep {
    fn sweep(&self, now: Instant);
}

/// Shared by everything that runs on one worker thread. Needs a `LocalRuntime` (or a `LocalSet`) to run on.
pub struct Worker {
    pub settings: Settings,
    clock: Clock,
    buffers: RefCell<Vec<Box<[u8]>>>,
    vectors: RefCell<Vec<Vec<u8>>>,
    requests: RefCell<Vec<RequestHead>>,
    responses: RefCell<Vec<ResponseHead>>,
    timers: RefCell<Vec<Rc<Deadline>>>,
    free_timers: RefCell<Vec<Rc<Deadline>>>,
    sweeps: RefCell<Vec<Weak<dyn Sweep>>>,
    /// Milliseconds since the start, as of the last sweep.
    swept_at: Cell<u64>,
    /// A deadline shorter than the coarse ones lies ahead, until this millisecond.
    fine_until: Cell<u64>,
    fine: Notify,
    draining: Cell<bool>,
    /// Idle connections are not waited for any more.
    closing_idle: Cell<bool>,
    connections: Cell<usize>,
    /// Listening sockets that may still bring connections.
    listening: Cell<usize>,
    /// A connection closed, or draining began.
    drained: Notify,
}

/// Timeouts below this are swept finely.
const COARSE_FROM_MS: u64 = 5000;
const COARSE_TICK: Duration = Duration::from_secs(1);
const FINE_TICK: Duration = Duration::from_millis(20);
const NEVER: u64 = u64::MAX;

impl Worker {
    pub fn new(settings: Settings) -> Rc<Self> {
        Rc::new(Self {
            settings,
            clock: Clock::new(),
            buffers: RefCell::default(),
            vectors: RefCell::default(),
            requests: RefCell::default(),
            responses: RefCell::default(),
            timers: RefCell::default(),
            free_timers: RefCell::default(),
            sweeps: RefCell::default(),
            swept_at: Cell::new(0),
            fine_until: Cell::new(0),
            fine: Notify::new(),
            draining: Cell::new(false),
            closing_idle: Cell::new(false),
            connections: Cell::new(0),
            listening: Cell::new(0),
            drained: Notify::new(),
        })
    }

    /// Starts the worker's clock as a task of the current local runtime. It ends when the worker is dropped.
    pub fn start(self: &Rc<Self>) {
        let weak = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let mut last_coarse = Instant::now();
            loop {
                let Some(worker) = weak.upgrade() else { return };
                if worker.fine_until.get() > worker.swept_at.get() {
                    drop(worker);
                    tokio::time::sleep(FINE_TICK).await;
                } else {
                    // The worker must not be kept alive by its own clock, so the wait holds it for one tick at most.
                    let _ = tokio::time::timeout(COARSE_TICK, worker.fine.notified()).await;
                }
                let Some(worker) = weak.upgrade() else { return };
                let now = worker.clock.now();
                worker.sweep_deadlines();
                if now.duration_since(last_coarse) >= COARSE_TICK {
                    last_coarse = now;
                    worker.sweeps.borrow_mut().retain(|sweep| sweep.strong_count() > 0);
                    let sweeps: Vec<_> = worker.sweeps.borrow().iter().filter_map(Weak::upgrade).collect();
                    for sweep in sweeps {
                        sweep.sweep(now);
                    }
                }
            }
        });
    }

    fn sweep_deadlines(&self) {
        let now = self.clock.milliseconds();
        self.swept_at.set(now);
        for timer in self.timers.borrow().iter() {
            if timer.at.get() <= now
                && let Some(waker) = &*timer.waker.borrow()
            {
                waker.wake_by_ref();
            }
        }
    }

    #[inline]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Stops keep-alive: idle connections close now, running exchanges end with `Connection: close`.
    pub fn drain(&self) {
        self.closing_idle.set(true);
        self.retire();
    }

    /// As [`Worker::drain`], but an idle connection stays until its client has been told to go, with its next answer: what the
    /// client may just be sending is not lost. [`Worker::drain`] ends the wait.
    pub fn retire(&self) {
        self.draining.set(true);
        for timer in self.timers.borrow().iter() {
            if let Some(waker) = &*timer.waker.borrow() {
                waker.wake_by_ref();
            }
        }
        self.drained.notify_waiters();
    }

    pub fn draining(&self) -> bool {
        self.draining.get()
    }

    pub(crate) fn closing_idle(&self) -> bool {
        self.closing_idle.get()
    }

    /// Client connections open on this worker.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Waits until no listening socket and no client connection is left.
    pub async fn drained(&self) {
        while self.connections.get() + self.listening.get() > 0 {
            self.drained.notified().await;
        }
    }

    /// Waits until another client connection may be accepted, or draining begins.
    pub(crate) async fn room_for_connection(&self) {
        while self.connections.get() >= self.settings.max_connections && !self.draining() {
            self.drained.notified().await;
        }
    }

    /// Waits until draining begins.
    pub(crate) async fn drain_begun(&self) {
        while !self.draining() {
            self.drained.notified().await;
        }
    }

    pub(crate) fn connection_opened(self: &Rc<Self>) -> Counted {
        Counted::new(self, |worker| &worker.connections)
    }

    pub(crate) fn listener_opened(self: &Rc<Self>) -> Counted {
        Counted::new(self, |worker| &worker.listening)
    }

    pub(crate) fn register(&self, sweep: Weak<dyn Sweep>) {
        self.sweeps.borrow_mut().push(sweep);
    }

    #[inline]
    pub(crate) fn take_buffer(&self) -> Box<[u8]> {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_SIZE].into_boxed_slice())
    }

    #[inline]
    pub(crate) fn give_buffer(&self, buffer: Box<[u8]>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < BUFFERS_KEPT {
            buffers.push(buffer);
        }
    }

    /// An empty vector with some capacity, from those given back.
    #[inline]
    pub fn take_vector(&self) -> Vec<u8> {
        self.vectors.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(2048))
    }

    /// Takes a vector back for the next [`Worker::take_vector`].
    #[inline]
    pub fn give_vector(&self, mut vector: Vec<u8>) {
        let mut vectors = self.vectors.borrow_mut();
        if vector.capacity() <= CAPACITY_KEPT && vectors.len() < VECTORS_KEPT {
            vector.clear();
            vectors.push(vector);
        }
    }

    #[inline]
    pub(crate) fn take_request(&self) -> RequestHead {
        self.requests.borrow_mut().pop().unwrap_or_default()
    }

    #[inline]
    pub(crate) fn give_request(&self, request: RequestHead) {
        let mut requests = self.requests.borrow_mut();
        if requests.len() < VECTORS_KEPT {
            requests.push(request);
        }
    }

    /// An empty response head whose buffers are warm. Giving it back with [`Worker::give_response`] saves allocations.
    #[inline]
    pub fn take_response(&self) -> ResponseHead {
        self.responses.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a response head back once nobody reads it any more.
    #[inline]
    pub fn give_response(&self, mut response: ResponseHead) {
        let mut responses = self.responses.borrow_mut();
        if responses.len() < VECTORS_KEPT && response.headers.capacity() <= CAPACITY_KEPT {
            response.headers.clear();
            responses.push(response);
        }
    }

    /// A deadline slot, recycled when dropped: short-lived users must not grow the list that is swept.
    pub(crate) fn timer(self: &Rc<Self>) -> Timer {
        let deadline = self.free_timers.borrow_mut().pop().unwrap_or_else(|| {
            let deadline = Rc::new(Deadline { at: Cell::new(NEVER), waker: RefCell::new(None) });
            self.timers.borrow_mut().push(deadline.clone());
            deadline
        });
        Timer { deadline, worker: self.clone() }
    }
}

/// Counts one connection or listening socket while it lives.
pub(crate) struct Counted {
    worker: Rc<Worker>,
    counter: fn(&Worker) -> &Cell<usize>,
}

impl Counted {
    fn new(worker: &Rc<Worker>, counter: fn(&Worker) -> &Cell<usize>) -> Self {
        let count = counter(worker);
        count.set(count.get() + 1);
        Self { worker: worker.clone(), counter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let count = (self.counter)(&self.worker);
        count.set(count.get() - 1);
        self.worker.drained.notify_waiters();
    }
}

struct Deadline {
    /// Milliseconds on the worker's clock.
    at: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

/// One coarse deadline: setting it is a store, the worker's clock wakes whoever let it pass.
pub(crate) struct Timer {
    deadline: Rc<Deadline>,
    worker: Rc<Worker>,
}

impl Timer {
    /// Starts the deadline unless it runs. Called when an operation has to wait.
    #[inline]
    pub(crate) fn arm(&self, context: &Context<'_>, timeout: Duration) {
        let deadline = &*self.deadline;
        if deadline.at.get() == NEVER {
            self.start(timeout);
            let mut waker = deadline.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
        }
    }

    #[inline]
    fn start(&self, timeout: Duration) {
        let timeout = milliseconds(timeout);
        if timeout >= COARSE_FROM_MS {
            // The sweep's time may be a second old.
            self.deadline.at.set(self.worker.swept_at.get().saturating_add(timeout + 1000));
            return;
        }
        let at = self.worker.clock.milliseconds() + timeout;
        self.deadline.at.set(at);
        if at > self.worker.fine_until.get() {
            let coarse = self.worker.fine_until.get() <= self.worker.swept_at.get();
            self.worker.fine_until.set(at);
            if coarse {
                self.worker.fine.notify_one();
            }
        }
    }

    /// Stops the deadline. Called when the operation made progress.
    #[inline]
    pub(crate) fn disarm(&self) {
        self.deadline.at.set(NEVER);
    }

    #[inline]
    pub(crate) fn expired(&self) -> bool {
        self.deadline.at.get() <= self.worker.swept_at.get()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
        *self.deadline.waker.borrow_mut() = None;
        self.worker.free_timers.borrow_mut().push(self.deadline.clone());
    }
}
