//! Active health checks: one request to one peer, now and then.

use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use portcullis_entities::upstreams::{ActiveChecks, CheckType, Upstream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::peer::{Outcome, Peer};
use super::registry::Registry;
use super::{Balancer, Live};

/// The status line must stand within so many bytes.
const LONGEST_STATUS_LINE: usize = 1024;

/// How probes speak TLS.
#[derive(Clone)]
pub struct ProbeTls {
    /// Checks the peer's certificate.
    pub verifying: Arc<ClientConfig>,
    /// Takes any certificate.
    pub trusting: Arc<ClientConfig>,
}

/// Starts the probes of a balancer that are due, as many at a time as its upstream allows.
pub(super) fn start_due(registry: &Arc<Registry>, balancer: &Arc<Balancer>) {
    let live = balancer.live.load_full();
    let Some(probing) = &live.config.active else { return };
    let now = registry.begun.elapsed().as_millis() as u64;
    for place in &live.ring.places {
        let every = if place.peer.is_healthy() { probing.every_when_healthy } else { probing.every_when_unhealthy };
        let Some(every) = every else { continue };
        if now < place.peer.next_probe.load(Relaxed) {
            continue;
        }
        if balancer.probes.load(Relaxed) >= probing.concurrency {
            return;
        }
        place.peer.next_probe.store(now + every.as_millis() as u64, Relaxed);
        balancer.probes.fetch_add(1, Relaxed);
        let (live, peer, balancer, tls) = (live.clone(), place.peer.clone(), balancer.clone(), registry.tls.clone());
        tokio::spawn(async move {
            let outcome = probe(&live.config.upstream, &peer, tls.as_ref()).await;
            balancer.probes.fetch_sub(1, Relaxed);
            take(&balancer, &live, &peer, outcome);
        });
    }
}

fn take(balancer: &Balancer, live: &Live, peer: &Peer, outcome: Outcome) {
    let Some(probing) = &live.config.active else { return };
    if peer.count(outcome, &probing.limits) {
        balancer.health_changed(peer);
    }
}

async fn probe(upstream: &Upstream, peer: &Peer, tls: Option<&ProbeTls>) -> Outcome {
    let active = &upstream.healthchecks.active;
    let limit = Duration::try_from_secs_f64(active.timeout.unwrap_or(1.0)).unwrap_or(Duration::from_secs(1));
    match tokio::time::timeout(limit, ask(upstream, active, peer, tls)).await {
        Ok(Ok(Some(status))) => Outcome::Status(status),
        Ok(Ok(None)) => Outcome::Garbled,
        Ok(Err(error)) => {
            tracing::debug!(%error, address = %peer.address(), "probe failed");
            Outcome::ConnectFailed
        }
        Err(_) => Outcome::TimedOut,
    }
}

/// The status of the peer's answer, none if that is not HTTP. A probe that only has to connect counts as 200.
async fn ask(upstream: &Upstream, active: &ActiveChecks, peer: &Peer, tls: Option<&ProbeTls>) -> io::Result<Option<u16>> {
    let stream = TcpStream::connect(peer.address()).await?;
    let secure = match active.r#type.unwrap_or_default() {
        CheckType::Http => false,
        CheckType::Https => true,
        CheckType::Tcp | CheckType::Grpc | CheckType::Grpcs => return Ok(Some(200)),
    };
    let host = upstream.host_header.as_deref().unwrap_or(peer.host());
    let request = request(active, host);
    if !secure {
        return exchange(stream, &request).await;
    }
    let tls = tls.ok_or_else(|| io::Error::other("no TLS configuration for probes"))?;
    let config = if active.https_verify_certificate { &tls.verifying } else { &tls.trusting };
    let name = active.https_sni.as_deref().unwrap_or(host).trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
    exchange(stream, &request).await
}

fn request(active: &ActiveChecks, host: &str) -> String {
    let mut request = format!("GET {} HTTP/1.0\r\n", active.http_path.as_deref().unwrap_or("/"));
    for (name, values) in active.headers.iter().flatten() {
        for value in values {
            let _ = write!(request, "{name}: {value}\r\n");
        }
    }
    let _ = write!(request, "Host: {host}\r\n\r\n");
    request
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> io::Result<Option<u16>> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut line = Vec::with_capacity(256);
    while !line.contains(&b'\n') && line.len() < LONGEST_STATUS_LINE {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if !line.starts_with(b"HTTP/") {
        return Ok(None);
    }
    let status = line.split(|byte| *byte == b' ').nth(1).and_then(|word| std::str::from_utf8(word).ok());
    Ok(status.and_then(|word| word.get(..3)?.parse().ok()))
}
