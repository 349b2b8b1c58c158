//! A bare reverse proxy on one thread: what the wire costs without a gateway around it.
//!
//! `PORT` and `UPSTREAM` (`127.0.0.1:9000`) in the environment; `TLS=1` for TLS with a certificate of its own, `H2=1` for
//! HTTP/2. It adds the header lines that a gateway of Kong's kind adds.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_wire::headers::Known;
use portcullis_wire::listener::{Entrance, accept, open, parse_listens};
use portcullis_wire::tls::{Certificates, CertifiedKey, ServerTls, ServerTlsOptions, Shown, self_signed_default};
use portcullis_wire::{
    Downstream, Framing, Moments, Peer, PoolSettings, Pools, Refusal, RequestBody, RequestHead, ResponseHead, Service, Settings, Target,
    Timeouts, UpstreamErrorKind, Worker,
};

const REQUEST_ID: &[u8] = b"0123456789abcdef0123456789abcdef";

struct Bare {
    pools: Rc<Pools>,
    upstream: SocketAddr,
    host: String,
}

impl Service for Bare {
    async fn serve(&self, request: &mut RequestHead, down: &mut Downstream) {
        let worker = down.worker().clone();
        let started = worker.clock().now();
        let mut head = worker.take_vector();
        self.write_head(request, down.peer(), &mut head);
        let body = if request.framing == Framing::None { RequestBody::Empty } else { RequestBody::Stream };
        let target = Target { address: self.upstream, tls: None };
        let minute = Duration::from_secs(60);
        let timeouts = Timeouts { connect: minute, write: minute, read: minute };
        let idempotent = request.method.may_be_retried(request.method_text());
        let mut moments = Moments::default();
        let sent = self.pools.send(&target, "", &head, body, idempotent, request, down, &timeouts, &mut moments).await;
        worker.give_vector(head);
        match sent {
            Ok((mut response, up)) if response.status == 101 => {
                let _ = down.tunnel(&mut response, up).await;
            }
            Ok((mut response, up)) => {
                let mut digits = [0u8; 20];
                let waited = milliseconds(moments.connected, moments.first_byte);
                response.headers.append("X-Kong-Upstream-Latency", decimal(waited, &mut digits));
                let own = milliseconds(Some(started), moments.connected);
                response.headers.append("X-Kong-Proxy-Latency", decimal(own, &mut digits));
                response.headers.append("Via", b"1.1 kong/3.9.3");
                response.headers.append("X-Kong-Request-Id", REQUEST_ID);
                let _ = down.relay(&mut response, up, None).await;
                worker.give_response(response);
            }
            Err(error) => {
                let status = if matches!(error.kind, UpstreamErrorKind::ClientBody(_)) { 400 } else { 502 };
                let _ = down.respond(&mut ResponseHead::new(status), b"").await;
            }
        }
    }

    fn refuse(&self, refusal: &Refusal, _: &RequestHead, _: &Peer) -> (ResponseHead, Vec<u8>) {
        (ResponseHead::new(if refusal.status == 494 { 400 } else { refusal.status }), refusal.reason.into())
    }
}

fn milliseconds(from: Option<Instant>, to: Option<Instant>) -> u64 {
    from.zip(to).map_or(0, |(from, to)| to.saturating_duration_since(from).as_millis() as u64)
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

impl Bare {
    fn write_head(&self, request: &RequestHead, peer: &Peer, out: &mut Vec<u8>) {
        for part in [request.method_text(), b" ", request.target(), b" HTTP/1.1\r\nHost: ", self.host.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        let (mut forwarded, mut host) = (None, None);
        for line in request.headers.lines() {
            match line.known {
                Known::XForwardedFor => forwarded = Some(request.headers.value(line)),
                Known::Host => host = Some(request.headers.value(line)),
                _ => {}
            }
        }
        request.headers.write_to(out, |line| {
            !matches!(
                line.known,
                Known::Host
                    | Known::Connection
                    | Known::KeepAlive
                    | Known::ProxyConnection
                    | Known::Expect
                    | Known::Te
                    | Known::Upgrade
                    | Known::XForwardedFor
                    | Known::XForwardedProto
                    | Known::XForwardedHost
                    | Known::XRealIp
                    | Known::XKongRequestId
                    | Known::TransferEncoding
            )
        });
        if request.framing == Framing::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        let connection: &[u8] =
            if request.upgrade { b"Connection: upgrade\r\nUpgrade: websocket\r\n" } else { b"Connection: keep-alive\r\n" };
        let scheme: &[u8] = if peer.tls.is_some() { b"https" } else { b"http" };
        for part in [connection, b"X-Real-IP: ", &peer.address_text, b"\r\nX-Forwarded-For: "] {
            out.extend_from_slice(part);
        }
        if let Some(forwarded) = forwarded {
            out.extend_from_slice(forwarded);
            out.extend_from_slice(b", ");
        }
        for part in [
            &peer.address_text,
            b"\r\nX-Forwarded-Proto: ".as_slice(),
            scheme,
            b"\r\nX-Forwarded-Host: ",
            host.unwrap_or_default(),
            b"\r\nX-Forwarded-Port: ",
            &peer.local_port_text,
            b"\r\nVia: 1.1 kong/3.9.3\r\nX-Kong-Request-Id: ",
            REQUEST_ID,
            b"\r\n\r\n",
        ] {
            out.extend_from_slice(part);
        }
    }
}

struct Own(Arc<CertifiedKey>);

impl Certificates for Own {
    fn find(&self, _: Option<&str>) -> Option<Shown> {
        Some(self.0.clone().into())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let upstream: SocketAddr = variable("UPSTREAM", "127.0.0.1:9000").parse()?;
    let set = |name: &str| std::env::var_os(name).is_some();
    let flags = format!("{} {}", if set("TLS") { "ssl" } else { "" }, if set("H2") { "http2" } else { "" });
    let listens = parse_listens("listen", &format!("127.0.0.1:{} {flags}", variable("PORT", "8000")))?;
    let tls = if set("TLS") {
        let key = self_signed_default(&std::env::temp_dir().join("portcullis-bare"), "bare")?;
        Some(ServerTls::new(Arc::new(Own(key)), &ServerTlsOptions { http2: set("H2"), ..ServerTlsOptions::default() })?)
    } else {
        None
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async {
        let worker = Worker::new(Settings { keepalive_requests: u64::MAX, ..Settings::default() });
        worker.start();
        let pools = Pools::new(&worker, PoolSettings { max_requests: u32::MAX, ..PoolSettings::default() });
        let service = Rc::new(Bare { pools, upstream, host: upstream.to_string() });
        accept(open(&listens[0])?, Entrance::new(0, &listens[0], tls.as_ref()), service, worker).await
    })?;
    Ok(())
}
