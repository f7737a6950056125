//! What a tool is: a description for planners, typed arguments and result, and the code that runs.

use std::time::{Duration, Instant};

use jsonschema::Validator;
use kamil_protocol::{
    ErrorCode, Problem,
    task::{Source, Trust},
    tool::{SideEffect, ToolDescriptor, ToolExample},
};
use kamil_sandbox::CancelToken;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::failure::Failure;

/// At most this many faults of one call are named.
const MAX_FAULTS: usize = 5;
/// A fault is described in at most this many characters, however large the value it quotes.
const MAX_FAULT_CHARS: usize = 300;

/// One call as the tool sees it.
pub(crate) struct Call {
    started: Instant,
    deadline: Instant,
    pub(crate) cancel: CancelToken,
}

impl Call {
    pub(crate) fn new(limit: Duration, cancel: CancelToken) -> Self {
        let started = Instant::now();
        Self { started, deadline: started + limit, cancel }
    }

    /// Time left, in milliseconds, at least 1.
    pub(crate) fn remaining_ms(&self) -> u64 {
        let left = self.deadline.saturating_duration_since(Instant::now()).as_millis();
        u64::try_from(left).unwrap_or(u64::MAX).max(1)
    }

    pub(crate) fn deadline_failure(&self) -> Failure {
        let after = self.deadline.duration_since(self.started).as_millis();
        Failure::Deadline { after_ms: u64::try_from(after).unwrap_or(u64::MAX) }
    }

    /// Fails once the deadline has passed or the caller has gone; loops ask it at every turn.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        if Instant::now() >= self.deadline {
            return Err(self.deadline_failure());
        }
        Ok(())
    }
}

/// A result with what must be known about it.
#[derive(Debug)]
pub(crate) struct Product<R> {
    pub(crate) output: R,
    /// Where its content came from, beyond the arguments.
    pub(crate) sources: &'static [Source],
    /// How far the content may be believed, the arguments aside.
    pub(crate) trust: Trust,
    /// Layers of confinement that held; empty when no process was started.
    pub(crate) enforced: Vec<String>,
}

impl<R> Product<R> {
    /// Computed by the tool itself.
    pub(crate) fn computed(output: R) -> Self {
        Self { output, sources: &[Source::Tool], trust: Trust::Trusted, enforced: Vec::new() }
    }

    /// Taken from files, which anyone may have written.
    pub(crate) fn from_files(output: R) -> Self {
        Self { output, sources: &[Source::Tool, Source::File], trust: Trust::Untrusted, enforced: Vec::new() }
    }

    pub(crate) fn enforced(mut self, layers: Vec<String>) -> Self {
        self.enforced = layers;
        self
    }
}

type Run = Box<dyn Fn(Value, &Call) -> Result<Product<Value>, Failure> + Send + Sync>;
type CommandLine = Box<dyn Fn(&Value) -> Vec<String> + Send + Sync>;

/// What a tool says about itself.
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) side_effect: SideEffect,
    pub(crate) idempotent: bool,
    pub(crate) timeout_ms: u64,
    /// Requests and the arguments that answer them. They teach small models; the tests hold them to the schema.
    pub(crate) examples: Vec<(&'static str, Value)>,
}

/// A registered tool.
pub(crate) struct Tool {
    pub(crate) descriptor: ToolDescriptor,
    validator: Validator,
    run: Run,
    command: Option<CommandLine>,
}

impl Tool {
    /// A tool whose schemas come from its argument and result types.
    pub(crate) fn new<A, R>(
        about: About,
        run: impl Fn(A, &Call) -> Result<Product<R>, Failure> + Send + Sync + 'static,
    ) -> Result<Self, Failure>
    where
        A: DeserializeOwned + JsonSchema,
        R: Serialize + JsonSchema,
    {
        let arguments = schema_of::<A>();
        let validator = jsonschema::validator_for(&arguments).map_err(|error| {
            Failure::Internal(format!("the schema of {} is unusable: {error}", about.name))
        })?;
        let descriptor = ToolDescriptor {
            name: about.name.to_owned(),
            description: about.description.to_owned(),
            arguments,
            result: schema_of::<R>(),
            side_effect: about.side_effect,
            idempotent: about.idempotent,
            timeout_ms: about.timeout_ms,
            examples: about
                .examples
                .into_iter()
                .map(|(request, arguments)| ToolExample { request: request.to_owned(), arguments })
                .collect(),
        };
        let run = move |arguments: Value, call: &Call| {
            let arguments = serde_json::from_value(arguments).map_err(|error| Failure::Argument {
                argument: "",
                reason: format!("they pass the schema but not the tool: {error}"),
            })?;
            let Product { output, sources, trust, enforced } = run(arguments, call)?;
            let output = serde_json::to_value(output).map_err(|error| {
                Failure::Internal(format!("the result cannot be written as JSON: {error}"))
            })?;
            Ok(Product { output, sources, trust, enforced })
        };
        Ok(Self { descriptor, validator, run: Box::new(run), command: None })
    }

    /// What would be executed, for tools that start a program.
    pub(crate) fn with_command(
        mut self,
        command: impl Fn(&Value) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.command = Some(Box::new(command));
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.descriptor.name
    }

    /// The part of the name before the dot.
    pub(crate) fn family(&self) -> &str {
        self.name().split('.').next().unwrap_or_default()
    }

    pub(crate) fn command(&self, arguments: &Value) -> Option<Vec<String>> {
        self.command.as_ref().map(|command| command(arguments))
    }

    /// Whether a second run would do something that the first has not done, so that keys must be kept.
    pub(crate) fn needs_receipt(&self) -> bool {
        !self.descriptor.idempotent
            && matches!(self.descriptor.side_effect, SideEffect::Write | SideEffect::External)
    }

    pub(crate) fn run(&self, arguments: Value, call: &Call) -> Result<Product<Value>, Failure> {
        call.check()?;
        (self.run)(arguments, call)
    }

    /// Checks the arguments against the schema.
    ///
    /// # Errors
    /// `invalid_arguments`, with path and reason of each fault in the detail and, for programs, in `data.errors`.
    pub(crate) fn validate(&self, arguments: &Value) -> Result<(), Problem> {
        let faults: Vec<(String, String)> = self
            .validator
            .iter_errors(arguments)
            .take(MAX_FAULTS)
            .map(|error| {
                let reason = error.to_string().chars().take(MAX_FAULT_CHARS).collect();
                (error.instance_path().to_string(), reason)
            })
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        let listed: Vec<String> = faults
            .iter()
            .map(
                |(path, reason)| if path.is_empty() { reason.clone() } else { format!("`{path}`: {reason}") },
            )
            .collect();
        let data: Vec<Value> = faults
            .iter()
            .map(|(path, reason)| serde_json::json!({ "path": path, "reason": reason }))
            .collect();
        Err(Problem::new(
            ErrorCode::InvalidArguments,
            format!("the arguments of {} do not match its schema: {}", self.name(), listed.join("; ")),
        )
        .next(format!("{} takes: {}.", self.name(), self.signature()))
        .data(serde_json::json!({ "errors": data })))
    }

    /// Names of the arguments, for error messages.
    fn signature(&self) -> String {
        let required = self.descriptor.arguments.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|other| other == name));
        let Some(properties) = self.descriptor.arguments.get("properties").and_then(Value::as_object) else {
            return "no arguments".to_owned();
        };
        let names: Vec<String> = properties
            .keys()
            .map(|name| if is_required(name) { format!("{name} (required)") } else { name.clone() })
            .collect();
        if names.is_empty() { "no arguments".to_owned() } else { names.join(", ") }
    }
}

/// The JSON Schema of a type, without what only costs a planner tokens.
fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.shift_remove("description");
        if root.get("type").is_some_and(|kind| kind == "object") {
            root.entry("properties").or_insert_with(|| Value::Object(serde_json::Map::new()));
        }
    }
    tidy(&mut schema);
    schema
}

/// Removes `title` and `format` of every subschema; the names of properties are left alone.
fn tidy(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    members.shift_remove("title");
    members.shift_remove("format");
    for (name, member) in members.iter_mut() {
        match (name.as_str(), &mut *member) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(tidy),
            ("anyOf" | "oneOf" | "allOf", Value::Array(items)) => items.iter_mut().for_each(tidy),
            ("items" | "additionalProperties", member) => tidy(member),
            _ => {}
        }
    }
}
