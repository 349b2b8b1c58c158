//! Prints what the router costs for 1 to 100,000 routes: compiling them all, changing one, finding one.
//!
//! `cargo run --release -p portcullis-proxy --example router_scale`

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use portcullis_entities as entities;
use portcullis_entities::services::Protocol;
use portcullis_proxy::router::{Query, Route, Router};
use portcullis_wire::Headers;
use uuid::Uuid;

/// What the routes of a run differ in.
type Shape = fn(&mut entities::Route, usize);
/// The request that only the route of this number takes.
type Request = fn(usize) -> (String, String, Headers);

const LOOKUPS: usize = 200_000;
const CHANGES: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let shapes: [(&str, Shape, Request); 6] = [
        ("path", |route, n| route.paths = Some(vec![path(n)]), |n| ("a.test".into(), path(n) + "/x", Headers::default())),
        (
            "host",
            |route, n| route.hosts = Some(vec![format!("h{n}.example.test")]),
            |n| (format!("h{n}.example.test"), "/".into(), Headers::default()),
        ),
        (
            "host+path",
            |route, n| {
                route.hosts = Some(vec![format!("h{}.example.test", n / 10)]);
                route.paths = Some(vec![path(n)]);
            },
            |n| (format!("h{}.example.test", n / 10), path(n), Headers::default()),
        ),
        (
            "wildcard",
            |route, n| route.hosts = Some(vec![format!("*.h{n}.test")]),
            |n| (format!("a.b.h{n}.test"), "/".into(), Headers::default()),
        ),
        (
            "header",
            |route, n| {
                route.paths = Some(vec!["/same".into()]);
                route.headers = Some(BTreeMap::from([("x-tenant".into(), vec![format!("t{n}")])]));
            },
            |n| {
                let mut headers = Headers::default();
                for name in ["Accept", "User-Agent", "Accept-Encoding", "X-Request-Id"] {
                    headers.append(name, b"some value of usual length");
                }
                headers.append("X-Tenant", format!("t{n}").as_bytes());
                ("a.test".into(), "/same/x".into(), headers)
            },
        ),
        (
            "regex",
            |route, n| route.paths = Some(vec![format!("~{}/[0-9]+$", path(n))]),
            |n| ("a.test".into(), path(n) + "/42", Headers::default()),
        ),
    ];
    println!("{:<10} {:>8} {:>12} {:>14} {:>12}", "routes by", "count", "compile ms", "change us", "lookup ns");
    for (name, shape, request) in shapes {
        for count in [1, 1_000, 10_000, 100_000] {
            run(name, count, shape, request)?;
        }
    }
    Ok(())
}

fn path(number: usize) -> String {
    format!("/service-{number}/v1")
}

fn run(name: &str, count: usize, shape: Shape, request: Request) -> Result<(), Box<dyn Error>> {
    let routes: Vec<Arc<entities::Route>> = (0..count).map(|number| Arc::new(route(number, shape))).collect();
    let started = Instant::now();
    let mut router = Router::default();
    for route in &routes {
        router.insert(Arc::new(Route::compile(route.clone())?));
    }
    let compile = started.elapsed();

    let started = Instant::now();
    for number in 0..CHANGES {
        // The clone stands for the snapshot that requests still read.
        let mut next = router.clone();
        next.insert(Arc::new(Route::compile(routes[number * 7919 % count].clone())?));
        router = next;
    }
    let change = started.elapsed() / CHANGES as u32;

    let requests: Vec<_> = (0..1000).map(|number| request(number * 7919 % count)).collect();
    // Regexes are compiled by the first request that needs them.
    let find = |(host, path, headers): &(String, String, Headers)| {
        let (path, host) = (path.as_bytes(), host.as_bytes());
        let client = Default::default();
        let query = Query { method: b"GET", path, host, https: false, sni: None, port: 80, headers, arguments: None, client };
        router.find(&query).map(|found| found.route.id)
    };
    if requests.iter().any(|request| find(request).is_none()) {
        return Err("a request found no route".into());
    }
    let started = Instant::now();
    for at in 0..LOOKUPS {
        black_box(find(black_box(&requests[at % requests.len()])));
    }
    let lookup = started.elapsed().as_nanos() / LOOKUPS as u128;
    println!("{name:<10} {count:>8} {:>12.1} {:>14.1} {lookup:>12}", compile.as_secs_f64() * 1e3, change.as_secs_f64() * 1e6);
    Ok(())
}

fn route(number: usize, shape: Shape) -> entities::Route {
    let mut route = entities::Route {
        id: Uuid::from_u128(number as u128 + 1),
        created_at: None,
        updated_at: None,
        name: None,
        protocols: vec![Protocol::Http, Protocol::Https],
        https_redirect_status_code: 426,
        strip_path: true,
        preserve_host: false,
        request_buffering: true,
        response_buffering: true,
        tags: None,
        service: None,
        snis: None,
        sources: None,
        destinations: None,
        methods: None,
        hosts: None,
        paths: None,
        headers: None,
        regex_priority: Some(0),
        path_handling: None,
        expression: None,
        priority: None,
    };
    shape(&mut route, number);
    route
}
