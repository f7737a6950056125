//! A tool's JSON Schemas, read once into the short form that plans use: `file_ops.read(path, offset?) -> text`.

use std::collections::BTreeSet;

use kamil_protocol::tool::ToolDescriptor;
use serde_json::{Map, Value};

use super::{
    shorten,
    words::{content_words, is_generic},
};

/// Fields of a result that a prompt names.
const MOST_FIELDS: usize = 6;
/// Bytes of a tool's description, and of an argument's, that a prompt repeats.
const MOST_DESCRIPTION_BYTES: usize = 160;
const MOST_DETAIL_BYTES: usize = 110;

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

    /// Whether it may return what an argument of this name wants: by a field of its result or, where none is told, by its own name.
    pub(super) fn produces(&self, argument: &str) -> bool {
        if !self.fields.is_empty() {
            return self.fields.contains(&argument);
        }
        let wanted = content_words(&argument.replace('_', " "));
        let name = content_words(&self.tool.name.replace('_', " "));
        wanted.iter().any(|word| !is_generic(word) && name.contains(word))
    }

    /// Whether a field of the result is a list.
    pub(super) fn returns_list(&self) -> bool {
        properties(&self.tool.result).any(|(_, schema)| types(schema).contains(&"array"))
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
            .map(|argument| argument.describe(self.tool.examples.is_empty()))
            .collect();
        // Of a tool with examples, the field that matters is enough; of any other, all that it returns.
        let result = match self.main_text() {
            Some(field) if !self.tool.examples.is_empty() => format!(" -> {field}"),
            _ if self.tool.examples.is_empty() && !self.fields.is_empty() => {
                format!(
                    " -> {}",
                    self.fields.iter().take(MOST_FIELDS).copied().collect::<Vec<_>>().join(", ")
                )
            }
            _ => String::new(),
        };
        let about = brief(&self.tool.description, MOST_DESCRIPTION_BYTES);
        format!("{}({}){result}  # {about}\n", self.tool.name, arguments.join(", "))
    }

    /// What the arguments mean, a line each, of a tool without examples.
    pub(super) fn details(&self) -> String {
        if !self.tool.examples.is_empty() {
            return String::new();
        }
        let line = |argument: &Argument<'_>| {
            let about = argument.schema.get("description").and_then(Value::as_str).unwrap_or_default();
            let about = brief(about, MOST_DETAIL_BYTES);
            (about.split_whitespace().count() > 2).then(|| format!("    {}: {about}\n", argument.name))
        };
        self.arguments.iter().filter_map(line).collect()
    }

    /// Whether every prompt shows an argument. Small models fill in whatever they see, so the rest is shown only to requests that
    /// speak of it.
    fn is_usual(&self, argument: &Argument<'_>) -> bool {
        argument.required
            || matches!(argument.shape, Shape::OneOf(_))
            || self.tool.examples.is_empty()
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
    fn describe(&self, marks_optional: bool) -> String {
        if let Shape::OneOf(values) = &self.shape {
            let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            let optional = if self.required || !marks_optional { "" } else { "?" };
            return format!("{}{optional}: {}", self.name, values.join(" | "));
        }
        let default = self
            .schema
            .get("default")
            .filter(|value| value.as_str().is_some_and(|text| !text.is_empty()) || value.is_boolean());
        match (&self.shape, self.required, default) {
            (_, false, Some(default)) => format!("{} = {default}", self.name),
            (Shape::Text, false, None) => format!("{}?", self.name),
            (_, false, None) => format!("{}?: {}", self.name, type_name(self.schema)),
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

/// The beginning of a text on one line, whole words.
fn brief(text: &str, most_bytes: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= most_bytes {
        return line;
    }
    let cut = shorten(&line, most_bytes);
    format!("{}…", cut.rsplit_once(' ').map_or(cut, |(whole, _)| whole))
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
