//! Streaming an upstream's response to an HTTP/1.1 client.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::{H1, SMALL_BODY};
use crate::body::Body;
use crate::buffer::write_both;
use crate::downstream::{Answer, Downstream, Exchange, Side};
use crate::errors::RelayError;
use crate::h1::write::{Outgoing, write_head};
use crate::head::{ResponseHead, Version};
use crate::headers::Known;
use crate::parse::chunked::{encode_chunk, encode_size};
use crate::parse::content_length;
use crate::serve::BodyFilter;
use crate::upstream::UpstreamResponse;
use crate::worker::{Timer, Worker};

impl Downstream {
    pub(crate) async fn h1_relay(
        &mut self,
        head: &mut ResponseHead,
        mut up: UpstreamResponse,
        filter: Option<&mut dyn BodyFilter>,
    ) -> Result<u64, RelayError> {
        let Downstream { worker, timer, exchange, side: Side::H1(h1), .. } = self else { return Err(RelayError::ClientGone) };
        let declared = match head.headers.known(Known::ContentLength) {
            None => None,
            Some(value) => Some(content_length(value).ok_or(RelayError::Upstream("malformed Content-Length in an edited head"))?),
        };
        let bodiless = exchange.is_head || head.status < 200 || matches!(head.status, 204 | 304);
        let plan = plan(exchange, up.body(), declared, bodiless, filter.is_some());
        if plan.outgoing == Outgoing::UntilClose || !h1.body.is_done() {
            exchange.keep_alive = false;
        }
        let mut out = worker.take_vector();
        let connection = exchange.connection(worker);
        if head.status < 200 || head.status == 204 {
            write_head(&mut out, head, Outgoing::Forbidden, connection);
        } else {
            write_head(&mut out, head, plan.outgoing, connection);
        }
        exchange.answer = Answer::Begun;
        let mut relay = Relay { worker, timer, exchange, h1 };
        let result = match plan.way {
            Way::AsItComes => relay.as_it_comes(&mut out, &mut up).await,
            Way::Decoded => relay.decoded(&mut out, &mut up, filter, plan.outgoing, declared).await,
            Way::Without => relay.write(&out, b"").await,
        };
        worker.give_vector(out);
        if bodiless && !up.is_done() {
            // The head was edited into one without a body: what the upstream still sends is not wanted.
            up.discard();
        }
        result?;
        up.finish();
        exchange.answer = Answer::Complete;
        Ok(exchange.body_sent)
    }
}

enum Way {
    /// The upstream's framing fits the client.
    AsItComes,
    /// The payload is taken out, filtered, and framed anew.
    Decoded,
    Without,
}

struct Plan {
    outgoing: Outgoing,
    way: Way,
}

/// Chooses how the body leaves.
fn plan(exchange: &Exchange, body: &Body, declared: Option<u64>, bodiless: bool, filtered: bool) -> Plan {
    if bodiless {
        return Plan { outgoing: Outgoing::None, way: Way::Without };
    }
    let unframed = if exchange.version >= Version::Http11 { Outgoing::Chunked } else { Outgoing::UntilClose };
    let outgoing = if declared.is_some() { Outgoing::Declared } else { unframed };
    let way = match (body, outgoing) {
        _ if filtered => Way::Decoded,
        (Body::Length(left), Outgoing::Declared) if Some(*left) == declared => Way::AsItComes,
        (Body::Chunked(_), Outgoing::Chunked) => Way::AsItComes,
        _ => Way::Decoded,
    };
    Plan { outgoing, way }
}

struct Relay<'a> {
    worker: &'a Worker,
    timer: &'a Timer,
    exchange: &'a mut Exchange,
    h1: &'a mut H1,
}

impl Relay<'_> {
    #[inline]
    async fn write(&mut self, first: &[u8], second: &[u8]) -> Result<(), RelayError> {
        let timeout = self.worker.settings.send_timeout;
        write_both(&mut self.h1.socket, self.timer, timeout, first, second, &mut self.exchange.sent)
            .await
            .map_err(|_| RelayError::ClientGone)
    }

    /// Waits for more of the response, with an eye on the client. Whether there is more.
    async fn fill(&mut self, up: &mut UpstreamResponse) -> Result<bool, RelayError> {
        let read = poll_fn(|context| match up.poll_fill(self.timer, context) {
            Poll::Ready(read) => Poll::Ready(Ok(read)),
            Poll::Pending => self.h1.poll_gone(self.worker, context).map(|()| Err(RelayError::ClientGone)),
        })
        .await?;
        match read {
            Ok(length) => Ok(length > 0),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(RelayError::Upstream("response timed out")),
            Err(_) => Err(RelayError::Upstream("connection broke within the response")),
        }
    }

    /// The head and what has come of the body leave together; then piece by piece, each as it is read.
    async fn as_it_comes(&mut self, out: &mut Vec<u8>, up: &mut UpstreamResponse) -> Result<(), RelayError> {
        let mut length = match up.take(&mut self.exchange.body_sent) {
            Ok(length) => length,
            Err(error) => {
                // The head was fine; the client sees the body break off.
                self.write(out, b"").await?;
                return Err(error);
            }
        };
        if length <= SMALL_BODY {
            out.extend_from_slice(&up.data()[..length]);
            self.write(out, b"").await?;
        } else {
            self.write(out, &up.data()[..length]).await?;
        }
        up.consume(length);
        while !up.is_done() {
            if !self.fill(up).await? {
                return Err(RelayError::Upstream("connection closed within the response"));
            }
            length = up.take(&mut self.exchange.body_sent)?;
            self.write(&up.data()[..length], b"").await?;
            up.consume(length);
        }
        Ok(())
    }

    async fn decoded(
        &mut self,
        out: &mut Vec<u8>,
        up: &mut UpstreamResponse,
        mut filter: Option<&mut dyn BodyFilter>,
        outgoing: Outgoing,
        declared: Option<u64>,
    ) -> Result<(), RelayError> {
        let mut piece = self.worker.take_vector();
        let mut trailers = self.worker.take_vector();
        let mut result = Ok(());
        loop {
            piece.clear();
            if let Err(error) = up.decode(&mut piece, &mut trailers) {
                result = Err(error);
                break;
            }
            let last = up.is_done();
            if let Some(filter) = &mut filter
                && (last || !piece.is_empty())
            {
                filter.filter(&mut piece, last);
            }
            if let Err(error) = self.pass_on(out, &piece, last.then_some(&trailers), outgoing, declared).await {
                result = Err(error);
                break;
            }
            if last {
                break;
            }
            match self.fill(up).await {
                Ok(true) => {}
                Ok(false) if up.end_with_connection() => {}
                Ok(false) => result = Err(RelayError::Upstream("connection closed within the response")),
                Err(error) => result = Err(error),
            }
            if result.is_err() {
                break;
            }
        }
        self.worker.give_vector(piece);
        self.worker.give_vector(trailers);
        result
    }

    /// Writes one piece, behind the head if that is still in `out`. `end` has the trailers of a body that ends here.
    async fn pass_on(
        &mut self,
        out: &mut Vec<u8>,
        mut piece: &[u8],
        end: Option<&Vec<u8>>,
        outgoing: Outgoing,
        declared: Option<u64>,
    ) -> Result<(), RelayError> {
        let mut too_long = false;
        if let Some(declared) = declared {
            let room = declared - self.exchange.body_sent;
            too_long = piece.len() as u64 > room;
            piece = &piece[..piece.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        }
        self.exchange.body_sent += piece.len() as u64;
        if outgoing == Outgoing::Chunked && piece.len() <= SMALL_BODY {
            encode_chunk(out, piece);
            piece = &[];
        } else if outgoing == Outgoing::Chunked {
            encode_size(out, piece.len());
        } else if piece.len() <= SMALL_BODY {
            out.extend_from_slice(piece);
            piece = &[];
        }
        if !piece.is_empty() {
            self.write(out, piece).await?;
            out.clear();
            if outgoing == Outgoing::Chunked {
                out.extend_from_slice(b"\r\n");
            }
        }
        if let (Outgoing::Chunked, Some(trailers)) = (outgoing, end) {
            out.extend_from_slice(b"0\r\n");
            out.extend_from_slice(trailers);
            out.extend_from_slice(b"\r\n");
        }
        if !out.is_empty() {
            self.write(out, b"").await?;
            out.clear();
        }
        if too_long || (end.is_some() && declared.is_some_and(|declared| declared != self.exchange.body_sent)) {
            return Err(RelayError::Upstream("body differs from its declared length"));
        }
        Ok(())
    }
}
