"""What is measured: a row is one kind of load, the same for every candidate."""
import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, replace

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
    # Ours only: what the declarative file holds. Every consumer cN has the key key-N, and what `consumer` adds. `@UPSTREAM@` in a
    # plugin's configuration is the canned upstream's address, which takes logs and spans too.
    routes: int = 1
    consumers: int = 0
    consumer: tuple = ()
    plugins: tuple = ()
    environment: tuple = ()

    def without_plugins(self):
        """The same load with nothing configured but the routes: what a plugin's row is compared with."""
        return replace(self, consumers=0, consumer=(), plugins=(), environment=())


def plugin(name, **config):
    return {"name": name, "config": config}


PROMETHEUS = plugin("prometheus", status_code_metrics=True, latency_metrics=True, bandwidth_metrics=True)
SECRET = "a secret that only the bench knows"


def token(issuer):
    """A token that jwt takes: HS256, signed with SECRET."""
    def coded(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    signed = ".".join(coded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, {"iss": issuer}))
    return signed + "." + coded(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())


def alone(name, title, *plugins, **more):
    """A row of one plugin on top of the bare proxy."""
    return Row(f"plugin-{name}", f"{title} (beside: the same without it)", candidates=("portcullis", "portcullis-without"),
               plugins=plugins, **more)


KEY = {"consumers": 100, "headers": ("apikey: key-7",)}
PLUGINS = [
    alone("key-auth", "key-auth, 100 consumers", plugin("key-auth"), **KEY),
    alone("acl", "key-auth + acl (take the row before off)", plugin("key-auth"), plugin("acl", allow=["bench"]),
          consumer=(("acls", ({"group": "bench"},)),), **KEY),
    alone("rate-limiting", "rate-limiting, policy local", plugin("rate-limiting", minute=1_000_000_000, policy="local")),
    alone("cors", "cors, a plain request with Origin", plugin("cors", origins=["https://app.example.com"]),
          headers=("Origin: https://app.example.com",)),
    alone("request-transformer", "request-transformer, 4 headers",
          plugin("request-transformer", add={"headers": ["x-one:1", "x-two:2"]}, remove={"headers": ["accept-encoding"]},
                 rename={"headers": ["accept:x-accept"]})),
    alone("jwt", "jwt, HS256", plugin("jwt", header_names=["x-token"]), consumers=1,
          consumer=(("jwt_secrets", ({"key": "bench", "secret": SECRET, "algorithm": "HS256"},)),),
          headers=("x-token: Bearer " + token("bench"),)),
    alone("proxy-cache", "proxy-cache, hits", plugin("proxy-cache", strategy="memory", content_type=["text/plain"], cache_ttl=3600)),
    alone("prometheus", "prometheus, all of Kong's metrics", PROMETHEUS),
    alone("prometheus-extra", "prometheus, all of Kong's metrics and all of extra_metrics", PROMETHEUS,
          environment=(("KONG_EXTRA_METRICS", "all"),)),
    alone("http-log", "http-log, batches of 100",
          plugin("http-log", http_endpoint="http://@UPSTREAM@/log", queue={"max_batch_size": 100, "max_entries": 100_000})),
    alone("opentelemetry", "opentelemetry, every request traced",
          plugin("opentelemetry", traces_endpoint="http://@UPSTREAM@/v1/traces", sampling_rate=1,
                 queue={"max_batch_size": 200, "max_entries": 100_000}),
          environment=(("KONG_TRACING_INSTRUMENTATIONS", "all"), ("KONG_TRACING_SAMPLING_RATE", "1"))),
    alone("pre-function", "pre-function that sets one header", plugin("pre-function", access=["kong.service.request.set_header('x-lua', '1')"])),
    alone("access-log", "access log on", environment=(("KONG_PROXY_ACCESS_LOG", "logs/access.log"),)),
]


ROWS = [
    Row("bare", "bare proxy, 128 B", candidates=PEERS + ("nginx-plain", "haproxy-plain")),
    Row("1k", "1 KiB responses", path="/api/1k"),
    Row("100k", "100 KiB responses", path="/api/100k"),
    Row("post", "10 KiB POST", script=POST),
    Row("connections", "1,000 connections", connections=1000),
    Row("plugins", "key-auth + rate-limiting + prometheus, 100 routes, 100 consumers (peers: the bare proxy)", routes=100, consumers=100,
        plugins=(plugin("key-auth"), plugin("rate-limiting", minute=1_000_000_000, policy="local"), PROMETHEUS), script=any_route(100, 100)),
    Row("routes-1", "1 route", path="/r1/x", script=any_route(1), candidates=("portcullis",)),
    Row("routes-1000", "1,000 routes", routes=1000, script=any_route(1000), candidates=("portcullis",)),
    Row("routes-10000", "10,000 routes", routes=10_000, script=any_route(10_000), candidates=("portcullis",)),
    Row("routes-100000", "100,000 routes", routes=100_000, script=any_route(100_000), candidates=("portcullis",)),
    Row("tls", "TLS, keep-alive", tls=True),
    Row("handshakes", "TLS handshakes, one request each", tls=True, headers=("Connection: close",)),
    Row("h2", "HTTP/2 over TLS, 8 connections × 32 streams", tls=True, http2=True),
    Row("h2c", "HTTP/2 without TLS, 8 connections × 32 streams", http2=True),
] + PLUGINS
