//! Large bodies pass through without being held.

use std::io::Write;

use portcullis_tests::{Gateway, Upstream, full, get};

/// How much memory a body may cost, whatever its size: buffers of both sides, and the allocator's slack.
const ROOM_KIB: usize = 24 * 1024;

fn size() -> usize {
    if full() { 1 << 30 } else { 64 << 20 }
}

#[test]
fn a_large_download_is_not_held() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    gateway.get("/bytes/1000000");
    let before = gateway.resident_kib();
    let mut client = gateway.client();
    client.send(get(&format!("/bytes/{}", size())));
    let (status, head) = client.head().unwrap();
    assert_eq!(status, 200);
    assert!(head.contains(&format!("Content-Length: {}\r\n", size())), "{head}");
    // Half of it is looked at while the other half waits: a gateway that holds bodies holds it now.
    client.skip(size() / 2);
    assert_flat(&gateway, before);
    client.skip(size() - size() / 2);
    assert_flat(&gateway, before);
    assert_eq!(client.get("/bytes/1").body, b"x");
}

#[test]
fn a_large_upload_is_not_held() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.client();
    let block = vec![b'x'; 1 << 20];
    let send = |client: &mut portcullis_tests::Client, length: usize| {
        client.send(format!("POST /sink HTTP/1.1\r\nHost: gate.test\r\nContent-Length: {length}\r\n\r\n"));
        for _ in 0..length / block.len() {
            client.stream.write_all(&block).unwrap();
        }
    };
    send(&mut client, block.len());
    assert_eq!(client.answer().text(), block.len().to_string());
    let before = gateway.resident_kib();
    send(&mut client, size());
    assert_flat(&gateway, before);
    assert_eq!(client.answer().text(), size().to_string());
    assert_flat(&gateway, before);
}

#[test]
fn a_client_that_stops_reading_stops_the_upstream() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    gateway.get("/bytes/1000000");
    let before = gateway.resident_kib();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = gateway.client();
            client.send(get(&format!("/bytes/{}", 64 << 20)));
            client.head().unwrap();
            client
        })
        .collect();
    // Others are served meanwhile, long enough for a gateway that reads on to have read on.
    for _ in 0..200 {
        assert_eq!(gateway.get("/bytes/1000").body.len(), 1000);
    }
    assert_flat(&gateway, before);
    drop(clients);
    upstream.wait_for_requests(200);
}

fn assert_flat(gateway: &Gateway, before: usize) {
    let now = gateway.resident_kib();
    assert!(now < before + ROOM_KIB, "{before} KiB before, {now} KiB now");
}
