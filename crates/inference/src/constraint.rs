//! Constrained decoding with llguidance: which tokens may come next, and which must.

use std::sync::Arc;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{InferenceCapabilities, SimpleVob, TokEnv, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use crate::error::InferenceError;
use crate::request::Constraint;

/// Compiles constraints for one model. Building it walks the whole vocabulary (hundreds of milliseconds), so there is
/// one per loaded model.
pub(crate) struct Constraints {
    factory: ParserFactory,
}

impl Constraints {
    pub(crate) fn new(model: &Arc<LlamaModel>) -> Result<Self, InferenceError> {
        let base = LlamaSampler::llguidance_tok_env(model);
        let env: TokEnv = Arc::new(CanonicalVocabulary { model: Arc::clone(model), base });
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, capabilities, &slices).map_err(refused)?;
        factory.quiet();
        Ok(Self { factory })
    }

    /// Compiles `constraint`.
    pub(crate) fn compile(&self, constraint: &Constraint) -> Result<TokenConstraint, InferenceError> {
        let grammar = match constraint {
            Constraint::JsonSchema(schema) => TopLevelGrammar::from_json_schema(compact(schema)),
            Constraint::Grammar(lark) => TopLevelGrammar::from_lark(lark.clone()),
            Constraint::Regex(pattern) => TopLevelGrammar::from_regex(pattern),
        };
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        if let Some(reason) = matcher.get_error() {
            return Err(InferenceError::Constraint { reason });
        }
        Ok(TokenConstraint { matcher })
    }
}

impl std::fmt::Debug for Constraints {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Constraints").finish_non_exhaustive()
    }
}

/// Optional white space would leave the model a choice at every comma, so that nothing could be forced.
fn compact(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(fields) = &mut schema {
        fields.entry("x-guidance").or_insert_with(|| json!({"whitespace_flexible": false}));
    }
    schema
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err, which hands the error over")]
fn refused(error: impl ToString) -> InferenceError {
    InferenceError::Constraint { reason: error.to_string() }
}

/// One constraint on its way through one output.
pub(crate) struct TokenConstraint {
    matcher: Matcher,
}

impl TokenConstraint {
    /// The tokens that may come next (the end-of-turn tokens if nothing may).
    pub(crate) fn mask(&mut self) -> Result<SimpleVob, InferenceError> {
        self.matcher.compute_mask_or_eos().map_err(refused)
    }

    /// Takes `tokens` as the next ones of the output.
    pub(crate) fn advance(&mut self, tokens: &[LlamaToken]) -> Result<(), InferenceError> {
        let ids: Vec<TokenId> = tokens.iter().map(|token| token.0.cast_unsigned()).collect();
        self.matcher.consume_tokens(&ids).map_err(refused)
    }

    /// The tokens there is no choice about, already taken as part of the output.
    pub(crate) fn forced(&mut self) -> Vec<LlamaToken> {
        if self.complete() {
            return Vec::new();
        }
        self.matcher.consume_ff_tokens().into_iter().map(|id| LlamaToken::new(id.cast_signed())).collect()
    }

    /// Whether the output is finished and nothing can follow.
    pub(crate) fn complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

/// The vocabulary with the model's own tokenizer. llguidance forces tokens only if it knows how the model itself would
/// have split the forced text; greedy longest-match splitting would give sequences the model has never seen.
struct CanonicalVocabulary {
    model: Arc<LlamaModel>,
    base: TokEnv,
}

impl TokenizerEnv for CanonicalVocabulary {
    fn tok_trie(&self) -> &TokTrie {
        self.base.tok_trie()
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        // The tokenizer is defined on text; pieces of characters can only be split greedily.
        self.tok_trie().tokenize_with_greedy_fallback(bytes, |text| {
            let tokens = self.model.vocab().tokenize(text.as_bytes(), false, false);
            tokens.into_iter().map(|token| token.0.cast_unsigned()).collect()
        })
    }
}
