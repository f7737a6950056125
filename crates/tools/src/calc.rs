//! `calc.evaluate`: arithmetic with units, by fend.

use fend_core::{Context, Interrupt};
use kamil_protocol::tool::SideEffect;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    excerpt,
    failure::Failure,
    tool::{About, Call, Product, Tool},
};

/// What is kept of a result, in bytes of JSON; 2^10000 has 3,011 digits.
const RESULT_JSON_BYTES: usize = 8 * 1024;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CalcArguments {
    #[schemars(length(min = 1, max = 1000))]
    expression: String,
}

#[derive(Serialize, JsonSchema)]
struct CalcResult {
    result: String,
    truncated: bool,
}

struct Stop<'a>(&'a Call);

impl Interrupt for Stop<'_> {
    fn should_interrupt(&self) -> bool {
        self.0.check().is_err()
    }
}

pub(crate) fn tools() -> Result<Vec<Tool>, Failure> {
    let about = About {
        name: "calc.evaluate",
        description: "Calculate exactly: arithmetic, powers, roots, percentages, units and their conversion.",
        side_effect: SideEffect::Pure,
        idempotent: true,
        timeout_ms: 1_000,
        examples: vec![
            ("What is 17.5% of 240?", json!({"expression": "17.5% of 240"})),
            ("Convert 10 miles to km", json!({"expression": "10 miles to km"})),
            ("How much is 3847 times 291?", json!({"expression": "3847 * 291"})),
        ],
    };
    let tool = Tool::new(about, |arguments: CalcArguments, call| {
        let mut context = Context::new();
        context.disable_rng();
        let result = fend_core::evaluate_with_interrupt(&arguments.expression, &mut context, &Stop(call));
        call.check()?;
        let result = result.map_err(|reason| {
            Failure::failed_next(
                format!("`{}` cannot be calculated: {reason}", arguments.expression),
                "Write one expression, such as `(2 + 3) * 4` or `5 km to miles`.",
            )
        })?;
        let (kept, truncated) = excerpt::fit(result.get_main_result(), RESULT_JSON_BYTES);
        Ok(Product::computed(CalcResult { result: kept.to_owned(), truncated }))
    })?;
    Ok(vec![tool])
}
