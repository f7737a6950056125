//! A tool's JSON Schemas, read once into the short form that plans use: `file_ops.read(path: text) -> content, lines`.

use kamil_protocol::tool::ToolDescriptor;
use serde_json::{Map, Value};

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
        usual.iter().find(|name| texts.contains(name)).copied().or_else(|| match texts.as_slice() {
            [only] => Some(*only),
            _ => None,
        })
    }

    /// One line for a prompt.
    pub(super) fn line(&self) -> String {
        let arguments: Vec<String> = self.arguments.iter().map(Argument::describe).collect();
        let result =
            if self.fields.is_empty() { String::new() } else { format!(" -> {}", self.fields.join(", ")) };
        format!("{}({}){result}  # {}\n", self.tool.name, arguments.join(", "), self.tool.description)
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

    fn describe(&self) -> String {
        let kind = match &self.shape {
            Shape::Text => "text".to_owned(),
            Shape::OneOf(values) => {
                values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(" | ")
            }
            Shape::Json => type_name(self.schema),
        };
        if self.required {
            return format!("{}: {kind}", self.name);
        }
        match self.schema.get("default").filter(|value| !value.is_null()) {
            Some(default) => format!("{}: {kind} = {default}", self.name),
            None => format!("{}?: {kind}", self.name),
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
