//! Bodies stream: memory stays flat however large they are.

use portcullis_tests::{Gateway, Upstream, get, scale};
use std::sync::atomic::{AtomicBool, Ordering};

const MIB: u64 = 1024 * 1024;
/// What both directions may add to resident memory.
const ALLOWED: u64 = 24 * MIB;

/// Runs the work and returns the most memory the gateway had meanwhile.
fn watched(gateway: &Gateway, work: impl FnOnce()) -> u64 {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(gateway.resident());
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            most
        });
        work();
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    })
}

fn proxied() -> (Gateway, Upstream, u64) {
    let (gateway, upstream) = (Gateway::with(&[("nginx_main_worker_processes", "1")]), Upstream::start());
    gateway.route("a", upstream.address);
    assert_eq!(get(gateway.proxy, "/a").status, 200);
    (gateway, upstream, scale("PORTCULLIS_TEST_BODY_MIB", 1024) * MIB)
}

#[test]
fn a_large_download_keeps_memory_flat() {
    let (gateway, _upstream, size) = proxied();
    let before = gateway.resident();
    let most = watched(&gateway, || {
        let mut connection = gateway.connect();
        connection.send(format!("GET /a/bytes/{size} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        let head = connection.head().unwrap();
        assert_eq!((head.status, head.header("content-length")), (200, Some(size.to_string().as_str())));
        connection.skip(size);
    });
    assert!(most < before + ALLOWED, "{} MiB before, {} MiB at most", before / MIB, most / MIB);
}

#[test]
fn a_large_upload_keeps_memory_flat() {
    let (gateway, _upstream, size) = proxied();
    let before = gateway.resident();
    let most = watched(&gateway, || {
        let mut connection = gateway.connect();
        connection.send(format!("POST /a/sink HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n").as_bytes());
        let piece = vec![b'u'; MIB as usize];
        for _ in 0..size / MIB {
            connection.send(&piece);
        }
        assert_eq!(connection.response().json()["received"], size);
    });
    assert!(most < before + ALLOWED, "{} MiB before, {} MiB at most", before / MIB, most / MIB);
}

#[test]
fn a_large_chunked_upload_keeps_memory_flat() {
    let (gateway, _upstream, size) = proxied();
    let size = size / 4;
    let before = gateway.resident();
    let most = watched(&gateway, || {
        let mut connection = gateway.connect();
        connection.send(b"POST /a/sink HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("{:x}\r\n{}\r\n", MIB, "c".repeat(MIB as usize));
        for _ in 0..size / MIB {
            connection.send(chunk.as_bytes());
        }
        connection.send(b"0\r\n\r\n");
        assert_eq!(connection.response().json()["received"], size);
    });
    assert!(most < before + ALLOWED, "{} MiB before, {} MiB at most", before / MIB, most / MIB);
}

#[test]
fn a_client_that_does_not_read_does_not_fill_the_gateway() {
    let (gateway, _upstream, size) = proxied();
    let before = gateway.resident();
    let most = watched(&gateway, || {
        let mut slow: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
        for connection in &mut slow {
            connection.send(format!("GET /a/bytes/{size} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
            assert_eq!(connection.head().unwrap().status, 200);
        }
        // Others are served meanwhile.
        for _ in 0..100 {
            assert_eq!(get(gateway.proxy, "/a").status, 200);
        }
    });
    assert!(most < before + ALLOWED, "{} MiB before, {} MiB at most", before / MIB, most / MIB);
}
