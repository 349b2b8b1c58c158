-- What the plugin basic-auth keeps.

CREATE TABLE basicauth_credentials (
  id uuid NOT NULL,
  created_at timestamptz DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
  consumer_id uuid,
  username text,
  password text,
  tags text[],
  ws_id uuid,
  CONSTRAINT basicauth_credentials_consumer_id_fkey FOREIGN KEY (consumer_id, ws_id) REFERENCES consumers(id, ws_id) ON DELETE CASCADE,
  CONSTRAINT basicauth_credentials_id_ws_id_unique UNIQUE (id, ws_id),
  CONSTRAINT basicauth_credentials_pkey PRIMARY KEY (id),
  CONSTRAINT basicauth_credentials_ws_id_fkey FOREIGN KEY (ws_id) REFERENCES workspaces(id),
  CONSTRAINT basicauth_credentials_ws_id_username_unique UNIQUE (ws_id, username)
);
CREATE INDEX basicauth_consumer_id_idx ON basicauth_credentials (consumer_id);
CREATE INDEX basicauth_tags_idex_tags_idx ON basicauth_credentials USING gin (tags);
CREATE TRIGGER basicauth_sync_tags_trigger AFTER INSERT OR UPDATE OF tags OR DELETE ON basicauth_credentials
  FOR EACH ROW EXECUTE FUNCTION sync_tags();
