//! Sending a request to an upstream and waiting for the head of its response.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::pool::{Connection, Pools};
use super::upload::{Sent, Wire, stream_h1, stream_multiplexed};
use super::{Moments, RequestBody, Target, Timeouts, UpstreamResponse};
use crate::buffer::Buffer;
use crate::downstream::{Downstream, Side};
use crate::errors::{UpstreamError, UpstreamErrorKind};
use crate::h1::write::write_interim;
use crate::head::{Method, RequestHead, ResponseHead, Version};
use crate::headers::Known;
use crate::parse::response::Persistence;
use crate::parse::{Parsed, parse_response, tokens};
#[cfg(doc)]
use crate::worker::Worker;

/// What one connection brought; none when a pooled one turned out closed and a fresh one may be tried.
type Attempt = Option<(ResponseHead, UpstreamResponse)>;

/// One exchange's constants.
struct Request<'a> {
    head: &'a [u8],
    body: RequestBody<'a>,
    idempotent: bool,
    request: &'a RequestHead,
    timeouts: &'a Timeouts,
}

impl Pools {
    /// Sends a request and waits for the head of its response.
    ///
    /// Takes a pooled connection or connects. `head` is the complete upstream request head, with its blank line. A pooled
    /// connection that turns out closed before a response byte is replaced by a fresh one when that is safe. While waiting
    /// the client is watched. An upstream that answers before the request body ended is heard; the rest of the body is not
    /// read, and the client connection closes after the answer. Interim responses other than 100 and 101 are passed to
    /// HTTP/1.1 clients.
    ///
    /// The response head comes without hop-by-hop lines: `Connection` and what it names, `Keep-Alive`, `Transfer-Encoding`,
    /// `Upgrade` (but for a 101), and `Trailer` unless the client sent `TE: trailers`. [`Worker::give_response`] takes it
    /// back when it has served.
    #[expect(clippy::too_many_arguments)]
    pub async fn send(
        &self,
        target: &Target<'_>,
        server_name: &str,
        head: &[u8],
        body: RequestBody<'_>,
        idempotent: bool,
        request: &RequestHead,
        down: &mut Downstream,
        timeouts: &Timeouts,
        moments: &mut Moments,
    ) -> Result<(ResponseHead, UpstreamResponse), UpstreamError> {
        down.timer.disarm();
        let sending = Request { head, body, idempotent, request, timeouts };
        let mut fresh = false;
        loop {
            let (connection, reused) = if fresh {
                Box::pin(self.take(target, server_name, true, timeouts.connect)).await?
            } else {
                self.take(target, server_name, false, timeouts.connect).await?
            };
            moments.reused = reused;
            moments.connected = Some(if reused { self.worker.clock().last() } else { self.worker.clock().now() });
            let mut buffer = Buffer::default();
            match self.attempt(&sending, connection, reused, &mut buffer, down, moments).await {
                Ok(Some(answered)) => return Ok(answered),
                Ok(None) => fresh = true,
                Err(error) => {
                    buffer.discard(&self.worker);
                    return Err(error);
                }
            }
        }
    }

    async fn attempt(
        &self,
        sending: &Request<'_>,
        mut connection: Connection,
        reused: bool,
        buffer: &mut Buffer,
        down: &mut Downstream,
        moments: &mut Moments,
    ) -> Result<Attempt, UpstreamError> {
        let worker = &*self.worker;
        let streams = matches!(sending.body, RequestBody::Stream) && !down.body_is_read();
        let sent = if streams {
            let mut wire = Wire { socket: &mut connection.socket, buffer: &mut *buffer, worker, timeout: sending.timeouts.write };
            match &down.side {
                Side::H1(_) => Box::pin(stream_h1(&mut wire, sending.head, down)).await?,
                Side::Stream(_) => Box::pin(stream_multiplexed(&mut wire, sending.head, sending.request.framing, down)).await?,
            }
        } else {
            let body = if let RequestBody::Whole(body) = sending.body { body } else { b"" };
            let mut wire = Wire { socket: &mut connection.socket, buffer: &mut *buffer, worker, timeout: sending.timeouts.write };
            wire.send_both(&down.timer, sending.head, body).await?
        };
        let may_repeat = sending.idempotent && !streams;
        if let Sent::Broken { untouched } = sent {
            if reused && (untouched || may_repeat) {
                return Ok(None);
            }
            return Err(UpstreamError::new(UpstreamErrorKind::Closed, untouched || may_repeat));
        }
        if matches!(sent, Sent::Early) {
            down.close_after();
        }
        self.await_head(sending, connection, reused, may_repeat, buffer, down, moments).await
    }

    #[expect(clippy::too_many_arguments)]
    async fn await_head(
        &self,
        sending: &Request<'_>,
        mut connection: Connection,
        reused: bool,
        may_repeat: bool,
        buffer: &mut Buffer,
        down: &mut Downstream,
        moments: &mut Moments,
    ) -> Result<Attempt, UpstreamError> {
        let worker = &*self.worker;
        let limit = worker.settings.response_head_limit;
        let mut heard = false;
        loop {
            if !buffer.is_empty() {
                let mut head = worker.take_response();
                let mut persistence = Persistence::default();
                match parse_response(buffer.data(), sent_method(sending.head, sending.request.method), &mut head, &mut persistence) {
                    Ok(Parsed::Complete(length)) if length <= limit => {
                        buffer.consume(length);
                        if head.status < 200 && head.status != 101 {
                            let passed = pass_interim(down, &mut head, &persistence).await;
                            worker.give_response(head);
                            passed?;
                            heard = true;
                            continue;
                        }
                        if head.status == 101 && !sending.request.upgrade {
                            return Err(UpstreamError::new(UpstreamErrorKind::BadResponse("101 without a request to upgrade"), false));
                        }
                        moments.first_byte = Some(worker.clock().now());
                        strip(&mut head, &persistence, down.exchange.wants_trailers);
                        let reusable = persistence.keep_alive && down.body_is_read();
                        let (framing, timeout) = (head.framing, sending.timeouts.read);
                        let buffer = std::mem::take(buffer);
                        let response = UpstreamResponse::new(&self.worker, connection, buffer, framing, reusable, timeout);
                        return Ok(Some((head, response)));
                    }
                    Ok(Parsed::Partial) if buffer.len() < limit && !buffer.is_full() => worker.give_response(head),
                    Ok(_) => return Err(UpstreamError::new(UpstreamErrorKind::HeadTooLarge, false)),
                    Err(reason) => return Err(UpstreamError::new(UpstreamErrorKind::BadResponse(reason), false)),
                }
            }
            let timeout = sending.timeouts.read;
            let read = poll_fn(|context| match buffer.poll_fill(&mut connection.socket, worker, &down.timer, timeout, context) {
                Poll::Pending => down.poll_gone(context).map(|()| None),
                Poll::Ready(read) => Poll::Ready(Some(read)),
            })
            .await;
            match read {
                None => {
                    down.timer.disarm();
                    return Err(UpstreamError::new(UpstreamErrorKind::ClientGone, false));
                }
                Some(Ok(length)) if length > 0 => heard = true,
                Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(UpstreamError::new(UpstreamErrorKind::ReadTimeout, may_repeat));
                }
                Some(_) if reused && !heard && may_repeat => return Ok(None),
                Some(_) => return Err(UpstreamError::new(UpstreamErrorKind::Closed, may_repeat && !heard)),
            }
        }
    }
}

/// Takes hop-by-hop lines out (RFC 9110 section 7.6.1, and as nginx does it).
fn strip(head: &mut ResponseHead, persistence: &Persistence, wants_trailers: bool) {
    if !persistence.bound_lines {
        return;
    }
    if persistence.names_headers {
        let mut named = Vec::new();
        for line in head.headers.lines().iter().filter(|line| line.known == Known::Connection) {
            named.extend(tokens(head.headers.value(line)).map(<[u8]>::to_ascii_lowercase));
        }
        head.headers.retain(|name, _| !named.iter().any(|token| name.eq_ignore_ascii_case(token)));
    }
    let upgrades = head.status == 101;
    head.headers.retain_lines(|line| match line.known {
        Known::Connection | Known::KeepAlive | Known::TransferEncoding => false,
        Known::Upgrade => upgrades,
        Known::Trailer => wants_trailers,
        _ => true,
    });
}

/// Passes an interim response on to clients that know them. 100 is the gateway's own business.
async fn pass_interim(down: &mut Downstream, head: &mut ResponseHead, persistence: &Persistence) -> Result<(), UpstreamError> {
    if head.status == 100 || down.exchange.version != Version::Http11 {
        return Ok(());
    }
    strip(head, persistence, false);
    let mut out = Vec::new();
    write_interim(&mut out, head);
    down.h1_send_raw(&out).await.map_err(|_| UpstreamError::new(UpstreamErrorKind::ClientGone, false))
}

/// The method as it went upstream: a plugin may have given the request another one, and only the answer to a HEAD has no body.
fn sent_method(head: &[u8], given: Method) -> Method {
    match (head.starts_with(b"HEAD "), given) {
        (true, _) => Method::Head,
        (false, Method::Head) => Method::Get,
        (false, given) => given,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_an_answer_has_a_body_is_told_by_the_method_that_was_sent() {
        assert_eq!(sent_method(b"POST / HTTP/1.1\r\n", Method::Head), Method::Get);
        assert_eq!(sent_method(b"HEAD / HTTP/1.1\r\n", Method::Post), Method::Head);
        assert_eq!(sent_method(b"PUT / HTTP/1.1\r\n", Method::Put), Method::Put);
    }

    #[test]
    fn connection_bound_lines_stay_behind() {
        let mut head = ResponseHead::new(200);
        for (name, value) in
            [("Connection", "X-Gone, close"), ("x-gone", "1"), ("X-Stay", "1"), ("Upgrade", "h2c"), ("Trailer", "X"), ("Keep-Alive", "5")]
        {
            head.headers.append(name, value.as_bytes());
        }
        strip(&mut head, &Persistence { keep_alive: false, bound_lines: true, names_headers: true }, false);
        assert_eq!(head.headers.iter().collect::<Vec<_>>(), [(b"X-Stay".as_slice(), b"1".as_slice())]);
    }
}
