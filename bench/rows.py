"""What is measured: a row is one kind of load, the same for every candidate."""
from dataclasses import dataclass

POST = 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/octet-stream"\nwrk.body = string.rep("p", 10240)\n'
PEERS = ("portcullis", "nginx", "haproxy")


def any_route(count, keys=0):
    """Asks for a random one of so many routes, with a random one of so many keys."""
    key = f'wrk.headers["apikey"] = "key-" .. math.random({keys})\n  ' if keys else ""
    return f'request = function()\n  {key}return wrk.format("GET", "/r" .. math.random({count}) .. "/x")\nend\n'


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    path: str = "/api/x"
    connections: int = 64
    tls: bool = False
    http2: bool = False
    headers: tuple = ()
    script: str = ""
    candidates: tuple = PEERS
    # Ours only: what the declarative file holds.
    routes: int = 1
    consumers: int = 0
    plugins: bool = False


ROWS = [
    Row("bare", "bare proxy, 128 B", candidates=PEERS + ("nginx-plain", "haproxy-plain")),
    Row("1k", "1 KiB responses", path="/api/1k"),
    Row("100k", "100 KiB responses", path="/api/100k"),
    Row("post", "10 KiB POST", script=POST),
    Row("connections", "1,000 connections", connections=1000),
    Row("plugins", "key-auth + rate-limiting + prometheus, 100 routes, 100 consumers (peers: the bare proxy)", routes=100, consumers=100,
        plugins=True, script=any_route(100, 100)),
    Row("routes-1", "1 route", path="/r1/x", script=any_route(1), candidates=("portcullis",)),
    Row("routes-1000", "1,000 routes", routes=1000, script=any_route(1000), candidates=("portcullis",)),
    Row("routes-10000", "10,000 routes", routes=10_000, script=any_route(10_000), candidates=("portcullis",)),
    Row("routes-100000", "100,000 routes", routes=100_000, script=any_route(100_000), candidates=("portcullis",)),
    Row("tls", "TLS, keep-alive", tls=True),
    Row("handshakes", "TLS handshakes, one request each", tls=True, headers=("Connection: close",)),
    Row("h2", "HTTP/2 over TLS, 8 connections × 32 streams", tls=True, http2=True),
    Row("h2c", "HTTP/2 without TLS, 8 connections × 32 streams", http2=True),
]
