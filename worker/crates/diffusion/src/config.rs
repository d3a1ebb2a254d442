//! Reading a component's JSON config field by field, so that whatever is not understood is named, never ignored.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files::ModelFiles;

/// One JSON object from a model's files.
pub(crate) struct Config {
    file: String,
    fields: Map<String, Value>,
    known: RefCell<BTreeSet<&'static str>>,
}

impl Config {
    /// Reads `path`. Errors if it is missing or no JSON object.
    pub(crate) fn read(files: &ModelFiles, path: &str) -> Result<Self> {
        let file = files.name(path);
        let bytes = files
            .read(path)?
            .ok_or_else(|| Error::missing(&file, "is missing"))?;
        match parse(&bytes) {
            Ok(Value::Object(fields)) => Ok(Self {
                file,
                fields,
                known: RefCell::default(),
            }),
            Ok(_) => Err(Error::config(&file, "must hold a JSON object")),
            Err(error) => Err(Error::config(&file, format_args!("is not JSON: {error}"))),
        }
    }

    /// For a scheduler that is described by nothing but its class's defaults, and for tests.
    pub(crate) fn from_fields(file: &str, fields: Map<String, Value>) -> Self {
        Self {
            file: file.to_owned(),
            fields,
            known: RefCell::default(),
        }
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The field's value, or `None` where it is absent or null. Errors if its type is wrong.
    pub(crate) fn optional<T: DeserializeOwned>(&self, field: &'static str) -> Result<Option<T>> {
        self.known.borrow_mut().insert(field);
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|error| {
                    Error::config(
                        &self.file,
                        format_args!("{field} is wrong: {error}, got {value}"),
                    )
                }),
        }
    }

    /// The field's value or the reference's default.
    pub(crate) fn get<T: DeserializeOwned>(&self, field: &'static str, default: T) -> Result<T> {
        Ok(self.optional(field)?.unwrap_or(default))
    }

    /// A field that must be there.
    pub(crate) fn require<T: DeserializeOwned>(&self, field: &'static str) -> Result<T> {
        self.optional(field)?
            .ok_or_else(|| Error::config(&self.file, format_args!("{field} is missing")))
    }

    /// A count that must be at least one and stay below a bound that no real model comes near.
    pub(crate) fn count(&self, field: &'static str, default: usize) -> Result<usize> {
        let value = self.get(field, default)?;
        self.check_count(field, value)
    }

    /// A list of counts.
    pub(crate) fn counts(&self, field: &'static str, default: &[usize]) -> Result<Vec<usize>> {
        let values = self.get(field, default.to_vec())?;
        if values.is_empty() {
            return Err(Error::config(
                &self.file,
                format_args!("{field} must not be empty"),
            ));
        }
        for value in &values {
            self.check_count(field, *value)?;
        }
        Ok(values)
    }

    /// A count for every one of `length` blocks, given as one number or as a list.
    pub(crate) fn counts_per_block(
        &self,
        field: &'static str,
        default: usize,
        length: usize,
    ) -> Result<Vec<usize>> {
        let values = match self.fields.get(field) {
            Some(Value::Array(_)) => self.counts(field, &[])?,
            _ => vec![self.count(field, default)?; length],
        };
        if values.len() != length {
            return Err(Error::config(
                &self.file,
                format_args!(
                    "{field} must have {length} entries, as many as block_out_channels, got {}",
                    values.len()
                ),
            ));
        }
        Ok(values)
    }

    fn check_count(&self, field: &str, value: usize) -> Result<usize> {
        const COUNT_MAX: usize = 1 << 20;
        if (1..=COUNT_MAX).contains(&value) {
            Ok(value)
        } else {
            Err(Error::config(
                &self.file,
                format_args!("{field} must be 1..={COUNT_MAX}, got {value}"),
            ))
        }
    }

    /// A positive finite number.
    pub(crate) fn positive(&self, field: &'static str, default: f64) -> Result<f64> {
        let value: f64 = self.get(field, default)?;
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(Error::config(
                &self.file,
                format_args!("{field} must be above 0, got {value}"),
            ))
        }
    }

    /// Errors unless the field is absent, null or one of the values that this crate implements.
    pub(crate) fn only(&self, field: &'static str, supported: &[Value]) -> Result<()> {
        self.known.borrow_mut().insert(field);
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if supported.iter().any(|other| same(value, other)) => Ok(()),
            Some(value) => {
                let supported: Vec<String> = std::iter::once("null".to_owned())
                    .chain(supported.iter().map(Value::to_string))
                    .collect();
                Err(Error::unsupported(
                    &self.file,
                    format_args!(
                        "{field} = {value} is not supported, only {}",
                        supported.join(" or ")
                    ),
                ))
            }
        }
    }

    /// Marks a field as understood although its value changes nothing here.
    pub(crate) fn irrelevant(&self, fields: &[&'static str]) {
        self.known.borrow_mut().extend(fields);
    }

    /// Errors if a field was never asked for and is set to something: it may change what the model computes.
    pub(crate) fn no_unknown_fields(&self) -> Result<()> {
        let known = self.known.borrow();
        for (field, value) in &self.fields {
            let harmless =
                field.starts_with('_') || matches!(value, Value::Null | Value::Bool(false));
            if !harmless && !known.contains(field.as_str()) {
                return Err(Error::unsupported(
                    &self.file,
                    format_args!("{field} = {value} is not a field that is known here"),
                ));
            }
        }
        Ok(())
    }
}

/// Equality that does not tell 1 from 1.0.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        _ => left == right,
    }
}

/// JSON as Python writes it: `Infinity`, `-Infinity` and `NaN` outside strings are read as null.
pub(crate) fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    let first = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(first);
    };
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(next) = rest.chars().next() {
        if !in_string
            && let Some(after) = ["-Infinity", "Infinity", "NaN"]
                .iter()
                .find_map(|word| rest.strip_prefix(word))
        {
            plain.push_str("null");
            rest = after;
            continue;
        }
        let mut characters = rest.chars();
        characters.next();
        plain.push(next);
        if in_string && next == '\\' {
            plain.extend(characters.next());
        } else if next == '"' {
            in_string = !in_string;
        }
        rest = characters.as_str();
    }
    serde_json::from_str(&plain).map_err(|_| first)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        match parse(text.as_bytes()).unwrap() {
            Value::Object(fields) => Config::from_fields("unet/config.json", fields),
            _ => panic!("not an object"),
        }
    }

    #[test]
    fn pythons_infinities_are_read_as_null_outside_strings_only() {
        let value =
            parse(br#"{"a": -Infinity, "b": [NaN, Infinity], "c": "NaN \" -Infinity"}"#).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"a": null, "b": [null, null], "c": "NaN \" -Infinity"})
        );
        assert!(parse(b"{\"a\": Infinit}").is_err());
    }

    #[test]
    fn an_unsupported_value_is_named_with_its_file() {
        let error = config(r#"{"class_embed_type": "timestep"}"#)
            .only("class_embed_type", &[])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"unet/config.json: class_embed_type = "timestep" is not supported, only null"#
        );
    }

    #[test]
    fn an_unknown_field_is_an_error_unless_it_is_off() {
        assert!(
            config(r#"{"_class_name": "X", "new": null, "other": false}"#)
                .no_unknown_fields()
                .is_ok()
        );
        assert!(config(r#"{"new": "on"}"#).no_unknown_fields().is_err());
    }
}
