//! Answers on a stream of HTTP/2 or HTTP/3: the gateway's own, and an upstream's as it streams.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::ClientStream;
use super::ends::Sending;
use crate::downstream::{Answer, Downstream, Exchange, Side};
use crate::errors::{ClientGone, RelayError};
use crate::head::ResponseHead;
use crate::headers::Known;
use crate::serve::BodyFilter;
use crate::upstream::UpstreamResponse;
use crate::worker::{Timer, Worker};

impl Downstream {
    pub(crate) async fn stream_respond(&mut self, head: &mut ResponseHead, body: &[u8], trailers: &[u8]) -> Result<(), ClientGone> {
        let Downstream { worker, timer, exchange, side: Side::Stream(client), .. } = self else { return Err(ClientGone) };
        let bodiless = head.status < 200 || matches!(head.status, 204 | 304);
        // The length is ours to say, but for answers whose body is elsewhere.
        let keeps_length = head.status == 304 || (exchange.is_head && body.is_empty() && !bodiless);
        let mut response = response_of(head, !keeps_length, exchange);
        if !bodiless && !keeps_length {
            response.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
        }
        let (body, trailers) = if bodiless || exchange.is_head { (&[][..], &[][..]) } else { (body, trailers) };
        exchange.answer = Answer::Begun;
        let ends_here = body.is_empty() && trailers.is_empty();
        client.sending.begin(response, ends_here)?;
        flush(&mut client.sending, timer, worker).await?;
        if !ends_here {
            pass_on(&mut client.sending, timer, worker, body.to_vec(), Some(trailers)).await.map_err(|_| ClientGone)?;
            exchange.sent += body.len() as u64;
            exchange.body_sent = body.len() as u64;
        }
        exchange.answer = Answer::Complete;
        Ok(())
    }

    pub(crate) async fn stream_relay(
        &mut self,
        head: &mut ResponseHead,
        mut up: UpstreamResponse,
        mut filter: Option<&mut dyn BodyFilter>,
    ) -> Result<u64, RelayError> {
        let Downstream { worker, timer, exchange, side: Side::Stream(client), .. } = self else { return Err(RelayError::ClientGone) };
        let bodiless = exchange.is_head || head.status < 200 || matches!(head.status, 204 | 304);
        let response = response_of(head, matches!(head.status, 0..=199 | 204), exchange);
        let ends_here = bodiless || (up.is_done() && filter.is_none());
        exchange.answer = Answer::Begun;
        client.sending.begin(response, ends_here)?;
        flush(&mut client.sending, timer, worker).await?;
        if ends_here {
            if !up.is_done() {
                up.discard();
            }
        } else {
            let mut trailers = Vec::new();
            loop {
                let mut piece = Vec::with_capacity(up.data().len());
                let decoded = up.decode(&mut piece, &mut trailers);
                let last = up.is_done();
                if let Some(filter) = &mut filter
                    && decoded.is_ok()
                    && (last || !piece.is_empty())
                {
                    filter.filter(&mut piece, last);
                }
                exchange.sent += piece.len() as u64;
                exchange.body_sent += piece.len() as u64;
                let sent = match decoded {
                    Ok(()) => pass_on(&mut client.sending, timer, worker, piece, last.then_some(trailers.as_slice())).await,
                    Err(error) => Err(error),
                };
                let more = match sent {
                    Ok(()) if last => break,
                    Ok(()) => fill(client, timer, &mut up).await,
                    Err(error) => Err(error),
                };
                match more {
                    Ok(true) => {}
                    Ok(false) if up.end_with_connection() => {}
                    failed => {
                        client.abort();
                        return Err(failed.err().unwrap_or(RelayError::Upstream("connection closed within the response")));
                    }
                }
            }
        }
        up.finish();
        exchange.answer = Answer::Complete;
        Ok(exchange.body_sent)
    }
}

/// Waits for more of the response, with an eye on the client. Whether there is more.
async fn fill(client: &mut ClientStream, timer: &Timer, up: &mut UpstreamResponse) -> Result<bool, RelayError> {
    let read = poll_fn(|context| match up.poll_fill(timer, context) {
        Poll::Ready(read) => Poll::Ready(Ok(read)),
        Poll::Pending => client.poll_gone(context).map(|()| Err(RelayError::ClientGone)),
    })
    .await?;
    match read {
        Ok(length) => Ok(length > 0),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(RelayError::Upstream("response timed out")),
        Err(_) => Err(RelayError::Upstream("connection broke within the response")),
    }
}

/// Sends one piece; `end` has the trailers of a body that ends here.
async fn pass_on(sending: &mut Sending, timer: &Timer, worker: &Worker, piece: Vec<u8>, end: Option<&[u8]>) -> Result<(), RelayError> {
    let trailers = end.filter(|trailers| !trailers.is_empty()).map(trailers_of);
    send(sending, timer, worker, piece.into(), end.is_some() && trailers.is_none()).await?;
    if let Some(trailers) = trailers {
        sending.send_trailers(trailers)?;
        flush(sending, timer, worker).await?;
    }
    Ok(())
}

/// Sends data as the client's window and the send buffer allow; `send_timeout` is between two steps.
async fn send(sending: &mut Sending, timer: &Timer, worker: &Worker, mut data: Bytes, end: bool) -> Result<(), ClientGone> {
    while !data.is_empty() {
        let room = in_time(timer, worker, |context| sending.poll_room(data.len(), context)).await?;
        let piece = data.split_to(room.min(data.len()));
        let last = end && data.is_empty();
        sending.send_data(piece, last)?;
        if last {
            return flush(sending, timer, worker).await;
        }
    }
    if end {
        sending.send_data(Bytes::new(), true)?;
    }
    flush(sending, timer, worker).await
}

/// Waits until what was sent is with the protocol's own buffers.
pub(super) async fn flush(sending: &mut Sending, timer: &Timer, worker: &Worker) -> Result<(), ClientGone> {
    in_time(timer, worker, |context| sending.poll_flush(context)).await
}

/// Waits for a step of sending, `send_timeout` at most.
async fn in_time<T>(
    timer: &Timer,
    worker: &Worker,
    mut step: impl FnMut(&mut Context<'_>) -> Poll<Result<T, ClientGone>>,
) -> Result<T, ClientGone> {
    poll_fn(|context| {
        if timer.expired() {
            timer.disarm();
            return Poll::Ready(Err(ClientGone));
        }
        let stepped = step(context);
        if stepped.is_pending() {
            timer.arm(context, worker.settings.send_timeout);
        } else {
            timer.disarm();
        }
        stepped
    })
    .await
}

/// The head as the libraries want it, without lines that HTTP/2 and HTTP/3 forbid (RFC 9113 section 8.2.2, RFC 9114 section 4.2).
pub(super) fn response_of(head: &ResponseHead, without_length: bool, exchange: &mut Exchange) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.reserve(head.headers.len() + 1);
    for line in head.headers.lines() {
        match line.known {
            Known::Connection | Known::KeepAlive | Known::TransferEncoding | Known::Upgrade | Known::ProxyConnection => continue,
            Known::ContentLength if without_length => continue,
            _ => {}
        }
        let (name, value) = (head.headers.name(line), head.headers.value(line));
        exchange.sent += (name.len() + value.len() + 4) as u64;
        // What is no HTTP/2 field is left out rather than failing the stream.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    response
}

/// Trailer lines, as the chunked coding has them, as fields. Those that HTTP/2 forbids are left out.
fn trailers_of(lines: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let name = &line[..colon];
        let forbidden = matches!(
            Known::of(name),
            Known::Connection | Known::KeepAlive | Known::TransferEncoding | Known::ContentLength | Known::Upgrade | Known::Host
        );
        let value = line[colon + 1..].trim_ascii();
        if let (false, Ok(name), Ok(value)) = (forbidden, HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            trailers.append(name, value);
        }
    }
    trailers
}
