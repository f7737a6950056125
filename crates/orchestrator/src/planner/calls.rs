//! Reads a plan: lines such as `s2 = file_ops.write(path="b.txt", content=s1)`, ended by `answer`.

use kamil_protocol::{
    StepId,
    flow::{Condition, ForEach, OutputRef, Test},
    task::{StepKind, StepSpec},
};
use serde_json::{Map, Value, json};

use super::{
    rules::specialization,
    signature::{Shape, Signature},
};

/// Reads the steps of a plan.
///
/// # Errors
/// What is wrong, on which line, in words for the model that wrote it.
pub(super) fn read_plan(signatures: &[Signature<'_>], text: &str) -> Result<Vec<StepSpec>, String> {
    let mut steps: Vec<StepSpec> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line == "answer" || line == "answer()" {
            return Ok(steps);
        }
        if line.is_empty() || line.starts_with("```") || line == "Plan:" {
            continue;
        }
        let step = Reader { signatures, earlier: &steps, rest: line }
            .step()
            .map_err(|error| format!("line {}, `{}`: {error}.", number + 1, clip(line)))?;
        steps.push(step);
    }
    if steps.is_empty() {
        return Err("the reply is neither calls, one a line, nor the line `answer`.".to_owned());
    }
    Ok(steps)
}

fn clip(line: &str) -> String {
    line.chars().take(120).collect()
}

/// What the bare name of an earlier step means.
#[derive(Clone, Copy)]
enum Stands {
    /// Its whole output.
    Whole,
    /// The field of its output, if it has only one.
    OnlyField,
    /// The text that it holds.
    Text,
}

fn speaks_of_item(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.contains_key("$item") || members.values().any(speaks_of_item),
        Value::Array(items) => items.iter().any(speaks_of_item),
        _ => false,
    }
}

struct Reader<'a> {
    signatures: &'a [Signature<'a>],
    earlier: &'a [StepSpec],
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn step(mut self) -> Result<StepSpec, String> {
        let name = self.word();
        let id: StepId =
            name.parse().map_err(|_| "a line is `s1 = tool(argument=value)` or `answer`".to_owned())?;
        if self.earlier.iter().any(|step| step.id == id) {
            return Err(format!("`{id}` is used twice; number the steps s1, s2, s3"));
        }
        self.expect('=').map_err(|_| "a line is `s1 = tool(argument=value)` or `answer`".to_owned())?;
        let tool = self.word().to_owned();
        let signature = self.signatures.iter().find(|signature| signature.tool.name == tool);
        if signature.is_none() && tool != "reason" {
            let known: Vec<&str> =
                self.signatures.iter().map(|signature| signature.tool.name.as_str()).collect();
            return Err(format!("there is no tool `{tool}`; the tools are {}", known.join(", ")));
        }
        let mut inputs = self.arguments(signature)?;
        let for_each = self.list_to_run_over()?;
        if for_each.is_none() && inputs.values().any(speaks_of_item) {
            return Err("`item` is an item of a list: end the line with ` for s1.list`".to_owned());
        }
        let when = self.condition()?;
        if !self.rest.trim().is_empty() {
            return Err(format!("`{}` follows the call", clip(self.rest.trim())));
        }
        let (kind, tool, specialization) = if signature.is_some() {
            (StepKind::Tool, Some(tool), None)
        } else {
            let Some(Value::String(task)) = inputs.remove("task") else {
                return Err("`reason` needs `task`, a text".to_owned());
            };
            let wants = specialization(&task).to_owned();
            inputs.insert("instruction".to_owned(), Value::String(task));
            (StepKind::Reason, None, Some(wants))
        };
        Ok(StepSpec { tool, inputs, specialization, for_each, when, ..StepSpec::new(id, kind) })
    }

    /// ` for s1.files`: once for each item of a list.
    fn list_to_run_over(&mut self) -> Result<Option<ForEach>, String> {
        if !self.take_word("for") {
            return Ok(None);
        }
        let over = self.place(Stands::Whole)?;
        Ok(Some(ForEach { over, limit: None }))
    }

    /// ` if s1.rows > 0`.
    fn condition(&mut self) -> Result<Option<Condition>, String> {
        if !self.take_word("if") {
            return Ok(None);
        }
        let value = self.place(Stands::Whole)?;
        let tests = ["==", "!=", ">", "<", "contains", "exists"];
        self.rest = self.rest.trim_start();
        let Some(test) = tests.into_iter().find(|test| self.rest.starts_with(test)) else {
            return Err(format!("a condition is ` if s1.field > 1`; its tests are {}", tests.join(", ")));
        };
        self.rest = self.rest.get(test.len()..).unwrap_or_default();
        if test == "exists" {
            return Ok(Some(Condition { value, is: Test::Exists(true) }));
        }
        let other = self.value(Stands::Whole)?;
        let number = || other.as_f64().ok_or_else(|| format!("`{test}` compares with a number"));
        let is = match test {
            "==" => Test::Equals(other),
            "!=" => Test::NotEquals(other),
            ">" => Test::GreaterThan(number()?),
            "<" => Test::LessThan(number()?),
            _ => Test::Contains(other),
        };
        Ok(Some(Condition { value, is }))
    }

    /// A place in the output of an earlier step.
    fn place(&mut self, stands: Stands) -> Result<OutputRef, String> {
        self.rest = self.rest.trim_start();
        let reference = self.reference(stands)?;
        serde_json::from_value(reference).map_err(|error| error.to_string())
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        match self.rest.trim_start().strip_prefix(wanted) {
            Some(rest) if rest.starts_with(' ') => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn arguments(&mut self, signature: Option<&Signature<'_>>) -> Result<Map<String, Value>, String> {
        self.expect('(')?;
        let mut inputs = Map::new();
        if self.take(')') {
            return Ok(inputs);
        }
        loop {
            let name = self.word().to_owned();
            let known = signature
                .map_or(matches!(name.as_str(), "task" | "about"), |tool| tool.argument(&name).is_some());
            if !known {
                let names: Vec<&str> = signature.map_or(vec!["task", "about"], |tool| {
                    tool.arguments.iter().map(|argument| argument.name).collect()
                });
                return Err(format!("there is no argument `{name}`; the arguments are {}", names.join(", ")));
            }
            self.expect('=')?;
            let text = signature
                .and_then(|tool| tool.argument(&name))
                .is_some_and(|argument| matches!(argument.shape, Shape::Text));
            let value = self.value(if text { Stands::Text } else { Stands::OnlyField })?;
            if inputs.insert(name.clone(), value).is_some() {
                return Err(format!("the argument `{name}` is given twice"));
            }
            if self.take(')') {
                return Ok(inputs);
            }
            self.expect(',')?;
        }
    }

    fn value(&mut self, stands: Stands) -> Result<Value, String> {
        self.rest = self.rest.trim_start();
        if self.take('[') {
            return self.list();
        }
        if self.refers_to_item() {
            let path = self.word().strip_prefix("item").unwrap_or_default().replace('.', "/");
            return Ok(json!({"$item": path}));
        }
        if self.refers_to_step() {
            return self.reference(stands);
        }
        let wrong =
            format!("`{}` is not a value: write JSON, or the name of an earlier step", clip(self.rest));
        // A text or an object ends by itself; a number or a word ends where something else begins.
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let written = if self.rest.starts_with(bare) {
            let end = self.rest.find(|c| !bare(c)).unwrap_or(self.rest.len());
            self.rest.get(..end).unwrap_or_default()
        } else {
            self.rest
        };
        let mut values = serde_json::Deserializer::from_str(written).into_iter::<Value>();
        let Some(Ok(value)) = values.next() else { return Err(wrong) };
        self.rest = self.rest.get(values.byte_offset()..).unwrap_or_default();
        Ok(value)
    }

    fn list(&mut self) -> Result<Value, String> {
        let mut items = Vec::new();
        if self.take(']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(Stands::Whole)?);
            if self.take(']') {
                return Ok(Value::Array(items));
            }
            self.expect(',')?;
        }
    }

    fn refers_to_item(&self) -> bool {
        let rest = self.rest.strip_prefix("item");
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    }

    fn refers_to_step(&self) -> bool {
        let mut characters = self.rest.chars();
        characters.next() == Some('s') && characters.next().is_some_and(|c| c.is_ascii_digit())
    }

    fn reference(&mut self, stands: Stands) -> Result<Value, String> {
        let word = self.word();
        let (name, field) = word.split_once('.').map_or((word, None), |(name, field)| (name, Some(field)));
        let Some(step) = self.earlier.iter().find(|step| step.id.as_str() == name) else {
            return Err(format!("`{name}` is not an earlier step"));
        };
        let source = step
            .tool
            .as_deref()
            .and_then(|tool| self.signatures.iter().find(|known| known.tool.name == tool));
        let path = match (field, source) {
            // What a model works out is one text.
            (_, None) => String::new(),
            (None, Some(source)) => {
                let only = source.fields.first().copied().filter(|_| source.fields.len() == 1);
                let field = match stands {
                    Stands::Whole => None,
                    Stands::OnlyField => only,
                    Stands::Text => source.main_text().or(only),
                };
                field.map(|field| format!("/{field}")).unwrap_or_default()
            }
            (Some(field), Some(source)) => {
                let first = field.split('.').next().unwrap_or(field);
                if !source.fields.is_empty() && !source.fields.contains(&first) {
                    return Err(format!(
                        "the result of `{name}` has no `{first}`; it has {}",
                        source.fields.join(", ")
                    ));
                }
                format!("/{}", field.replace('.', "/"))
            }
        };
        Ok(json!({"$from": name, "path": path}))
    }

    fn word(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-')))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn take(&mut self, wanted: char) -> bool {
        match self.rest.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) {
            return Ok(());
        }
        let found = self
            .rest
            .trim_start()
            .chars()
            .next()
            .map_or("the end of the line".to_owned(), |c| format!("`{c}`"));
        Err(format!("`{wanted}` is expected where {found} stands"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::fixture::tools;

    fn read(text: &str) -> Result<Vec<StepSpec>, String> {
        let tools = tools();
        let signatures: Vec<Signature<'_>> = tools.iter().map(Signature::of).collect();
        read_plan(&signatures, text)
    }

    #[test]
    fn results_travel_from_call_to_call() {
        let plan = "s1 = file_ops.read(path=\"a.txt\")\ns2 = reason(task=\"Write a Python function\", about=[s1.text, \"x\"])\n\
                    s3 = file_ops.write(path=\"b.txt\", text=s1)\ns4 = file_ops.write(path=\"c\", text=s2)\nanswer";
        let steps = read(plan).unwrap();
        assert_eq!(steps.len(), 4);
        assert_eq!(steps[1].kind, StepKind::Reason);
        assert_eq!(steps[1].specialization.as_deref(), Some("coding"));
        assert_eq!(steps[1].inputs["about"], json!([{"$from": "s1", "path": "/text"}, "x"]));
        // Where a text is wanted, the text of the result is meant.
        assert_eq!(steps[2].inputs["text"], json!({"$from": "s1", "path": "/text"}));
        assert_eq!(steps[3].inputs["text"], json!({"$from": "s2", "path": ""}));
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let steps = read("s1 = ml_tools.train(seed=7, dataset=\"a \\\"b\\\", (c)\")\ns2 = ml_tools.train(seed=-1.5e3)\nanswer").unwrap();
        assert_eq!(steps[0].inputs["seed"], json!(7));
        assert_eq!(steps[0].inputs["dataset"], json!("a \"b\", (c)"));
        assert_eq!(steps[1].inputs["seed"], json!(-1500.0));
    }

    #[test]
    fn a_call_may_run_over_a_list_and_on_a_condition() {
        let steps = read(
            "s1 = calc.evaluate(expression=\"2\")\ns2 = file_ops.read(path=item.name) for s1\n\
             s3 = file_ops.read(path=item, offset=7) for s1.result if s1.result != \"x y\"\n\
             s4 = file_ops.read(path=s1) if s2 exists\ns5 = file_ops.read(path=\"item\") if s1.result > -1.5\nanswer",
        )
        .unwrap();
        let of = |at: usize| serde_json::to_value(&steps[at]).unwrap();
        assert_eq!(of(1)["for_each"], json!({"over": {"$from": "s1"}}));
        assert_eq!(of(1)["inputs"], json!({"path": {"$item": "/name"}}));
        assert_eq!(of(2)["for_each"], json!({"over": {"$from": "s1", "path": "/result"}}));
        assert_eq!(of(2)["inputs"], json!({"path": {"$item": ""}, "offset": 7}));
        assert_eq!(
            of(2)["when"],
            json!({"value": {"$from": "s1", "path": "/result"}, "is": {"not_equals": "x y"}})
        );
        assert_eq!(of(3)["when"]["is"], json!({"exists": true}));
        assert_eq!(of(3)["inputs"], json!({"path": {"$from": "s1", "path": "/result"}}));
        assert_eq!(of(4)["when"]["is"], json!({"greater_than": -1.5}));
        assert_eq!(of(4)["inputs"], json!({"path": "item"}));
        for (plan, told) in [
            ("s1 = file_ops.read(path=item)", "end the line with ` for s1.list`"),
            ("s1 = file_ops.read(path=item) for s7", "`s7` is not an earlier step"),
            ("s1 = file_ops.read(path=\"x\")\ns2 = file_ops.read(path=\"y\") if s1 ~ 1", "its tests are =="),
            (
                "s1 = file_ops.read(path=\"x\")\ns2 = file_ops.read(path=\"y\") if s1 > \"a\"",
                "compares with a number",
            ),
        ] {
            let error = read(plan).unwrap_err();
            assert!(error.contains(told), "{plan}: {error}");
        }
    }

    #[test]
    fn an_answer_alone_is_an_empty_plan() {
        assert_eq!(read("answer").unwrap(), []);
        assert_eq!(read("```\nanswer\n```").unwrap(), []);
    }

    #[test]
    fn every_mistake_is_told_precisely() {
        for (plan, told) in [
            ("", "neither calls"),
            ("I would train a model.", "`s1 = tool(argument=value)`"),
            ("s1 = file_ops.fly(path=\"x\")", "there is no tool `file_ops.fly`; the tools are file_ops.read"),
            ("s1 = file_ops.read(file=\"x\")", "there is no argument `file`; the arguments are path, offset"),
            ("s1 = file_ops.read(path=s2.text)", "`s2` is not an earlier step"),
            ("s1 = file_ops.read(path=\"x\")\ns1 = file_ops.read(path=\"y\")", "line 2"),
            (
                "s1 = file_ops.read(path=\"x\")\ns2 = file_ops.write(path=\"y\", text=s1.size)",
                "has no `size`; it has path, text",
            ),
            ("s1 = file_ops.read(path=\"x\", path=\"y\")", "given twice"),
            ("s1 = file_ops.read(path=\"x)", "is not a value"),
            ("s1 = file_ops.read(path=\"x\"", "`,` is expected where the end of the line stands"),
            ("s1 = file_ops.read(path=\"x\") and more", "follows the call"),
            ("s1 = reason(about=1)", "`reason` needs `task`"),
        ] {
            let error = read(plan).unwrap_err();
            assert!(error.contains(told), "{plan}: {error}");
        }
    }
}
