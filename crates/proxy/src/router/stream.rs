//! Routes of TCP and UDP connections: by where a connection comes from, where it was made to, and its server name.
//!
//! [`Router::find_stream`](super::Router::find_stream) is pure. Such routes are few, so they are tried in order.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use portcullis_entities::routes::Address;
use portcullis_wire::Headers;
use uuid::Uuid;

use super::condition::{Asked, Notes};
use super::order;
use super::route::{HostPort, InvalidRoute, Route};
use super::{Client, Query, Router};

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, with TLS on it or without.
    Tcp,
    Udp,
}

/// What a stream connection is matched by.
#[derive(Clone, Copy, Debug)]
pub struct StreamQuery<'a> {
    pub transport: Transport,
    /// The client, or what the PROXY header said.
    pub source: SocketAddr,
    /// Our own address on the connection, or what the PROXY header said.
    pub destination: SocketAddr,
    /// The server name of the TLS handshake, in lower case; none without TLS or without a name.
    pub sni: Option<&'a str>,
}

/// One end of a connection as a route wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    net: Option<IpNet>,
    /// The network was written as such, and not as one address.
    is_net: bool,
    port: Option<u16>,
}

impl Ends {
    pub(super) fn all_of(addresses: Option<&[Address]>) -> Result<Box<[Self]>, InvalidRoute> {
        addresses.unwrap_or_default().iter().map(Self::of).collect()
    }

    fn of(address: &Address) -> Result<Self, InvalidRoute> {
        let Some(text) = &address.ip else { return Ok(Self { net: None, is_net: false, port: address.port }) };
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net = net.map_err(|_| InvalidRoute::Address(text.clone()))?;
        Ok(Self { net: Some(net.trunc()), is_net: text.contains('/'), port: address.port })
    }

    fn takes(&self, end: SocketAddr) -> bool {
        self.net.is_none_or(|net| net.contains(&end.ip().to_canonical())) && self.port.is_none_or(|port| port == end.port())
    }

    /// An address goes before a port, a port before a network.
    fn weight(&self) -> u64 {
        let address = match (self.net.is_some(), self.is_net) {
            (true, false) => 8,
            (true, true) => 1,
            (false, _) => 0,
        };
        address | if self.port.is_some() { 4 } else { 0 }
    }
}

/// All routes of streams, greatest rank first.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamTable {
    routes: Arc<Vec<(Rank, Arc<Route>)>>,
}

/// Greater goes first.
type Rank = (u64, u128);

impl StreamTable {
    pub(super) fn insert(&mut self, route: Arc<Route>) {
        let rank = rank(&route);
        let routes = Arc::make_mut(&mut self.routes);
        let at = routes.partition_point(|(other, _)| *other > rank);
        routes.insert(at, (rank, route));
    }

    pub(super) fn remove(&mut self, id: Uuid) {
        Arc::make_mut(&mut self.routes).retain(|(_, route)| route.id != id);
    }
}

fn rank(route: &Route) -> Rank {
    let id = route.id.as_u128();
    if route.expression.is_some() {
        return (order::expressed(route.entity.priority.unwrap_or(0)), id);
    }
    let weight = |ends: &[Ends]| ends.iter().map(Ends::weight).max().unwrap_or(0);
    let (sources, destinations) = (weight(&route.sources), weight(&route.destinations));
    if route.traditional {
        let given = [(!route.snis.is_empty(), 4), (!route.sources.is_empty(), 2), (!route.destinations.is_empty(), 1)];
        let kinds = given.iter().filter(|(given, _)| *given).count() as u64;
        let bits: u64 = given.iter().filter(|(given, _)| *given).map(|(_, bit)| bit).sum();
        return (kinds << 16 | bits << 8 | sources << 4 | destinations, order::age(route.entity.created_at, id));
    }
    let both = !route.sources.is_empty() && !route.destinations.is_empty();
    let first = if !route.snis.is_empty() || both { 1 << 61 } else { 0 };
    (first | sources << 4 | destinations, id)
}

impl Route {
    fn takes_stream(&self, query: &StreamQuery<'_>, asked: Asked<'_>) -> bool {
        let carried = match query.transport {
            Transport::Tcp => self.protocols.any_tcp(),
            Transport::Udp => self.protocols.udp(),
        };
        if !carried || !self.takes_protocol(asked.protocol) {
            return false;
        }
        if let Some(expressed) = &self.expression {
            return expressed.condition.holds(asked, &mut Notes::default());
        }
        let takes = |ends: &[Ends], end: SocketAddr| ends.is_empty() || ends.iter().any(|own| own.takes(end));
        // Without a name in the handshake the connection counts as plain, and server names ask nothing of it.
        let named = || query.sni.is_none_or(|sni| self.snis.is_empty() || self.snis.iter().any(|own| own.matches(sni.as_bytes())));
        takes(&self.sources, query.source) && takes(&self.destinations, query.destination) && named()
    }
}

impl Router {
    /// The route of a stream connection: the matching one of the greatest rank.
    pub fn find_stream(&self, query: &StreamQuery<'_>) -> Option<&Arc<Route>> {
        let headers = Headers::default();
        let fields = Query {
            method: b"",
            path: b"",
            host: b"",
            https: false,
            sni: query.sni,
            port: query.destination.port(),
            headers: &headers,
            arguments: None,
            client: Client {
                source: Some(query.source.ip().to_canonical()),
                source_port: query.source.port(),
                destination: Some(query.destination.ip().to_canonical()),
            },
        };
        let protocol = match (query.transport, query.sni) {
            (Transport::Udp, _) => "udp",
            (Transport::Tcp, Some(_)) => "tls",
            (Transport::Tcp, None) => "tcp",
        };
        let host = HostPort { host: b"", port: query.destination.port() };
        let asked = Asked { query: &fields, path: "", host, protocol, without_snis: false };
        self.streams.routes.iter().map(|(_, route)| route).find(|route| route.takes_stream(query, asked))
    }
}

/// Orders routes as [`Router::find_stream`] tries them; tests hold the table against it.
#[cfg(test)]
fn reference<'r>(routes: &'r [Arc<Route>], query: &StreamQuery<'_>) -> Option<&'r Arc<Route>> {
    let alone = |route: &Arc<Route>| {
        let mut router = Router::default();
        router.insert(route.clone());
        router.find_stream(query).is_some()
    };
    routes.iter().filter(|route| alone(route)).max_by_key(|route| rank(route))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portcullis_entities::routes::Flavor;
    use serde_json::{Value, json};

    fn route(number: u128, flavor: Flavor, mut conditions: Value) -> Arc<Route> {
        let all = conditions.as_object_mut().unwrap();
        for (name, value) in [
            ("id", json!(Uuid::from_u128(number))),
            ("protocols", json!(["tcp", "tls"])),
            ("https_redirect_status_code", json!(426)),
            ("strip_path", json!(true)),
            ("preserve_host", json!(false)),
            ("request_buffering", json!(true)),
            ("response_buffering", json!(true)),
        ] {
            all.entry(name).or_insert(value);
        }
        Arc::new(Route::compile_for(Arc::new(serde_json::from_value(conditions).unwrap()), flavor).unwrap())
    }

    fn query(source: &str, destination: &str, sni: Option<&'static str>) -> StreamQuery<'static> {
        StreamQuery { transport: Transport::Tcp, source: source.parse().unwrap(), destination: destination.parse().unwrap(), sni }
    }

    fn who(routes: &[Arc<Route>], query: &StreamQuery<'_>) -> u128 {
        let mut router = Router::default();
        routes.iter().for_each(|route| router.insert(route.clone()));
        let found = router.find_stream(query).map_or(0, |route| route.id.as_u128());
        assert_eq!(found, reference(routes, query).map_or(0, |route| route.id.as_u128()));
        found
    }

    #[test]
    fn addresses_go_before_ports_and_ports_before_networks() {
        let compat = Flavor::TraditionalCompatible;
        let routes = [
            route(1, compat, json!({"sources": [{"ip": "10.0.0.0/8"}]})),
            route(2, compat, json!({"sources": [{"port": 700}]})),
            route(3, compat, json!({"sources": [{"ip": "10.0.0.1"}]})),
            route(4, compat, json!({"destinations": [{"ip": "127.0.0.1", "port": 9000}]})),
        ];
        assert_eq!(who(&routes, &query("10.0.0.1:700", "127.0.0.1:9001", None)), 3);
        assert_eq!(who(&routes, &query("10.0.0.2:700", "127.0.0.1:9000", None)), 2);
        assert_eq!(who(&routes, &query("10.0.0.2:701", "127.0.0.1:9000", None)), 1);
        assert_eq!(who(&routes, &query("11.0.0.2:701", "127.0.0.1:9000", None)), 4);
        assert_eq!(who(&routes, &query("11.0.0.2:701", "[::ffff:127.0.0.1]:9000", None)), 4);
        assert_eq!(who(&routes, &query("11.0.0.2:701", "127.0.0.2:9000", None)), 0);
    }

    #[test]
    fn server_names_and_both_ends_go_before_one_end() {
        for flavor in [Flavor::TraditionalCompatible, Flavor::Traditional, Flavor::Expressions] {
            let routes = [
                route(1, flavor, json!({"snis": ["a.test"]})),
                route(2, flavor, json!({"sources": [{"ip": "10.0.0.1", "port": 7}]})),
                route(3, flavor, json!({"protocols": ["udp"], "destinations": [{"port": 9000}]})),
            ];
            assert_eq!(who(&routes, &query("10.0.0.1:7", "127.0.0.1:9000", Some("a.test"))), 1, "{flavor:?}");
            assert_eq!(who(&routes, &query("10.0.0.1:7", "127.0.0.1:9000", Some("b.test"))), 2, "{flavor:?}");
            assert_eq!(who(&routes, &query("10.0.0.2:7", "127.0.0.1:9000", Some("b.test"))), 0, "{flavor:?}");
            assert_eq!(who(&routes, &StreamQuery { transport: Transport::Udp, ..query("10.0.0.2:7", "127.0.0.1:9000", None) }), 3);
        }
    }

    #[test]
    fn expressions_decide_by_priority_and_speak_of_protocols() {
        let flavor = Flavor::Expressions;
        let routes = [
            route(1, flavor, json!({"expression": "net.src.ip in 10.0.0.0/8", "priority": 1})),
            route(2, flavor, json!({"expression": "net.dst.port == 9000 && tls.sni =^ \".test\"", "priority": 2, "protocols": ["tls"]})),
            route(3, flavor, json!({"expression": "net.dst.port == 53", "priority": 9, "protocols": ["udp"]})),
        ];
        assert_eq!(who(&routes, &query("10.0.0.1:7", "127.0.0.1:9000", Some("a.test"))), 2);
        assert_eq!(who(&routes, &query("10.0.0.1:7", "127.0.0.1:53", None)), 1);
        assert_eq!(who(&routes, &query("11.0.0.1:7", "127.0.0.1:53", None)), 0);
    }

    #[test]
    fn a_route_taken_out_is_not_found_any_more() {
        let routes = [route(1, Flavor::default(), json!({"destinations": [{"port": 9000}]}))];
        let mut router = Router::default();
        router.insert(routes[0].clone());
        let before = router.clone();
        assert!(router.remove(routes[0].id));
        let asked = query("10.0.0.1:7", "127.0.0.1:9000", None);
        assert!(router.find_stream(&asked).is_none());
        assert!(before.find_stream(&asked).is_some());
    }
}
