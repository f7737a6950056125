//! A tool's JSON Schemas, read once into the short form that plans use: `file_ops.read(path, offset?) -> text`.

use std::collections::BTreeSet;

use kamil_protocol::tool::ToolDescriptor;
use serde_json::{Map, Value};

use super::words::content_words;

/// How a plan calls a tool.
pub(super) struct Signature<'a> {
    pub(super) tool: &'a ToolDescriptor,
    /// Required arguments first, then optional ones, each in the schema's order.
    pub(super) arguments: Vec<Argument<'a>>,
    /// Names of the result's fields.
    pub(super) fields: Vec<&'a str>,
}

/// One argument.
pub(super) struct Argument<'a> {
    pub(super) name: &'a str,
    pub(super) required: bool,
    pub(super) shape: Shape<'a>,
    schema: &'a Value,
}

/// What values an argument takes.
pub(super) enum Shape<'a> {
    Text,
    OneOf(Vec<&'a str>),
    /// Anything else: JSON of the schema.
    Json,
}

impl<'a> Signature<'a> {
    pub(super) fn of(tool: &'a ToolDescriptor) -> Self {
        let required: Vec<&str> = strings(tool.arguments.get("required"));
        let mut arguments: Vec<Argument<'a>> = properties(&tool.arguments)
            .map(|(name, schema)| Argument {
                name,
                required: required.contains(&name.as_str()),
                shape: Shape::of(schema),
                schema,
            })
            .collect();
        arguments.sort_by_key(|argument| !argument.required);
        let fields = properties(&tool.result).map(|(name, _)| name.as_str()).collect();
        Self { tool, arguments, fields }
    }

    pub(super) fn argument(&self, name: &str) -> Option<&Argument<'a>> {
        self.arguments.iter().find(|argument| argument.name == name)
    }

    /// The field that stands for the whole result where a text is wanted.
    pub(super) fn main_text(&self) -> Option<&'a str> {
        let texts: Vec<&str> = properties(&self.tool.result)
            .filter(|(_, schema)| matches!(Shape::of(schema), Shape::Text))
            .map(|(name, _)| name.as_str())
            .collect();
        let usual = ["content", "text", "stdout", "result", "value", "answer"];
        usual.iter().find(|name| texts.contains(name)).copied().or(match texts.as_slice() {
            [only] => Some(*only),
            _ => None,
        })
    }

    /// One line for a prompt.
    pub(super) fn line(&self) -> String {
        let arguments: Vec<String> = self
            .arguments
            .iter()
            .filter(|argument| self.is_usual(argument))
            .map(Argument::describe)
            .collect();
        let result = self.main_text().map(|field| format!(" -> {field}")).unwrap_or_default();
        format!("{}({}){result}  # {}\n", self.tool.name, arguments.join(", "), self.tool.description)
    }

    /// Whether every prompt shows an argument. Small models fill in whatever they see, so the rest is shown only to requests that
    /// speak of it.
    fn is_usual(&self, argument: &Argument<'_>) -> bool {
        argument.required
            || matches!(argument.shape, Shape::OneOf(_))
            || self.tool.examples.iter().any(|example| example.arguments.get(argument.name).is_some())
    }

    /// The unusual arguments that a request with these words speaks of.
    pub(super) fn unusual(&self, asked: &BTreeSet<String>) -> Vec<&'a str> {
        let speaks = |argument: &&Argument<'a>| {
            let described = argument.schema.get("description").and_then(Value::as_str).unwrap_or_default();
            let about = content_words(&format!("{} {described}", argument.name.replace('_', " ")));
            !self.is_usual(argument) && !about.is_disjoint(asked)
        };
        self.arguments.iter().filter(speaks).map(|argument| argument.name).collect()
    }

    /// The example call with these arguments, as a plan writes it.
    pub(super) fn call(&self, arguments: &Value) -> String {
        let given: Vec<String> = self
            .arguments
            .iter()
            .filter_map(|argument| {
                arguments.get(argument.name).map(|value| format!("{}={value}", argument.name))
            })
            .collect();
        format!("{}({})", self.tool.name, given.join(", "))
    }
}

impl Argument<'_> {
    /// The argument's schema on its own, with the definitions that it may refer to.
    pub(super) fn standalone_schema(&self, tool: &ToolDescriptor) -> Value {
        let mut schema = self.schema.clone();
        for key in ["$defs", "definitions"] {
            if let (Some(object), Some(definitions)) = (schema.as_object_mut(), tool.arguments.get(key)) {
                object.insert(key.to_owned(), definitions.clone());
            }
        }
        schema
    }

    /// As short as it can be: in a prompt every token is read again and again.
    fn describe(&self) -> String {
        if let Shape::OneOf(values) = &self.shape {
            let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            return format!("{}: {}", self.name, values.join(" | "));
        }
        let default = self
            .schema
            .get("default")
            .filter(|value| value.as_str().is_some_and(|text| !text.is_empty()) || value.is_boolean());
        match (&self.shape, self.required, default) {
            (_, false, Some(default)) => format!("{} = {default}", self.name),
            (_, false, None) => format!("{}?", self.name),
            (Shape::Text, ..) => self.name.to_owned(),
            _ => format!("{}: {}", self.name, type_name(self.schema)),
        }
    }
}

impl<'a> Shape<'a> {
    fn of(schema: &'a Value) -> Self {
        let values = strings(schema.get("enum"));
        if !values.is_empty() {
            return Self::OneOf(values);
        }
        let options: Vec<&Value> =
            ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.as_array()).flatten().collect();
        let constants: Vec<&str> =
            options.iter().filter_map(|option| option.get("const")?.as_str()).collect();
        if !constants.is_empty() && constants.len() == options.len() {
            return Self::OneOf(constants);
        }
        let bounded = schema.get("pattern").is_some() || schema.get("format").is_some();
        if types(schema).contains(&"string") && !bounded { Self::Text } else { Self::Json }
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        many => strings(many),
    }
}

fn type_name(schema: &Value) -> String {
    let named: Vec<&str> = types(schema).into_iter().filter(|name| *name != "null").collect();
    if named.is_empty() { "json".to_owned() } else { named.join(" | ") }
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter)
}
