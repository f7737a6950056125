//! What a JSON Schema says about the values that it allows, as far as that can be told for certain: which types stand at a pointer.
//!
//! It reads `type`, `enum`, `const`, `properties`, `additionalProperties`, `items`, `prefixItems`, `maxItems`, `anyOf`, `oneOf` and
//! local `$ref` (JSON Schema 2020-12); whatever else a schema says leaves anything possible.

use serde_json::Value;

/// Longest chain of `$ref`, and deepest nesting of alternatives, that is followed.
const MAX_HOPS: usize = 16;
/// Deepest nesting of lists whose items are compared.
const MAX_COMPARED: usize = 8;
const TYPES: &[(u8, &str)] = &[
    (1, "a text"),
    (2, "a whole number"),
    (4, "a fraction"),
    (8, "true or false"),
    (16, "a list"),
    (32, "an object"),
    (64, "null"),
];

/// A set of JSON types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Types(u8);

impl Types {
    pub(crate) const TEXT: Self = Self(1);
    pub(crate) const NUMBER: Self = Self(2 | 4);
    pub(crate) const LIST: Self = Self(16);
    pub(crate) const NULL: Self = Self(64);
    const OBJECT: Self = Self(32);
    const ANY: Self = Self(127);
    const NONE: Self = Self(0);

    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn named(name: &str) -> Self {
        match name {
            "string" => Self::TEXT,
            "integer" => Self(2),
            "number" => Self::NUMBER,
            "boolean" => Self(8),
            "array" => Self::LIST,
            "object" => Self::OBJECT,
            "null" => Self(64),
            _ => Self::ANY,
        }
    }

    /// The type of this value.
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::TEXT,
            Value::Number(number) if number.as_f64().is_some_and(|float| float.fract() == 0.0) => Self(2),
            Value::Number(_) => Self(4),
            Value::Bool(_) => Self(8),
            Value::Array(_) => Self::LIST,
            Value::Object(_) => Self::OBJECT,
            Value::Null => Self(64),
        }
    }
}

impl std::fmt::Display for Types {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = self.0 & Self::NUMBER.0 == Self::NUMBER.0;
        let named = TYPES.iter().filter(|(bit, _)| self.0 & bit != 0 && !(number && (*bit & 6) != 0));
        let mut names: Vec<&str> = named.map(|(_, name)| *name).collect();
        if number {
            names.insert(0, "a number");
        }
        f.write_str(&names.join(" or "))
    }
}

/// What values may be.
#[derive(Clone, Debug)]
pub(crate) enum Shape<'a> {
    Anything,
    /// A list of at most so many of these.
    List(Box<Shape<'a>>, usize),
    /// One of these.
    OneOf(Vec<Shape<'a>>),
    /// What the schema allows; its references point into `root`.
    Schema {
        root: &'a Value,
        node: &'a Value,
    },
    Exactly(Types),
}

impl<'a> Shape<'a> {
    pub(crate) const fn of(schema: &'a Value) -> Self {
        Self::Schema { root: schema, node: schema }
    }

    /// What stands at this JSON pointer.
    ///
    /// # Errors
    /// Why nothing can stand there, as the end of a sentence.
    pub(crate) fn at(&self, pointer: &str) -> Result<Self, String> {
        let mut shape = self.clone();
        for segment in pointer.split('/').skip(1) {
            let name = segment.replace("~1", "/").replace("~0", "~");
            shape = shape.member(&name)?;
        }
        Ok(shape)
    }

    /// The types that it may have.
    pub(crate) fn types(&self) -> Types {
        let types = self.alternatives(0).iter().fold(Types::NONE, |types, shape| types.or(shape.own_types()));
        if types == Types::NONE { Types::ANY } else { types }
    }

    /// What the items are, if it is a list.
    fn items(&self) -> Self {
        let items = self.alternatives(0).into_iter().filter_map(|shape| match shape {
            Self::List(item, _) => Some(*item),
            Self::Schema { root, node } if shape.own_types().meets(Types::LIST) => {
                let plain = node.get("prefixItems").is_none();
                Some(
                    node.get("items")
                        .filter(|_| plain)
                        .map_or(Self::Anything, |node| Self::Schema { root, node }),
                )
            }
            Self::Exactly(types) if !types.meets(Types::LIST) => None,
            Self::Schema { .. } => None,
            _ => Some(Self::Anything),
        });
        Self::OneOf(items.collect())
    }

    fn own_types(&self) -> Types {
        match self {
            Self::Anything | Self::OneOf(_) => Types::ANY,
            Self::List(..) => Types::LIST,
            Self::Exactly(types) => *types,
            Self::Schema { node, .. } => match node.get("type") {
                Some(Value::String(name)) => Types::named(name),
                Some(Value::Array(names)) => {
                    let names = names.iter().filter_map(Value::as_str);
                    names.fold(Types::NONE, |types, name| types.or(Types::named(name)))
                }
                _ => match (node.get("const"), node.get("enum").and_then(Value::as_array)) {
                    (Some(value), _) => Types::of(value),
                    (None, Some(values)) => {
                        values.iter().fold(Types::NONE, |types, value| types.or(Types::of(value)))
                    }
                    (None, None) => Types::ANY,
                },
            },
        }
    }

    /// The alternatives that it stands for, references followed.
    fn alternatives(&self, hops: usize) -> Vec<Self> {
        if hops > MAX_HOPS {
            return vec![Self::Anything];
        }
        match self {
            Self::OneOf(shapes) => shapes.iter().flat_map(|shape| shape.alternatives(hops + 1)).collect(),
            Self::Schema { root, node } => {
                if let Some(target) = node.get("$ref").and_then(Value::as_str) {
                    let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
                    return match found {
                        Some(node) => Self::Schema { root, node }.alternatives(hops + 1),
                        None => vec![Self::Anything],
                    };
                }
                let says = |keyword: &str| node.get(keyword).is_some();
                let plain = says("type") || says("properties") || says("const") || says("enum");
                let several = node.get("anyOf").or_else(|| node.get("oneOf")).and_then(Value::as_array);
                match several {
                    Some(several) if !plain => {
                        let each = several.iter().map(|node| Self::Schema { root, node });
                        each.flat_map(|shape| shape.alternatives(hops + 1)).collect()
                    }
                    _ if !node.is_object() => vec![Self::Anything],
                    _ => vec![self.clone()],
                }
            }
            other => vec![other.clone()],
        }
    }

    fn member(&self, name: &str) -> Result<Self, String> {
        let mut found = Vec::new();
        let mut refused = None;
        for shape in self.alternatives(0) {
            match shape.own_member(name) {
                Ok(member) => found.push(member),
                Err(reason) => refused = refused.or(Some(reason)),
            }
        }
        match refused {
            Some(reason) if found.is_empty() => Err(reason),
            _ => Ok(Self::OneOf(found)),
        }
    }

    fn own_member(&self, name: &str) -> Result<Self, String> {
        let position: Option<usize> = name.parse().ok();
        match self {
            Self::Anything | Self::OneOf(_) => Ok(Self::Anything),
            Self::List(item, most) => match position {
                Some(position) if position < *most => Ok(item.as_ref().clone()),
                Some(_) => Err(format!("a list of at most {most} has no `{name}`; it begins with `0`")),
                None => Err(no_name_in_list(name)),
            },
            Self::Exactly(types) if types.meets(Types::LIST.or(Types::OBJECT)) => Ok(Self::Anything),
            Self::Exactly(types) => Err(format!("it is {types}, which has no `{name}`")),
            Self::Schema { root, node } => {
                let types = self.own_types();
                let item = || {
                    let prefix = node.get("prefixItems").and_then(|items| items.get(position?));
                    let node = prefix.or_else(|| node.get("items"));
                    node.map_or(Self::Anything, |node| Self::Schema { root, node })
                };
                let most = node.get("maxItems").and_then(Value::as_u64);
                match (types.meets(Types::OBJECT), types.meets(Types::LIST)) {
                    (true, true) => Ok(Self::Anything),
                    (true, false) => property(root, node, name),
                    (false, true) => match (position, most) {
                        (Some(position), Some(most)) if position as u64 >= most => {
                            Err(format!("a list of at most {most} has no `{name}`; it begins with `0`"))
                        }
                        (Some(_), _) => Ok(item()),
                        (None, _) => Err(no_name_in_list(name)),
                    },
                    (false, false) => Err(format!("it is {types}, which has no `{name}`")),
                }
            }
        }
    }
}

fn no_name_in_list(name: &str) -> String {
    format!("it is a list, which has no `{name}` but items from `0` on")
}

/// A schema that names properties is taken to name all of them unless it speaks of others.
fn property<'a>(root: &'a Value, node: &'a Value, name: &str) -> Result<Shape<'a>, String> {
    let listed = node.get("properties").and_then(Value::as_object);
    if let Some(node) = listed.and_then(|properties| properties.get(name)) {
        return Ok(Shape::Schema { root, node });
    }
    if node.get("patternProperties").is_some() {
        return Ok(Shape::Anything);
    }
    match node.get("additionalProperties") {
        Some(Value::Bool(true)) => Ok(Shape::Anything),
        Some(others @ Value::Object(_)) => Ok(Shape::Schema { root, node: others }),
        None if listed.is_none_or(serde_json::Map::is_empty) => Ok(Shape::Anything),
        _ => {
            let names = listed.into_iter().flat_map(|properties| properties.keys()).take(20);
            let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            let there = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            Err(format!("there is no `{name}`; there is {there}"))
        }
    }
}

/// Why no value of shape `given` can be one of shape `wanted`: the types of the two, at the first place where they have nothing
/// in common. `None` if some value may fit.
pub(crate) fn misfit(given: &Shape<'_>, wanted: &Shape<'_>) -> Option<(Types, Types)> {
    misfit_at(given, wanted, 0)
}

fn misfit_at(given: &Shape<'_>, wanted: &Shape<'_>, depth: usize) -> Option<(Types, Types)> {
    let (has, wants) = (given.types(), wanted.types());
    if !has.meets(wants) {
        return Some((has, wants));
    }
    let lists = has == Types::LIST && wants == Types::LIST;
    if lists && depth < MAX_COMPARED {
        return misfit_at(&given.items(), &wanted.items(), depth + 1);
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pointer_is_followed_as_far_as_the_schema_speaks() {
        let schema = json!({
            "$defs": {"file": {"type": "object", "properties": {"name": {"type": "string"}, "bytes": {"type": "integer"}}}},
            "type": "object",
            "properties": {
                "files": {"type": "array", "items": {"$ref": "#/$defs/file"}},
                "pair": {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "boolean"}, "maxItems": 3},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "free": {"type": "object"},
                "more": {"type": "object", "additionalProperties": {"type": "number"}},
                "a/b": {"enum": ["x", 1]}
            }
        });
        let shape = Shape::of(&schema);
        for (pointer, types) in [
            ("", "an object"),
            ("/files", "a list"),
            ("/files/7/bytes", "a whole number"),
            ("/pair/0", "a text"),
            ("/pair/2", "true or false"),
            ("/note", "a text or null"),
            ("/more/x", "a number"),
            ("/a~1b", "a text or a whole number"),
        ] {
            assert_eq!(shape.at(pointer).unwrap().types().to_string(), types, "{pointer}");
        }
        assert_eq!(shape.at("/free/x/y").unwrap().types(), Types::ANY);
        for (pointer, told) in [
            ("/size", "there is no `size`; there is `"),
            ("/files/name", "a list, which has no `name` but items"),
            ("/files/0/size", "there is no `size`"),
            ("/pair/3", "at most 3"),
            ("/note/x", "a text, which has no `x`"),
        ] {
            let error = shape.at(pointer).unwrap_err();
            assert!(error.contains(told), "{pointer}: {error}");
        }
        let list = Shape::List(Box::new(shape), 2);
        assert!(list.at("/1/files/0/name").is_ok() && list.at("/2").is_err() && list.at("/files").is_err());
    }

    #[test]
    fn a_schema_that_leads_in_circles_leaves_anything_possible() {
        let schema = json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"});
        assert_eq!(Shape::of(&schema).types(), Types::ANY);
        let open = json!(true);
        assert_eq!(Shape::of(&open).at("/x/y").unwrap().types(), Types::ANY);
    }

    #[test]
    fn only_what_can_never_fit_is_a_misfit() {
        let told = |given: Value, wanted: Value| {
            misfit(&Shape::of(&given), &Shape::of(&wanted))
                .map(|(has, wants)| (has.to_string(), wants.to_string()))
        };
        let texts = json!({"type": "array", "items": {"type": "string"}});
        assert_eq!(told(texts.clone(), json!({"type": "string"})), Some(("a list".into(), "a text".into())));
        assert_eq!(
            told(texts.clone(), json!({"type": "array", "items": {"type": "number"}})),
            Some(("a text".into(), "a number".into()))
        );
        assert_eq!(told(json!({"type": "number"}), json!({"type": "integer"})), None);
        assert_eq!(told(json!({"type": ["string", "null"]}), json!({"type": "string"})), None);
        assert_eq!(told(json!({}), json!({"type": "string"})), None);
        assert_eq!(told(texts, json!({"type": "array"})), None);
    }
}
