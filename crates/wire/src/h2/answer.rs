//! Answers on an HTTP/2 stream: the gateway's own, and an upstream's as it streams.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use bytes::Bytes;
use h2::SendStream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::H2;
use crate::downstream::{Answer, Downstream, Exchange, Side};
use crate::errors::{ClientGone, RelayError};
use crate::head::ResponseHead;
use crate::headers::Known;
use crate::serve::BodyFilter;
use crate::upstream::UpstreamResponse;
use crate::worker::{Timer, Worker};

impl Downstream {
    pub(crate) async fn h2_respond(&mut self, head: &mut ResponseHead, body: &[u8], trailers: &[u8]) -> Result<(), ClientGone> {
        let Downstream { worker, timer, exchange, side: Side::H2(h2), .. } = self else { return Err(ClientGone) };
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
        let stream = h2.respond.send_response(response, ends_here).map_err(|_| ClientGone)?;
        if !ends_here {
            let stream = h2.stream.insert(stream);
            pass_on(stream, timer, worker, body.to_vec(), Some(trailers)).await.map_err(|_| ClientGone)?;
            exchange.sent += body.len() as u64;
            exchange.body_sent = body.len() as u64;
        }
        exchange.answer = Answer::Complete;
        Ok(())
    }

    pub(crate) async fn h2_relay(
        &mut self,
        head: &mut ResponseHead,
        mut up: UpstreamResponse,
        mut filter: Option<&mut dyn BodyFilter>,
    ) -> Result<u64, RelayError> {
        let Downstream { worker, timer, exchange, side: Side::H2(h2), .. } = self else { return Err(RelayError::ClientGone) };
        let bodiless = exchange.is_head || head.status < 200 || matches!(head.status, 204 | 304);
        let response = response_of(head, matches!(head.status, 0..=199 | 204), exchange);
        let ends_here = bodiless || (up.is_done() && filter.is_none());
        exchange.answer = Answer::Begun;
        let stream = h2.respond.send_response(response, ends_here).map_err(|_| RelayError::ClientGone)?;
        if ends_here {
            if !up.is_done() {
                up.discard();
            }
        } else {
            h2.stream = Some(stream);
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
                let Some(stream) = &mut h2.stream else { return Err(RelayError::ClientGone) };
                let sent = match decoded {
                    Ok(()) => pass_on(stream, timer, worker, piece, last.then_some(trailers.as_slice())).await,
                    Err(error) => Err(error),
                };
                let more = match sent {
                    Ok(()) if last => break,
                    Ok(()) => fill(h2, timer, &mut up).await,
                    Err(error) => Err(error),
                };
                match more {
                    Ok(true) => {}
                    Ok(false) if up.end_with_connection() => {}
                    failed => {
                        h2.abort();
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
async fn fill(h2: &mut H2, timer: &Timer, up: &mut UpstreamResponse) -> Result<bool, RelayError> {
    let read = poll_fn(|context| match up.poll_fill(timer, context) {
        Poll::Ready(read) => Poll::Ready(Ok(read)),
        Poll::Pending => h2.poll_gone(context).map(|()| Err(RelayError::ClientGone)),
    })
    .await?;
    match read {
        Ok(length) => Ok(length > 0),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(RelayError::Upstream("response timed out")),
        Err(_) => Err(RelayError::Upstream("connection broke within the response")),
    }
}

/// Sends one piece; `end` has the trailers of a body that ends here.
async fn pass_on(
    stream: &mut SendStream<Bytes>,
    timer: &Timer,
    worker: &Worker,
    piece: Vec<u8>,
    end: Option<&[u8]>,
) -> Result<(), RelayError> {
    let trailers = end.filter(|trailers| !trailers.is_empty()).map(trailers_of);
    send(stream, timer, worker, piece.into(), end.is_some() && trailers.is_none()).await?;
    if let Some(trailers) = trailers {
        stream.send_trailers(trailers).map_err(|_| RelayError::ClientGone)?;
    }
    Ok(())
}

/// Sends data as the client's window and the send buffer allow; `send_timeout` is between two steps.
async fn send(stream: &mut SendStream<Bytes>, timer: &Timer, worker: &Worker, mut data: Bytes, end: bool) -> Result<(), ClientGone> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let mut capacity = stream.capacity();
        if capacity == 0 {
            capacity = poll_fn(|context| {
                if timer.expired() {
                    timer.disarm();
                    return Poll::Ready(Err(ClientGone));
                }
                match stream.poll_capacity(context) {
                    Poll::Ready(Some(Ok(capacity))) => {
                        timer.disarm();
                        Poll::Ready(Ok(capacity))
                    }
                    Poll::Ready(_) => Poll::Ready(Err(ClientGone)),
                    Poll::Pending => {
                        timer.arm(context, worker.settings.send_timeout);
                        Poll::Pending
                    }
                }
            })
            .await?;
        }
        let piece = data.split_to(capacity.min(data.len()));
        let last = end && data.is_empty();
        stream.send_data(piece, last).map_err(|_| ClientGone)?;
        if last {
            return Ok(());
        }
    }
    if end {
        stream.send_data(Bytes::new(), true).map_err(|_| ClientGone)?;
    }
    Ok(())
}

/// The head as the `h2` crate wants it, without lines that HTTP/2 forbids (RFC 9113 section 8.2.2).
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
