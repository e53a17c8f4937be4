//! Checks JSON against the parts of JSON Schema that vendors' descriptions use. Keys a schema does not
//! name are refused.

use serde_json::Value;

/// Says where `value` is not what `schema` asks for; `root` is the document the schema is part of.
pub(crate) fn violation(value: &Value, schema: &Value, root: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap();
        return violation(value, target, root, at);
    }
    for many in ["oneOf", "anyOf"] {
        if let Some(schemas) = schema[many].as_array() {
            let found: Vec<String> =
                schemas.iter().filter_map(|schema| violation(value, schema, root, at)).collect();
            return (found.len() == schemas.len()).then(|| found.join(" | "));
        }
    }
    let wrong = |why: &str| Some(format!("{at}: {why}"));
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds.is_empty() && !kinds.contains(&kind) {
        return wrong(&format!("{kind} instead of {kinds:?}"));
    }
    let bound = |name: &str| schema[name].as_u64();
    let size = match value {
        Value::String(text) => text.encode_utf16().count() as u64,
        Value::Array(list) => list.len() as u64,
        Value::Number(number) => number.as_u64().unwrap_or(0),
        _ => 0,
    };
    let (least, most) = match value {
        Value::String(_) => ("minLength", "maxLength"),
        Value::Array(_) => ("minItems", "maxItems"),
        _ => ("minimum", "maximum"),
    };
    if bound(least).is_some_and(|it| size < it) || bound(most).is_some_and(|it| size > it) {
        return wrong(&format!("{size} is out of bounds"));
    }
    if let Some(list) = value.as_array() {
        return list
            .iter()
            .enumerate()
            .find_map(|(index, it)| violation(it, &schema["items"], root, &format!("{at}/{index}")));
    }
    if let Some(object) = value.as_object() {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        if let Some(name) = required.iter().find(|name| !object.contains_key(name.as_str().unwrap())) {
            return wrong(&format!("{name} is missing"));
        }
        return object.iter().find_map(|(name, it)| match schema["properties"].get(name) {
            Some(schema) => violation(it, schema, root, &format!("{at}/{name}")),
            None => wrong(&format!("{name} is unknown")),
        });
    }
    None
}
