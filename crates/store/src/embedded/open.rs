//! Opens the file, brings it up to date with the migrations and makes the tables the schemas ask for.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use uuid::Uuid;

use super::fault;
use super::statements::{self, Statements};
use super::{Cells, Settings};
use crate::layout::Layout;

/// Run once each, in order; the number of those done is the file's format.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../migrations/001-fixed-part.sql"),
    include_str!("../../migrations/002-counters.sql"),
    include_str!("../../migrations/003-parameters.sql"),
];

/// "PCul": tells our files from other programs'.
const APPLICATION_ID: i64 = 0x5043_756c;

/// The writing connection, after migrations and with every table in place, and the statements of each table.
pub(super) fn writer(settings: &Settings, layout: &Layout) -> Result<(Connection, Vec<Statements>), String> {
    let path = &settings.path;
    let failed = |error: rusqlite::Error| fault::at(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(settings.busy_timeout).map_err(failed)?;
    if connection.is_readonly("main").map_err(failed)? {
        return Err(format!("{}: the database file is read-only: make it writable for this user", path.display()));
    }
    let format = check(&connection, path)?;
    // Takes effect on a file that is still empty. Rows without rowids do best when some ten of them fit a page.
    connection.pragma_update(None, "page_size", 8192).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    // FULL: a write that was answered survives a power cut. NORMAL would keep the file whole but could forget the last
    // answered writes. Queued change sets share one sync, so busy times don't pay for each.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -128 * 1024).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(1024);

    migrate(&mut connection, format).map_err(failed)?;
    let statements = make_tables(&mut connection, layout).map_err(|error| format!("{}: {error}", path.display()))?;
    if let Some(bytes) = settings.largest_file {
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(failed)?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        // The pragma answers with the limit, so it is a query.
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map_err(failed)?;
    }
    Ok((connection, statements))
}

/// A connection that only reads.
pub(super) fn reader(settings: &Settings) -> Result<Connection, String> {
    let failed = |error: rusqlite::Error| fault::at(&settings.path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&settings.path, flags).map_err(failed)?;
    connection.busy_timeout(settings.busy_timeout.max(Duration::from_secs(1))).map_err(failed)?;
    connection.pragma_update(None, "query_only", true).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -16 * 1024).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(1024);
    Ok(connection)
}

/// The file's format, 0 for an empty file. Refuses files of other programs and of newer versions, untouched.
fn check(connection: &Connection, path: &Path) -> Result<usize, String> {
    let failed = |error: rusqlite::Error| fault::at(path, &error);
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(failed);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if tables == 0 {
        return Ok(0);
    }
    if number("application_id")? != APPLICATION_ID {
        return Err(format!("{}: the file is another program's database: choose another path", path.display()));
    }
    let known = MIGRATIONS.len();
    let format: i64 = connection.query_row("SELECT value FROM _meta WHERE key = 'format'", [], |row| row.get(0)).map_err(failed)?;
    usize::try_from(format).ok().filter(|format| *format <= known).ok_or_else(|| {
        format!("{}: the file has format {format}, this version knows formats up to {known}: use a newer version", path.display())
    })
}

fn migrate(connection: &mut Connection, format: usize) -> rusqlite::Result<()> {
    if format == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    for migration in &MIGRATIONS[format..] {
        transaction.execute_batch(migration)?;
    }
    transaction.execute("INSERT OR IGNORE INTO _parameters (key, value) VALUES ('cluster_id', ?1)", [Uuid::new_v4().to_string()])?;
    transaction.execute("INSERT OR REPLACE INTO _meta (key, value) VALUES ('format', ?1)", [MIGRATIONS.len() as i64])?;
    transaction.commit()
}

/// Makes missing tables, and makes lookup columns and indexes anew where a schema says something else than last time.
fn make_tables(connection: &mut Connection, layout: &Layout) -> Result<Vec<Statements>, String> {
    let explained = |error: rusqlite::Error| fault::explain(&error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explained)?;
    let mut all = Vec::with_capacity(layout.tables.len());
    for (place, table) in layout.tables.iter().enumerate() {
        let indexes = statements::indexes(table);
        let wanted = std::iter::once(statements::create_table(layout, table))
            .chain(indexes.iter().map(|(_, sql)| sql.clone()))
            .chain(table.uniques.iter().map(|unique| unique.fields.join("+")))
            .collect::<Vec<_>>()
            .join("\n");
        let known: Option<(i64, String)> = transaction
            .query_row("SELECT number, layout FROM _entities WHERE name = ?1", [table.name()], |row| Ok((row.get(0)?, row.get(1)?)))
            .map(Some)
            .or_else(|error| if error == rusqlite::Error::QueryReturnedNoRows { Ok(None) } else { Err(error) })
            .map_err(explained)?;
        let number = match &known {
            Some((number, _)) => *number,
            None => {
                let sql = "INSERT INTO _entities (name, layout) VALUES (?1, ?2)";
                transaction.execute(sql, params![table.name(), wanted]).map_err(explained)?;
                transaction.last_insert_rowid()
            }
        };
        let statements = Statements::new(table, number);
        match &known {
            Some((_, found)) if *found == wanted => {}
            Some(_) => remake(&transaction, layout, place, &statements)
                .map_err(|error| format!("the rows of {} don't keep what its schema says now: {}", table.name(), fault::explain(&error)))?,
            None => {
                transaction.execute_batch(&statements::create_table(layout, table)).map_err(explained)?;
                for (_, sql) in &indexes {
                    transaction.execute_batch(sql).map_err(explained)?;
                }
            }
        }
        if known.is_some_and(|(_, found)| found != wanted) {
            let sql = "UPDATE _entities SET layout = ?2 WHERE number = ?1";
            transaction.execute(sql, params![number, wanted]).map_err(explained)?;
        }
        all.push(statements);
    }
    transaction.commit().map_err(explained)?;
    Ok(all)
}

/// Adds the columns that are missing, fills every lookup column from the records and makes the indexes anew.
fn remake(connection: &Connection, layout: &Layout, place: usize, statements: &Statements) -> rusqlite::Result<()> {
    let table = &layout.tables[place];
    let mut old_indexes =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND sql IS NOT NULL")?;
    let names: Vec<String> = old_indexes.query_map([table.name()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for name in names {
        connection.execute_batch(&format!("DROP INDEX {}", statements::quoted(&name)))?;
    }
    let mut info = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let present: Vec<String> = info.query_map([table.name()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let has = |name: &str| present.iter().any(|known| known == name);
    if table.schema.workspaceable && !has("_workspace") {
        connection.execute_batch(&format!("ALTER TABLE {} ADD COLUMN _workspace INTEGER NOT NULL DEFAULT 1", statements.table))?;
    }
    for column in &statements.columns {
        if !has(&column.name.trim_matches('"').replace("\"\"", "\"")) {
            let declared = statements::declare(layout, table, column);
            connection.execute_batch(&format!("ALTER TABLE {} ADD COLUMN {declared}", statements.table))?;
        }
    }
    let mut rows =
        connection.prepare(&format!("SELECT id, _record, _expires_at FROM {} WHERE id > ?1 ORDER BY id LIMIT 1000", statements.table))?;
    let mut update = connection.prepare(&statements.update)?;
    let mut after = Vec::new();
    loop {
        let batch: Vec<(Vec<u8>, String, Option<i64>)> =
            rows.query_map([&after], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?;
        let Some((last, ..)) = batch.last() else { break };
        after = last.clone();
        for (id, text, expires_at) in batch {
            let record = serde_json::from_str(&text).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            let indexed = table.index(&record);
            let cells = Cells { statements, indexed: &indexed };
            cells.execute(&mut update, &id, &text, expires_at)?;
        }
    }
    for (_, sql) in statements::indexes(table) {
        connection.execute_batch(&sql)?;
    }
    Ok(())
}
