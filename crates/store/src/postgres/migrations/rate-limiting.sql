-- What the plugin rate-limiting keeps.

CREATE TABLE ratelimiting_metrics (
  identifier text NOT NULL,
  period text NOT NULL,
  period_date timestamptz NOT NULL,
  service_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  route_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  value integer,
  ttl timestamptz,
  CONSTRAINT ratelimiting_metrics_pkey PRIMARY KEY (identifier, period, period_date, service_id, route_id)
);
CREATE INDEX ratelimiting_metrics_idx ON ratelimiting_metrics (service_id, route_id, period_date, period);
CREATE INDEX ratelimiting_metrics_ttl_idx ON ratelimiting_metrics (ttl);
CREATE TRIGGER ratelimiting_metrics_ttl_trigger AFTER INSERT ON ratelimiting_metrics
  FOR EACH STATEMENT EXECUTE FUNCTION batch_delete_expired_rows('ttl');
