-- What the database says of itself, as Kong's table of that name does: `cluster_id`, made with the file.
CREATE TABLE _parameters (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
