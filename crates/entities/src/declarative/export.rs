//! From records to a document: flat lists, references as ids, laid out as Kong writes it.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_schema::{Kind, Record, Schema};
use serde_json::Value;

use super::yaml;
use crate::internal::CORE_ENTITIES;

/// The document that `records` make, as YAML. Entities that Kong leaves out of exports are left out; what is null is said.
pub fn text(records: &[(Arc<Schema>, Vec<Record>)]) -> String {
    let mut out = "_format_version: '3.0'\n_transform: false\n".to_owned();
    let written: Vec<_> = records.iter().filter(|(schema, rows)| schema.exported && !rows.is_empty()).collect();
    for at in order(&written.iter().map(|(schema, _)| &**schema).collect::<Vec<_>>()) {
        let (schema, rows) = written[at];
        let rows = rows.iter().map(|row| Value::Object(entry(schema, row))).collect();
        yaml::write_field(&schema.name, &Value::Array(rows), 0, false, &mut out);
    }
    out
}

fn entry(schema: &Schema, row: &Record) -> Record {
    let field = |(name, value): (&String, &Value)| {
        let field = schema.field(name).filter(|field| !field.transient)?;
        let value = match &field.kind {
            Kind::Foreign { .. } => value.get("id").cloned().unwrap_or_default(),
            _ => value.clone(),
        };
        Some((name.clone(), value))
    };
    row.iter().filter_map(field).collect()
}

/// Kong's order: parents before children, core entities before plugins', else by name. Answers places in `schemas`.
fn order(schemas: &[&Schema]) -> Vec<usize> {
    let rank = |schema: &Schema| match &*schema.name {
        "workspaces" => 2,
        name => u8::from(CORE_ENTITIES.contains(&name)),
    };
    // From behind: whoever is looked at first ends up last.
    let mut items: Vec<usize> = (0..schemas.len()).collect();
    items.sort_by(|one, other| {
        let (one, other) = (schemas[*one], schemas[*other]);
        rank(one).cmp(&rank(other)).then_with(|| other.name.cmp(&one.name))
    });
    let mut dependents: HashMap<&str, Vec<usize>> = HashMap::new();
    for &at in &items {
        schemas[at].foreigns().for_each(|(_, entity, _)| dependents.entry(entity).or_default().push(at));
    }
    let mut last_first = Vec::with_capacity(items.len());
    let mut seen = vec![false; schemas.len()];
    for at in items {
        // Depth first with an explicit stack: an entity stands once all that depend on it do.
        let mut stack = vec![(at, false)];
        while let Some((at, are_listed)) = stack.pop() {
            if are_listed {
                last_first.push(at);
            } else if !std::mem::replace(&mut seen[at], true) {
                stack.push((at, true));
                let of = dependents.get(&*schemas[at].name).into_iter().flatten();
                stack.extend(of.rev().map(|at| (*at, false)));
            }
        }
    }
    last_first.reverse();
    last_first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_stand_in_kongs_order() {
        let core = crate::core();
        let schemas: Vec<&Schema> = core.iter().collect();
        let names: Vec<&str> = order(&schemas).into_iter().map(|at| &*schemas[at].name).collect();
        let place = |name: &str| names.iter().position(|other| *other == name);
        assert_eq!((names[0], names.len()), ("workspaces", core.len()));
        for (first, second) in
            [("parameters", "services"), ("services", "routes"), ("consumers", "plugins"), ("ca_certificates", "certificates")]
        {
            assert!(place(first) < place(second), "{names:?}");
        }
    }
}
