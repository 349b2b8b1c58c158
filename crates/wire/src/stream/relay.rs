//! Bytes both ways between two sockets, until both have ended.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::socket::Socket;
use crate::tunnel::Way;
use crate::worker::Worker;

/// One direction: what moves, and whether its end has been told to the other side.
#[derive(Default)]
struct Direction {
    way: Way,
    moved: u64,
    told: bool,
}

impl Direction {
    /// True once nothing moves this way any more.
    fn poll(&mut self, from: &mut Socket, to: &mut Socket, worker: &Worker, context: &mut Context<'_>) -> std::io::Result<bool> {
        if !self.way.ended() {
            self.way.poll(from, to, worker, &mut self.moved, context)?;
        }
        if self.way.ended() && !self.told {
            self.told = Pin::new(to).poll_shutdown(context).is_ready();
        }
        Ok(self.told)
    }
}

/// Answers how many bytes went to the client and to the upstream. A side that ends is heard to its end, and the other one too.
pub(super) async fn both_ways(client: &mut Socket, upstream: &mut Socket, worker: &Rc<Worker>, idle: Duration) -> (u64, u64) {
    let timer = worker.timer();
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut seen = 0;
    poll_fn(|context| {
        let ups = up.poll(client, upstream, worker, context);
        let downs = down.poll(upstream, client, worker, context);
        match (ups, downs) {
            (Ok(true), Ok(true)) | (Err(_), _) | (_, Err(_)) => return Poll::Ready(()),
            _ => {}
        }
        let moved = up.moved + down.moved;
        if std::mem::replace(&mut seen, moved) != moved {
            timer.disarm();
        }
        if timer.expired() {
            return Poll::Ready(());
        }
        timer.arm(context, idle);
        Poll::Pending
    })
    .await;
    up.way.discard(worker);
    down.way.discard(worker);
    (down.moved, up.moved)
}
