//! One name through `dns_order`: the hosts file first, then the name servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as ServerError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use super::hosts::{self, Hosts};
use super::{Address, Answer, DnsError, Kind, Known, literal};

/// How often a CNAME or SRV record may lead to another name.
const MOST_STEPS: usize = 8;

pub(super) struct Resolver {
    hickory: TokioResolver,
    hosts: Hosts,
    order: Vec<Kind>,
    srv_by_name: bool,
}

impl Resolver {
    pub(super) fn new(resolvers: &[SocketAddr], hosts: Hosts, order: &[Kind], srv_by_name: bool) -> Result<Self, DnsError> {
        let system = read_system_conf();
        let (mut config, mut options) = match system {
            Ok(read) => read,
            Err(error) if resolvers.is_empty() => return Err(DnsError::failed(&format!("reading resolv.conf: {error}"))),
            Err(_) => (ResolverConfig::default(), ResolverOpts::default()),
        };
        if !resolvers.is_empty() {
            config.name_servers = resolvers.iter().map(name_server).collect();
        }
        // Both are kept here, as Kong has them.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let hickory = builder.build().map_err(|error| DnsError::failed(&error.to_string()))?;
        Ok(Self { hickory, hosts, order: order.to_vec(), srv_by_name })
    }

    /// The addresses of a name. `last` is the kind of record that answered for it before.
    pub(super) async fn resolve(&self, name: &str, last: Option<Kind>) -> Known {
        self.step(name, last, MOST_STEPS).await
    }

    async fn step(&self, name: &str, last: Option<Kind>, steps: usize) -> Known {
        if let Some(ip) = literal(name) {
            return Ok(Answer::literal(ip));
        }
        if let Some(answer) = self.hosts.get(&*name.to_ascii_lowercase()).and_then(|addresses| hosts::answer(addresses, &self.order)) {
            return Ok(answer);
        }
        let mut failure = DnsError::empty();
        let mut tried: Vec<Kind> = Vec::with_capacity(self.order.len());
        for kind in &self.order {
            let kind = match (kind, last) {
                (Kind::Last, Some(last)) => last,
                (Kind::Last, None) => continue,
                (kind, _) => *kind,
            };
            if tried.contains(&kind) || (self.srv_by_name && (kind == Kind::Srv) != names_service(name)) {
                continue;
            }
            tried.push(kind);
            match self.query(name, kind, steps).await {
                Ok(answer) => return Ok(answer),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn query(&self, name: &str, kind: Kind, steps: usize) -> Known {
        match kind {
            Kind::A | Kind::Last => self.addresses(name, RecordType::A).await.and_then(|found| answer(Kind::A, found)),
            Kind::Aaaa => self.addresses(name, RecordType::AAAA).await.and_then(|found| answer(Kind::Aaaa, found)),
            Kind::Srv => self.services(name, steps).await,
            Kind::Cname => {
                let lookup = self.lookup(name, RecordType::CNAME).await?;
                let target = lookup.answers().iter().find_map(|record| match &record.data {
                    RData::CNAME(target) => Some(target.0.to_string()),
                    _ => None,
                });
                let target = target.ok_or_else(DnsError::empty)?;
                self.follow(&target, steps).await
            }
        }
    }

    async fn addresses(&self, name: &str, kind: RecordType) -> Result<(Vec<Address>, Duration), DnsError> {
        let lookup = self.lookup(name, kind).await?;
        let mut ttl = u32::MAX;
        let mut addresses = Vec::new();
        for record in lookup.answers() {
            let Some(ip) = record.data.ip_addr() else { continue };
            ttl = ttl.min(record.ttl);
            addresses.push(Address { ip, port: None, weight: 1 });
        }
        Ok((addresses, Duration::from_secs(ttl.into())))
    }

    /// SRV records of the highest priority (the lowest number), each with the addresses of its own name.
    async fn services(&self, name: &str, steps: usize) -> Known {
        let lookup = self.lookup(name, RecordType::SRV).await?;
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(service) => Some((service, record.ttl)),
            _ => None,
        });
        let records: Vec<_> = records.collect();
        let first = records.iter().map(|(service, _)| service.priority).min().ok_or_else(DnsError::empty)?;
        let mut addresses = Vec::new();
        let mut ttl = Duration::MAX;
        let mut failure = DnsError::empty();
        for (service, seconds) in records.iter().filter(|(service, _)| service.priority == first) {
            let found = match self.follow(&service.target.to_string(), steps).await {
                Ok(found) => found,
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            ttl = ttl.min(Duration::from_secs((*seconds).into())).min(found.ttl);
            let port = if service.port == 0 { None } else { Some(service.port) };
            let name: Arc<str> = service.target.to_string().trim_end_matches('.').into();
            let found = found.addresses.iter().map(|address| Address { port, weight: service.weight.max(1), ..*address });
            addresses.extend(found.map(|address| (address, name.clone())));
        }
        if addresses.is_empty() { Err(failure) } else { Ok(Answer::of_services(addresses, ttl)) }
    }

    async fn follow(&self, name: &str, steps: usize) -> Known {
        if steps == 0 {
            return Err(DnsError::failed("dns client error: 100 cyclic dns records"));
        }
        // A name may be written with its final dot here, which the hosts file does not have.
        Box::pin(self.step(name.trim_end_matches('.'), None, steps - 1)).await
    }

    async fn lookup(&self, name: &str, kind: RecordType) -> Result<Lookup, DnsError> {
        self.hickory.lookup(name, kind).await.map_err(|error| classify(&error))
    }
}

/// `_service._protocol.name`: a name that is made for SRV records.
fn names_service(name: &str) -> bool {
    let mut labels = name.split('.');
    let mut marked = || labels.next().is_some_and(|label| label.len() > 1 && label.starts_with('_'));
    marked() && marked() && labels.next().is_some()
}

fn answer(kind: Kind, (addresses, ttl): (Vec<Address>, Duration)) -> Known {
    if addresses.is_empty() { Err(DnsError::empty()) } else { Ok(Answer::new(kind, addresses, ttl)) }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn classify(error: &NetError) -> DnsError {
    if error.is_nx_domain() {
        return DnsError::name_error();
    }
    if error.is_no_records_found() {
        return DnsError::empty();
    }
    let code = match error {
        NetError::Dns(ServerError::ResponseCode(code)) => *code,
        NetError::Timeout => return DnsError::failed("dns server error: timeout"),
        _ => return DnsError::failed(&format!("dns client error: {error}")),
    };
    let meaning = match code {
        ResponseCode::FormErr => "format error",
        ResponseCode::ServFail => "server failure",
        ResponseCode::NXDomain => return DnsError::name_error(),
        ResponseCode::NotImp => "not implemented",
        ResponseCode::Refused => "refused",
        _ => "unknown",
    };
    DnsError::failed(&format!("dns server error: {} {meaning}", u16::from(code)))
}
