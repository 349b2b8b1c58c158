//! `ngx.socket.tcp`: connections that code opens, on the worker's own runtime.
//!
//! Each operation takes the connection out of its socket, works on it while the code waits, and puts it back. Idle connections
//! are kept by address in the thread, a bounded number of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mlua::{IntoLuaMulti, Lua, LuaString, Table, UserData, UserDataRef, Value};
use portcullis_wire::tls::UpstreamConfigs;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::moment::with;
use crate::run::Made;

/// Idle connections kept for one address.
const IDLE: usize = 32;
/// The most that one receive gathers, in bytes.
const RECEIVED: usize = 64 << 20;
/// Where systems keep the certificates they trust.
const SYSTEM_ROOTS: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

struct Connection {
    stream: Box<dyn Stream>,
    /// What has been read and not been asked for yet.
    ahead: Vec<u8>,
    /// Times it was taken from the idle ones.
    reused: u32,
}

struct Idle {
    connection: Connection,
    until: Instant,
}

thread_local! {
    static IDLE_BY_KEY: RefCell<HashMap<String, Vec<Idle>>> = RefCell::default();
}

#[derive(Default)]
struct Inner {
    connection: RefCell<Option<Connection>>,
    key: RefCell<String>,
    timeouts: RefCell<[Option<Duration>; 3]>,
}

/// A socket as Lua holds it.
#[derive(Clone, Default)]
struct Socket(Rc<Inner>);

impl UserData for Socket {}

impl Socket {
    fn timeout(&self, which: usize) -> Duration {
        self.0.timeouts.borrow()[which].unwrap_or(Duration::from_secs(60))
    }
}

/// Which of a socket's timeouts.
const CONNECT: usize = 0;
const SEND: usize = 1;
const READ: usize = 2;

type Outcome = Result<Given, String>;

/// What an operation gives.
enum Given {
    Done,
    Bytes(Vec<u8>),
    /// An error that comes with what was received before it.
    Partial(String, Vec<u8>),
}

/// Makes the running code wait for an operation.
fn wait(operation: impl Future<Output = Outcome> + 'static) -> mlua::Result<()> {
    with(|moment| {
        *moment.run.pending.borrow_mut() = Some(Box::pin(async move {
            let outcome = operation.await;
            Box::new(move |lua: &Lua| match outcome {
                Ok(Given::Done) => 1.into_lua_multi(lua),
                Ok(Given::Bytes(bytes)) => lua.create_string(bytes)?.into_lua_multi(lua),
                Ok(Given::Partial(problem, bytes)) => (Value::Nil, problem, lua.create_string(bytes)?).into_lua_multi(lua),
                Err(problem) => (Value::Nil, problem).into_lua_multi(lua),
            }) as Made
        }));
        Ok(())
    })
}

async fn within<T>(limit: Duration, operation: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(limit, operation).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(told(&error)),
        Err(_) => Err("timeout".to_owned()),
    }
}

/// An error in nginx' words.
fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => "closed".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}

pub fn add(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set("socket", lua.create_function(|_, ()| Ok(Socket::default()))?)?;
    native.set(
        "socket_timeouts",
        lua.create_function(|_, (socket, connect, send, read): (UserDataRef<Socket>, Option<f64>, Option<f64>, Option<f64>)| {
            let length = |ms: Option<f64>| ms.map(|ms| super::length(ms / 1000.0, 0.001, super::DAY));
            *socket.0.timeouts.borrow_mut() = [length(connect), length(send), length(read)];
            Ok(())
        })?,
    )?;
    native.set(
        "socket_connect",
        lua.create_function(|_, (socket, host, port, key): (UserDataRef<Socket>, String, u16, Option<String>)| {
            let socket = socket.clone();
            let key = key.unwrap_or_else(|| format!("{host}:{port}"));
            wait(connect(socket, host, port, key))
        })?,
    )?;
    native.set(
        "socket_handshake",
        lua.create_function(|_, (socket, name, verify): (UserDataRef<Socket>, String, bool)| {
            wait(handshake(socket.clone(), name, verify))
        })?,
    )?;
    native.set(
        "socket_send",
        lua.create_function(|_, (socket, bytes): (UserDataRef<Socket>, LuaString)| {
            let (socket, bytes) = (socket.clone(), bytes.as_bytes().to_vec());
            wait(async move {
                let limit = socket.timeout(SEND);
                let Some(mut connection) = socket.0.connection.take() else { return Err("closed".to_owned()) };
                within(limit, async {
                    connection.stream.write_all(&bytes).await?;
                    connection.stream.flush().await
                })
                .await?;
                *socket.0.connection.borrow_mut() = Some(connection);
                Ok(Given::Done)
            })
        })?,
    )?;
    native.set(
        "socket_receive",
        lua.create_function(|_, (socket, wanted): (UserDataRef<Socket>, Value)| {
            let wanted = match wanted {
                Value::Integer(count) => Wanted::Count(count.max(0) as usize),
                Value::Number(count) => Wanted::Count(count.max(0.0) as usize),
                Value::String(text) if text.as_bytes().starts_with(b"*a") => Wanted::All,
                _ => Wanted::Line,
            };
            wait(receive(socket.clone(), wanted))
        })?,
    )?;
    native.set(
        "socket_keep",
        lua.create_function(|_, (socket, idle_ms): (UserDataRef<Socket>, Option<f64>)| {
            let Some(mut connection) = socket.0.connection.take() else { return Ok(false) };
            if !connection.ahead.is_empty() {
                return Ok(false);
            }
            connection.reused += 1;
            let until = Instant::now() + super::length(idle_ms.unwrap_or(60_000.0) / 1000.0, 0.001, super::DAY);
            IDLE_BY_KEY.with_borrow_mut(|idle| {
                let list = idle.entry(socket.0.key.borrow().clone()).or_default();
                if list.len() >= IDLE {
                    list.remove(0);
                }
                list.push(Idle { connection, until });
            });
            Ok(true)
        })?,
    )?;
    native.set("socket_close", lua.create_function(|_, socket: UserDataRef<Socket>| Ok(socket.0.connection.take().is_some()))?)?;
    native.set(
        "socket_reused",
        lua.create_function(|_, socket: UserDataRef<Socket>| {
            Ok(socket.0.connection.borrow().as_ref().map_or(0, |connection| connection.reused))
        })?,
    )
}

async fn connect(socket: Socket, host: String, port: u16, key: String) -> Outcome {
    *socket.0.key.borrow_mut() = key.clone();
    let idle = IDLE_BY_KEY.with_borrow_mut(|idle| {
        let list = idle.get_mut(&key)?;
        list.retain(|idle| idle.until > Instant::now());
        list.pop()
    });
    if let Some(Idle { connection, .. }) = idle {
        *socket.0.connection.borrow_mut() = Some(connection);
        return Ok(Given::Done);
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = within(socket.timeout(CONNECT), TcpStream::connect((host.as_str(), port))).await?;
    // Small messages go at once: code writes requests in pieces.
    let _ = stream.set_nodelay(true);
    *socket.0.connection.borrow_mut() = Some(Connection { stream: Box::new(stream), ahead: Vec::new(), reused: 0 });
    Ok(Given::Done)
}

/// Client configurations for connections of code, with the system's certificates.
fn configs() -> &'static (UpstreamConfigs, Vec<Arc<str>>) {
    static CONFIGS: OnceLock<(UpstreamConfigs, Vec<Arc<str>>)> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let roots = SYSTEM_ROOTS.iter().find_map(|path| std::fs::read_to_string(path).ok());
        (UpstreamConfigs::new(), roots.into_iter().map(Arc::from).collect())
    })
}

async fn handshake(socket: Socket, name: String, verify: bool) -> Outcome {
    let limit = socket.timeout(CONNECT);
    let Some(connection) = socket.0.connection.take() else { return Err("closed".to_owned()) };
    if connection.reused > 0 {
        *socket.0.connection.borrow_mut() = Some(connection);
        return Ok(Given::Done);
    }
    let (configs, roots) = configs();
    let tls = configs.for_service(verify, None, if verify { roots } else { &[] }, None);
    let shaken = async move {
        let name = ServerName::try_from(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        TlsConnector::from(tls.config.clone()).connect(name, connection.stream).await
    };
    let stream: Box<dyn Stream> = Box::new(within(limit, shaken).await?);
    *socket.0.connection.borrow_mut() = Some(Connection { stream, ahead: Vec::new(), reused: 0 });
    Ok(Given::Done)
}

#[derive(Clone, Copy)]
enum Wanted {
    Line,
    All,
    Count(usize),
}

async fn receive(socket: Socket, wanted: Wanted) -> Outcome {
    let limit = socket.timeout(READ);
    let Some(mut connection) = socket.0.connection.take() else { return Err("closed".to_owned()) };
    loop {
        let taken = match wanted {
            Wanted::Count(count) if connection.ahead.len() >= count => Some((count, count)),
            Wanted::Line => connection.ahead.iter().position(|byte| *byte == b'\n').map(|at| (at, at + 1)),
            _ => None,
        };
        if let Some((length, skipped)) = taken {
            let rest = connection.ahead.split_off(skipped);
            let mut bytes = std::mem::replace(&mut connection.ahead, rest);
            bytes.truncate(length);
            if matches!(wanted, Wanted::Line) {
                bytes.retain(|byte| *byte != b'\r');
            }
            *socket.0.connection.borrow_mut() = Some(connection);
            return Ok(Given::Bytes(bytes));
        }
        if connection.ahead.len() > RECEIVED {
            return Err("too much received".to_owned());
        }
        let mut piece = [0u8; 16 * 1024];
        match within(limit, connection.stream.read(&mut piece)).await {
            Ok(0) if matches!(wanted, Wanted::All) => return Ok(Given::Bytes(connection.ahead)),
            Ok(0) => return Ok(Given::Partial("closed".to_owned(), connection.ahead)),
            Ok(count) => connection.ahead.extend_from_slice(&piece[..count]),
            Err(problem) if problem == "timeout" => {
                let partial = std::mem::take(&mut connection.ahead);
                *socket.0.connection.borrow_mut() = Some(connection);
                return Ok(Given::Partial(problem, partial));
            }
            Err(problem) => return Err(problem),
        }
    }
}
