#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::*;

/// A name server that answers from a fixed zone and counts what it is asked.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(zone: &'static [(&'static str, u32, Zone)]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: socket.local_addr().unwrap(), asked: Arc::default() };
        let asked = server.asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                asked.fetch_add(1, Ordering::SeqCst);
                let reply = reply(&Message::from_vec(&buffer[..length]).unwrap(), zone);
                socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        server
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn dns(&self) -> Arc<Dns> {
        self.dns_with(|_| {})
    }

    fn dns_with(&self, change: impl FnOnce(&mut Settings)) -> Arc<Dns> {
        let mut settings = Settings { resolvers: vec![self.address], ..Settings::default() };
        change(&mut settings);
        Dns::new(settings, Handle::current()).unwrap()
    }
}

#[derive(Clone, Copy)]
enum Zone {
    A(u8),
    /// Priority, weight, port, target.
    Srv(u16, u16, u16, &'static str),
    Cname(&'static str),
    Fails,
}

fn reply(question: &Message, zone: &[(&str, u32, Zone)]) -> Message {
    let query = question.queries[0].clone();
    let name = query.name().to_string();
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    let of_name: Vec<_> = zone.iter().filter(|(owner, ..)| *owner == name).collect();
    if of_name.is_empty() {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
    for (_, ttl, data) in of_name {
        let (kind, data) = match *data {
            Zone::A(last) => (RecordType::A, RData::A(A(Ipv4Addr::new(10, 0, 0, last)))),
            Zone::Srv(priority, weight, port, target) => {
                (RecordType::SRV, RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(target).unwrap())))
            }
            Zone::Cname(target) => (RecordType::CNAME, RData::CNAME(CNAME(Name::from_ascii(target).unwrap()))),
            Zone::Fails => {
                reply.metadata.response_code = ResponseCode::ServFail;
                continue;
            }
        };
        if kind == query.query_type() {
            reply.add_answer(Record::from_rdata(query.name().clone(), *ttl, data));
        }
    }
    reply.add_query(query);
    reply
}

fn addresses(known: &Known) -> Vec<(IpAddr, Option<u16>, u16)> {
    let mut list: Vec<_> = known.as_ref().unwrap().addresses.iter().map(|address| (address.ip, address.port, address.weight)).collect();
    list.sort();
    list
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

#[tokio::test]
async fn literal_addresses_never_reach_a_server() {
    let server = Server::start(&[]).await;
    let dns = server.dns();
    assert_eq!(dns.cached("10.0.0.7").unwrap().unwrap().addresses[0].ip, ip(7));
    assert_eq!(dns.resolve("[::1]").await.unwrap().addresses[0].ip, IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
    assert_eq!(dns.resolve("localhost").await.unwrap().addresses[0].ip, IpAddr::from([127, 0, 0, 1]));
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn an_answer_is_kept_for_its_ttl() {
    let server = Server::start(&[("two.test.", 60, Zone::A(1)), ("two.test.", 50, Zone::A(2))]).await;
    let dns = server.dns_with(|settings| settings.order = vec![Kind::A]);
    assert!(dns.cached("two.test").is_none());
    let known = dns.resolve("two.test").await;
    assert_eq!(addresses(&known), [(ip(1), None, 1), (ip(2), None, 1)]);
    assert_eq!((known.as_ref().unwrap().kind, known.as_ref().unwrap().ttl), (Kind::A, Duration::from_secs(50)));
    assert_eq!(dns.cached("two.test"), Some(known));
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn srv_records_of_the_highest_priority_bring_ports_and_weights() {
    let server = Server::start(&[
        ("srv.test.", 60, Zone::Srv(1, 30, 8001, "one.test.")),
        ("srv.test.", 60, Zone::Srv(1, 0, 0, "two.test.")),
        ("srv.test.", 60, Zone::Srv(5, 99, 8003, "three.test.")),
        ("one.test.", 60, Zone::A(1)),
        ("two.test.", 60, Zone::A(2)),
    ])
    .await;
    let known = server.dns().resolve("srv.test").await;
    assert_eq!(addresses(&known), [(ip(1), Some(8001), 30), (ip(2), None, 1)]);
    assert_eq!(known.unwrap().kind, Kind::Srv);
}

#[tokio::test]
async fn a_cname_is_followed() {
    let server = Server::start(&[("alias.test.", 60, Zone::Cname("one.test.")), ("one.test.", 60, Zone::A(1))]).await;
    assert_eq!(addresses(&server.dns().resolve("alias.test").await), [(ip(1), None, 1)]);
}

#[tokio::test]
async fn an_unknown_name_is_503_and_a_failing_server_500() {
    let server = Server::start(&[("fails.test.", 60, Zone::Fails)]).await;
    let dns = server.dns();
    let unknown = dns.resolve("unknown.test").await.unwrap_err();
    assert_eq!(unknown.answer(), (503, "name resolution failed"));
    assert_eq!(dns.cached("unknown.test"), Some(Err(unknown)));
    let failing = dns.resolve("fails.test").await.unwrap_err();
    assert_eq!(failing.answer(), (500, "dns server error: 2 server failure"));
}

#[tokio::test]
async fn all_who_ask_for_one_name_wait_for_the_same_query() {
    let server = Server::start(&[("one.test.", 60, Zone::A(1))]).await;
    let dns = server.dns_with(|settings| settings.order = vec![Kind::A]);
    let (first, second, third) = tokio::join!(dns.resolve("one.test"), dns.resolve("one.test"), dns.resolve("one.test"));
    assert!(first.is_ok() && first == second && second == third);
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_stale_answer_is_given_while_it_is_refreshed() {
    let server = Server::start(&[("brief.test.", 0, Zone::A(1))]).await;
    let dns = server.dns();
    dns.resolve("brief.test").await.unwrap();
    let before = server.asked();
    assert!(dns.cached("brief.test").unwrap().is_ok());
    while server.asked() == before {
        tokio::task::yield_now().await;
    }
    assert!(dns.cached("brief.test").unwrap().is_ok());
}

#[tokio::test]
async fn nothing_stale_is_given_when_that_is_not_wanted() {
    let server = Server::start(&[("brief.test.", 0, Zone::A(1))]).await;
    let dns = server.dns_with(|settings| settings.stale_ttl = Duration::ZERO);
    dns.resolve("brief.test").await.unwrap();
    assert!(dns.cached("brief.test").is_none());
}

#[tokio::test]
async fn the_cache_stays_within_its_bound() {
    let server = Server::start(&[]).await;
    let dns = server.dns_with(|settings| settings.cache_size = 64);
    for number in 0..2000 {
        let answer = Answer::new(Kind::A, vec![Address { ip: ip(1), port: None, weight: 1 }], Duration::from_secs(60));
        dns.store(&format!("n{number}.test"), Ok(answer), None);
    }
    let kept = (0..2000).filter(|number| dns.cached(&format!("n{number}.test")).is_some()).count();
    assert!(kept <= 256 && kept > 0, "{kept}");
}

#[test]
fn turns_go_round_equal_addresses_and_follow_unequal_weights() {
    let address = |last, weight| Address { ip: ip(last), port: None, weight };
    let equal = Answer::new(Kind::A, vec![address(1, 1), address(2, 1)], Duration::ZERO);
    assert_eq!([0, 1, 2].map(|turn| equal.pick(turn).ip), [ip(1), ip(2), ip(1)]);
    let unequal = Answer::new(Kind::Srv, vec![address(1, 1), address(2, 9)], Duration::ZERO);
    let heavy = (0..1000).filter(|turn| unequal.pick(*turn).ip == ip(2)).count();
    assert!((850..=950).contains(&heavy), "{heavy}");
}
