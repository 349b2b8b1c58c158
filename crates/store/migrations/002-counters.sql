-- Counters of plugins (rate-limiting and response-ratelimiting with policy cluster), by Kong's table.
CREATE TABLE _counters (
  kind TEXT NOT NULL,
  identifier TEXT NOT NULL,
  period TEXT NOT NULL,
  start INTEGER NOT NULL,
  service BLOB NOT NULL,
  route BLOB NOT NULL,
  value INTEGER NOT NULL,
  -- Milliseconds since 1970.
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (identifier, period, start, service, route, kind)
) WITHOUT ROWID;
CREATE INDEX _counters_expiry ON _counters (expires_at);
