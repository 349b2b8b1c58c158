-- What every file has, whatever the entities are. Tables of entities are made from their schemas; names here start with an
-- underscore, which no entity's does.

CREATE TABLE _meta (
    key TEXT NOT NULL PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

-- Grows with every committed change set, in whichever process.
INSERT INTO _meta (key, value) VALUES ('version', 0);

CREATE TABLE _workspaces (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE
);
INSERT INTO _workspaces (number, id, name) VALUES (1, x'0dc6f45b8f8d40d2a504473544ee190b', 'default');

-- The columns that were generated for an entity: when they differ from what its schema says now, they are made anew.
CREATE TABLE _entities (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    layout TEXT NOT NULL
);

-- Pages of one tag walk the primary key; pages of all tags walk the index.
CREATE TABLE _tags (
    entity INTEGER NOT NULL,
    tag TEXT NOT NULL,
    id BLOB NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (entity, tag, id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX _tags_by_row ON _tags (id, entity, position, tag);
