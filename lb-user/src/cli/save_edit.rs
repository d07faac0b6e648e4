//! What differs from a config file, written into its text: comments, order and spaces stay as they are. Pure.

use crate::admin::api::{BackendDifference, DiffView, RuleDifference};
use crate::config::{backend_address, prefix};
use crate::reconcile::Mark;
use toml_edit::{Array, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value};

/// A text with the differences in it.
#[derive(Debug, PartialEq)]
pub(super) struct Edited {
    pub(super) text: String,
    /// Differences that it cannot have, and why.
    pub(super) left: Vec<String>,
}

/// Write them all.
pub(super) fn edit(text: &str, diff: &DiffView) -> Result<Edited, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let mut left = Vec::new();
    for difference in &diff.backends {
        if let Err(why) = backend(&mut document, difference) {
            left.push(format!("pool {}: {}: {why}", difference.pool, difference.address));
        }
    }
    for difference in &diff.rules {
        if let Err(why) = rule(&mut document, difference) {
            left.push(format!("{}: {why}", difference.network));
        }
    }
    Ok(Edited { text: document.to_string(), left })
}

fn backend(document: &mut DocumentMut, difference: &BackendDifference) -> Result<(), String> {
    let pool = table(document.as_table_mut(), &["pool", &difference.pool]).ok_or("the file has no such pool")?;
    let list = pool.get_mut("backends").and_then(Item::as_array_mut).ok_or("the pool has no list of backends")?;
    let is = |value: &Value| address(value).and_then(|text| backend_address(text).ok()) == Some(difference.address);
    let at = list.iter().position(is);
    match (at, difference.now) {
        (Some(at), None) => remove(list, at),
        (Some(at), Some(now)) => {
            let value = list.get_mut(at).ok_or("it is gone")?;
            let decor = value.decor().clone();
            if value.is_str() && (now.weight, now.mark) != (1, Mark::Enabled) {
                let mut table = InlineTable::new();
                table.insert("address", value.as_str().unwrap_or_default().into());
                *value = Value::InlineTable(table);
            }
            if let Some(table) = value.as_inline_table_mut() {
                say(table, now.weight, now.mark);
            }
            *value.decor_mut() = decor;
        }
        (None, Some(now)) if !difference.in_file => {
            let text = difference.address.to_string();
            let value = match (now.weight, now.mark) {
                (1, Mark::Enabled) => Value::from(text),
                (weight, mark) => {
                    let mut table = InlineTable::new();
                    table.insert("address", text.into());
                    say(&mut table, weight, mark);
                    Value::InlineTable(table)
                }
            };
            push(list, value);
        }
        (None, _) => return Err("the file does not name it by its address".into()),
    }
    Ok(())
}

fn address(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.as_inline_table()?.get("address")?.as_str())
}

fn say(table: &mut InlineTable, weight: u16, mark: Mark) {
    let mark = match mark {
        Mark::Enabled => None,
        Mark::Draining => Some("draining"),
        Mark::Disabled => Some("disabled"),
    };
    // The space before the brace is a part of the last value.
    let space = table.iter_mut().last().and_then(|(_, value)| {
        let space = value.decor().suffix().and_then(RawString::as_str).map(str::to_owned)?;
        value.decor_mut().set_suffix("");
        Some(space)
    });
    let weight = (weight != 1 || table.contains_key("weight")).then(|| Value::from(i64::from(weight)));
    for (key, value) in [("weight", weight), ("state", mark.map(Value::from))] {
        match (table.get_mut(key), value) {
            (Some(old), Some(mut new)) => {
                *new.decor_mut() = old.decor().clone();
                *old = new;
            }
            (None, Some(new)) => drop(table.insert(key, new)),
            (Some(_), None) => drop(table.remove(key)),
            (None, None) => {}
        }
    }
    if let (Some(space), Some((_, value))) = (space, table.iter_mut().last()) {
        value.decor_mut().set_suffix(space);
    }
}

fn rule(document: &mut DocumentMut, rule: &RuleDifference) -> Result<(), String> {
    if rule.for_a_time {
        return Err("it holds for a time".into());
    }
    let (wanted, other) = if rule.allow { ("allow", "deny") } else { ("deny", "allow") };
    let is = |value: &Value| value.as_str().and_then(|text| prefix(text).ok()) == Some(rule.network);
    let root = document.as_table_mut();
    let shield = match &rule.service {
        None => root,
        Some(name) => table(root, &["service", name]).ok_or("the file has no such service")?,
    };
    if shield.get("shield").is_none() {
        shield.insert("shield", Item::Table(Table::new()));
    }
    let shield = table(shield, &["shield"]).ok_or("`shield` is no table")?;
    let list = shield.get_mut(other).and_then(Item::as_array_mut);
    let at = list.as_ref().and_then(|list| list.iter().position(is));
    match (list, at) {
        (Some(list), Some(at)) => remove(list, at),
        _ if rule.in_file == Some(!rule.allow) => {
            return Err(format!("the opposite stands in one of the `{other}_files`"));
        }
        _ => {}
    }
    if shield.get(wanted).is_none() {
        shield.insert(wanted, Item::Value(Value::Array(Array::new())));
    }
    let list = shield.get_mut(wanted).and_then(Item::as_array_mut).ok_or_else(|| format!("`{wanted}` is no list"))?;
    if !list.iter().any(is) {
        push(list, rule.network.to_string().into());
    }
    Ok(())
}

fn table<'t>(from: &'t mut dyn TableLike, path: &[&str]) -> Option<&'t mut dyn TableLike> {
    path.iter().try_fold(from, |table, key| table.get_mut(key)?.as_table_like_mut())
}

/// Up to the end of the line that the value before stands in, its comment included; and what follows.
fn lines(raw: Option<&RawString>) -> (String, String) {
    let text = raw.and_then(RawString::as_str).unwrap_or_default();
    match text.find('\n') {
        Some(end) => (text[..end].to_owned(), text[end..].to_owned()),
        None => (String::new(), text.to_owned()),
    }
}

/// Take a value out. What stands before it in its own line is a comment on the value before, and stays; what stands behind
/// it in its line, and above it, is on itself, and goes.
fn remove(list: &mut Array, at: usize) {
    let Some(gone) = list.get(at).map(|value| value.decor().clone()) else { return };
    let (kept, own) = lines(gone.prefix());
    list.remove(at);
    match list.get_mut(at) {
        Some(next) => {
            let (_, rest) = lines(next.decor().prefix());
            // The first of a line begins it.
            let rest = if at == 0 && !rest.contains('\n') { own } else { rest };
            next.decor_mut().set_prefix(kept + &rest);
        }
        None => {
            let behind = gone.suffix().and_then(RawString::as_str).unwrap_or_default().to_owned();
            let behind = behind + list.trailing().as_str().unwrap_or_default();
            let rest = behind.find('\n').map_or("", |end| &behind[end..]);
            let rest = if at == 0 { "" } else { rest };
            list.set_trailing(kept + rest);
        }
    }
}

/// Add a value at the end, as the others stand there.
fn push(list: &mut Array, mut value: Value) {
    let own = list.iter().last().map(|last| lines(last.decor().prefix()).1);
    // Of the last value, what stands behind it.
    let behind = match list.len().checked_sub(1).and_then(|last| list.get_mut(last)) {
        Some(last) => {
            let suffix = last.decor().suffix().and_then(RawString::as_str).unwrap_or_default().to_owned();
            last.decor_mut().set_suffix("");
            suffix
        }
        None => String::new(),
    };
    let trailing = behind + list.trailing().as_str().unwrap_or_default();
    let (comment, rest) = match trailing.find('\n') {
        Some(end) => (trailing[..end].to_owned(), trailing[end..].to_owned()),
        None => (String::new(), trailing),
    };
    let prefix = match own.as_deref() {
        // Comments above the last value are not about this one.
        Some(own) if own.contains('\n') => format!("\n{}", own.rsplit('\n').next().unwrap_or_default()),
        Some(_) => " ".into(),
        None => String::new(),
    };
    value.decor_mut().set_prefix(comment + &prefix);
    value.decor_mut().set_suffix("");
    list.push_formatted(value);
    list.set_trailing(rest);
}
