//! What a connection may begin with: a PROXY header, TLS, plain text where TLS was meant; and unix sockets.

use crate::support::{Build, Client, run};
use crate::upstreams::tempfile_directory;
use portcullis_wire::tls::{Certificates, CertifiedKey, ServerTls, ServerTlsOptions, Shown, self_signed_default};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::net::TcpStream;

const GET: &str = "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";

struct ByName {
    default: Arc<CertifiedKey>,
    special: Arc<CertifiedKey>,
}

impl Certificates for ByName {
    fn find(&self, sni: Option<&str>) -> Option<Shown> {
        Some(if sni == Some("special.test") { self.special.clone().into() } else { self.default.clone().into() })
    }
}

pub fn server_tls(name: &str, http2: bool) -> (ServerTls, [Vec<u8>; 2]) {
    let directory = tempfile_directory(name);
    let default = self_signed_default(&directory, "default").unwrap();
    let special = self_signed_default(&directory, "special").unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    let ends = [default.cert[0].to_vec(), special.cert[0].to_vec()];
    let options = ServerTlsOptions { http2, ..ServerTlsOptions::default() };
    (ServerTls::new(Arc::new(ByName { default, special }), &options).unwrap(), ends)
}

/// Connects with TLS; the certificate shown is anybody's.
pub async fn connect_tls(address: std::net::SocketAddr, name: &str, protocols: &[&[u8]]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let configs = portcullis_wire::tls::UpstreamConfigs::new();
    let mut config = (*configs.for_service(false, None, &[], None).config).clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await.unwrap()
}

#[test]
fn tls_clients_get_the_certificate_of_their_name() {
    run(|| async {
        let (tls, [default, special]) = server_tls("sni", false);
        let gate = Build { listen: "127.0.0.1:0 ssl".to_owned(), tls: Some(tls), ..Build::default() }.start().await;
        for (name, certificate) in [("other.test", &default), ("SPECIAL.test", &special)] {
            let stream = connect_tls(gate.address, name, &[b"http/1.1"]).await;
            assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0].as_ref(), certificate.as_slice());
            let mut client = Client::new(stream);
            for length in [3usize, 100_000] {
                client.send(format!("GET /{length} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
                assert_eq!(client.answer().await.body.len(), length);
            }
        }
        let peers = gate.service.peers.borrow();
        let peer = peers.last().unwrap();
        let facts = peer.tls.as_ref().unwrap();
        assert_eq!((facts.sni.as_deref(), facts.version), (Some("special.test"), "TLSv1.3"));
    });
}

#[test]
fn a_tls_client_that_goes_away_is_noticed() {
    run(|| async {
        let (tls, _) = server_tls("gone", false);
        let gate = Build { listen: "127.0.0.1:0 ssl".to_owned(), tls: Some(tls), ..Build::default() }.start().await;
        let mut client = Client::new(connect_tls(gate.address, "a.test", &[]).await);
        client.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
        gate.upstream.until(|upstream| upstream.requests.get() == 1).await;
        drop(client);
        gate.service.outcome("client gone").await;
    });
}

#[test]
fn plain_http_on_a_tls_port_is_told_so() {
    run(|| async {
        let (tls, _) = server_tls("plain", true);
        let gate = Build { listen: "127.0.0.1:0 ssl http2".to_owned(), tls: Some(tls), ..Build::default() }.start().await;
        let answer = gate.ask(GET).await;
        assert_eq!((answer.status, answer.text().as_str()), (497, "plain HTTP request to a TLS port"));
        assert_eq!(answer.header("connection"), Some("close"));
    });
}

#[test]
fn proxy_headers_name_the_client() {
    run(|| async {
        let gate = Build { listen: "127.0.0.1:0 proxy_protocol".to_owned(), ..Build::default() }.start().await;
        let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x04\x57\0\x50".to_vec();
        binary.extend_from_slice(GET.as_bytes());
        let text = format!("PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\r\n{GET}{GET}");
        for (bytes, answers) in [(binary, 1), (text.into_bytes(), 2)] {
            let mut client = gate.client().await;
            client.send(bytes).await;
            for _ in 0..answers {
                assert_eq!(client.answer().await.status, 200);
            }
            let peers = gate.service.peers.borrow();
            let peer = peers.last().unwrap();
            assert_eq!(peer.address, Some("1.2.3.4:1111".parse().unwrap()));
            assert_eq!((&*peer.address_text, &*peer.local_port_text), (b"1.2.3.4".as_slice(), b"80".as_slice()));
            assert_eq!(peer.proxy_protocol.unwrap().local, Some(gate.address));
        }
        let mut client = gate.client().await;
        client.send(GET).await;
        assert!(client.is_closed().await, "a connection without the header is closed");
    });
}

#[test]
fn unix_sockets_are_served() {
    run(|| async {
        let directory = tempfile_directory("unix");
        let path = directory.join("gate.sock");
        let gate = Build { listen: format!("unix:{}", path.display()), ..Build::default() }.start().await;
        let mut client = Client::new(tokio::net::UnixStream::connect(&path).await.unwrap());
        client.send(GET).await;
        assert_eq!(client.answer().await.body.len(), 3);
        let peers = gate.service.peers.borrow();
        assert_eq!((peers[0].address, &*peers[0].address_text), (None, b"unix:".as_slice()));
        std::fs::remove_dir_all(directory).unwrap();
    });
}
