//! The Admin and Status APIs on their listeners, served on the control runtime.

mod api_log;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use portcullis_wire::listener::{Listen, Socket, accept_pause, open};
use portcullis_wire::tls::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::warn;

use api_log::ApiCall;
pub use api_log::ApiLog;

/// Connections an API serves at once; others wait in the kernel's queue.
const CONNECTIONS: usize = 1024;

/// What an API answers with, and where it tells of it.
#[derive(Clone)]
pub struct Api {
    pub router: Router,
    pub log: Option<Arc<ApiLog>>,
}

/// Opens the listeners of an API and serves it until the set is dropped.
///
/// Errors with one line naming the key when an address cannot be had.
pub fn serve(tasks: &mut JoinSet<()>, key: &str, listens: &[Listen], tls: Option<&ServerTls>, api: &Api) -> Result<(), String> {
    for listen in listens {
        let failed = |error: std::io::Error| format!("{key}: bind() to {:?} failed ({error})", listen.address);
        let tls = tls.filter(|_| listen.ssl).cloned();
        match open(listen).map_err(failed)? {
            Socket::Tcp(listener) => {
                let listener = TcpListener::from_std(listener).map_err(failed)?;
                tasks.spawn(accept_tcp(listener, tls, api.clone()));
            }
            Socket::Udp(_) => return Err(format!("{key}: datagrams carry no HTTP/1.1")),
            Socket::Unix(listener) => {
                let listener = UnixListener::from_std(listener).map_err(failed)?;
                tasks.spawn(accept_unix(listener, api.clone()));
            }
        }
    }
    Ok(())
}

async fn accept_tcp(listener: TcpListener, tls: Option<ServerTls>, api: Api) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut failures = 0;
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, client)) => {
                failures = 0;
                let _ = stream.set_nodelay(true);
                let (tls, api) = (tls.clone(), api.clone());
                connections.spawn(async move {
                    let _place = place;
                    match tls {
                        None => speak(stream, api, Some(client)).await,
                        Some(tls) => {
                            // A failed handshake is the client's affair.
                            if let Ok(stream) = tls.acceptor().accept(stream).await {
                                speak(stream, api, Some(client)).await;
                            }
                        }
                    }
                });
            }
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                if let Some(pause) = accept_pause(&error, failures) {
                    failures += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

async fn accept_unix(listener: UnixListener, api: Api) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let api = api.clone();
                connections.spawn(async move {
                    let _place = place;
                    speak(stream, api, None).await;
                });
            }
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, api: Api, client: Option<SocketAddr>) {
    // Header names keep their case: scripts that grep for `X-Kong-Admin-Latency` find it.
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().title_case_headers(true);
    let service = TowerToHyperService::new(api.router);
    let logged = service_fn(move |request: Request<Incoming>| {
        let (service, log) = (service.clone(), api.log.clone());
        async move {
            let Some(log) = log else { return service.call(request).await };
            let call = ApiCall::of(&request, client);
            let response = service.call(request).await;
            if let Ok(response) = &response {
                log.write(&call, response);
            }
            response
        }
    });
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), logged).await {
        tracing::debug!(%error, "API connection ended");
    }
}
