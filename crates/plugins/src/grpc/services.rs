//! Services as a `.proto` file describes them.
//!
//! Imports are looked for beside the file and in Kong's include folder. The two files that bind methods to HTTP
//! (`google/api/annotations.proto`, `http.proto`) are known without a file, and so are Google's well-known types.

use std::path::Path;

use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use regex::Regex;
use serde_json::{Map, Value as Json};

/// Where Kong's images keep `.proto` files.
const KONGS_FOLDER: &str = "/usr/local/kong/include";

const ANNOTATIONS: &str = "syntax = \"proto3\"; package google.api; import \"google/api/http.proto\"; \
    import \"google/protobuf/descriptor.proto\"; extend google.protobuf.MethodOptions { HttpRule http = 72295728; }";

const HTTP: &str = "syntax = \"proto3\"; package google.api; \
    message HttpRule { string selector = 1; oneof pattern { string get = 2; string put = 3; string post = 4; string delete = 5; \
    string patch = 6; CustomHttpPattern custom = 8; } string body = 7; string response_body = 12; \
    repeated HttpRule additional_bindings = 11; } \
    message CustomHttpPattern { string kind = 1; string path = 2; }";

/// The files that are known without one.
struct Known;

impl FileResolver for Known {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            "google/api/annotations.proto" => File::from_source(name, ANNOTATIONS),
            "google/api/http.proto" => File::from_source(name, HTTP),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The methods of a file, and how they are reached over HTTP.
pub struct Services {
    pool: DescriptorPool,
    bindings: Vec<Binding>,
}

/// One way to reach a method.
pub struct Binding {
    pub method: MethodDescriptor,
    http_method: String,
    path: Regex,
    /// The fields that parts of the path fill, in the order of the expression's groups.
    fields: Vec<String>,
    /// The field the body fills; `*` is the whole message.
    body: Option<String>,
}

impl Services {
    /// Errors with what is wrong with the file.
    pub fn load(file: &str) -> Result<Self, String> {
        let path = Path::new(file);
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("not the name of a file")?;
        let mut resolver = ChainFileResolver::new();
        resolver.add(IncludeFileResolver::new(path.parent().unwrap_or(Path::new(".")).to_owned()));
        resolver.add(IncludeFileResolver::new(KONGS_FOLDER.into()));
        resolver.add(Known);
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true).open_file(name).map_err(|error| error.to_string())?;
        let pool = compiler.descriptor_pool();
        let mut bindings = Vec::new();
        if let Some(http) = pool.get_extension_by_name("google.api.http") {
            for service in pool.services() {
                for method in service.methods() {
                    let options = method.options();
                    if options.has_extension(&http)
                        && let Value::Message(rule) = options.get_extension(&http).as_ref()
                    {
                        bind(&mut bindings, &method, rule)?;
                    }
                }
            }
        }
        Ok(Self { pool, bindings })
    }

    /// The binding for a request, with the texts its path has for fields.
    pub fn find(&self, http_method: &str, path: &str) -> Option<(&Binding, Vec<(&str, String)>)> {
        self.bindings.iter().find_map(|binding| {
            if binding.http_method != http_method {
                return None;
            }
            let groups = binding.path.captures(path)?;
            let texts = groups.iter().skip(1).map(|group| group.map_or_else(String::new, |group| group.as_str().to_owned()));
            Some((binding, binding.fields.iter().map(String::as_str).zip(texts).collect()))
        })
    }

    /// The method at a gRPC path: `/package.Service/Method`.
    pub fn method(&self, path: &str) -> Option<MethodDescriptor> {
        let (service, method) = path.trim_start_matches('/').split_once('/')?;
        self.pool.get_service_by_name(service)?.methods().find(|known| known.name() == method)
    }
}

fn bind(bindings: &mut Vec<Binding>, method: &MethodDescriptor, rule: &DynamicMessage) -> Result<(), String> {
    let text = |name: &str| rule.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let mut verb = ["get", "put", "post", "delete", "patch"].into_iter().map(|name| (name.to_ascii_uppercase(), text(name)));
    let custom = || {
        let custom = rule.get_field_by_name("custom")?;
        let custom = custom.as_message()?;
        let text = |name: &str| custom.get_field_by_name(name)?.as_str().map(str::to_owned);
        Some((text("kind")?, text("path")?))
    };
    if let Some((http_method, template)) = verb.find(|(_, path)| !path.is_empty()).or_else(custom).filter(|(_, path)| !path.is_empty()) {
        let (path, fields) = expression(&template)?;
        let body = Some(text("body")).filter(|body| !body.is_empty());
        bindings.push(Binding { method: method.clone(), http_method, path, fields, body });
    }
    if let Some(more) = rule.get_field_by_name("additional_bindings") {
        for rule in more.as_list().into_iter().flatten() {
            if let Some(rule) = rule.as_message() {
                bind(bindings, method, rule)?;
            }
        }
    }
    Ok(())
}

/// A path template (`/v1/{name=shelves/*}:verb`) as an expression, and the fields its groups fill.
fn expression(template: &str) -> Result<(Regex, Vec<String>), String> {
    let segments = |pattern: &str| {
        let one = |segment: &str| match segment {
            "**" => ".+".to_owned(),
            "*" => "[^/]+".to_owned(),
            other => regex::escape(other),
        };
        pattern.split('/').map(one).collect::<Vec<_>>().join("/")
    };
    let (mut out, mut fields, mut rest) = ("^".to_owned(), Vec::new(), template);
    while let Some(start) = rest.find('{') {
        let end = rest[start..].find('}').ok_or_else(|| format!("{template}: no closing brace"))? + start;
        out.push_str(&segments(&rest[..start]));
        let (name, pattern) = rest[start + 1..end].split_once('=').unwrap_or((&rest[start + 1..end], "*"));
        out.push_str(&format!("({})", segments(pattern.trim())));
        fields.push(name.trim().to_owned());
        rest = &rest[end + 1..];
    }
    out.push_str(&segments(rest));
    out.push('$');
    Ok((Regex::new(&out).map_err(|error| format!("{template}: {error}"))?, fields))
}

impl Binding {
    /// The method's message for a request. Errors with what does not fit.
    pub fn message(&self, texts: &[(&str, String)], query: impl Iterator<Item = (String, String)>, body: &[u8]) -> Result<Vec<u8>, String> {
        let of = self.method.input();
        let mut fields = Map::new();
        match self.body.as_deref() {
            None => {}
            Some(_) if body.is_empty() => {}
            Some("*") => match serde_json::from_slice(body) {
                Ok(Json::Object(given)) => fields = given,
                Ok(_) => return Err("the body is not an object".to_owned()),
                Err(error) => return Err(format!("failed to decode JSON: {error}")),
            },
            Some(name) => {
                let given: Json = serde_json::from_slice(body).map_err(|error| format!("failed to decode JSON: {error}"))?;
                put(&mut fields, &of, name, |_| given.clone());
            }
        }
        for (name, text) in query {
            put(&mut fields, &of, &name, |field| typed(field, &text));
        }
        for (name, text) in texts {
            put(&mut fields, &of, name, |field| typed(field, text));
        }
        encode(of, Json::Object(fields))
    }

    /// Where the method is called.
    pub fn grpc_path(&self) -> String {
        format!("/{}/{}", self.method.parent_service().full_name(), self.method.name())
    }
}

/// A message's bytes of its JSON. Errors with what does not fit.
pub fn encode(of: MessageDescriptor, json: Json) -> Result<Vec<u8>, String> {
    let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(of, json, &options).map_err(|error| error.to_string())?;
    Ok(prost_reflect::prost::Message::encode_to_vec(&message))
}

/// A message's JSON of its bytes, with the names and the defaults of the file.
pub fn decode(of: MessageDescriptor, bytes: &[u8]) -> Result<Json, String> {
    let message = DynamicMessage::decode(of, bytes).map_err(|error| error.to_string())?;
    let options =
        prost_reflect::SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false).stringify_64_bit_integers(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())
}

/// Sets the field at a dotted path. What the message has no field for is left out.
fn put(fields: &mut Map<String, Json>, of: &MessageDescriptor, path: &str, value: impl FnOnce(&FieldDescriptor) -> Json) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some(field) = of.get_field_by_name(first).or_else(|| of.get_field_by_json_name(first)) else { return };
    match (rest, field.kind()) {
        (Some(rest), Kind::Message(inner)) => {
            let below = fields.entry(first.to_owned()).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(below) = below {
                put(below, &inner, rest, value);
            }
        }
        (None, _) if field.is_list() => {
            let value = value(&field);
            match fields.get_mut(first) {
                Some(Json::Array(list)) => list.push(value),
                _ => _ = fields.insert(first.to_owned(), if value.is_array() { value } else { Json::Array(vec![value]) }),
            }
        }
        (None, _) => _ = fields.insert(first.to_owned(), value(&field)),
        (Some(_), _) => {}
    }
}

/// A text as JSON of a field's type; numbers may be texts.
fn typed(field: &FieldDescriptor, text: &str) -> Json {
    match field.kind() {
        Kind::Bool => Json::Bool(matches!(text, "true" | "1")),
        Kind::Enum(_) => text.parse::<i64>().map_or_else(|_| text.into(), Json::from),
        _ => text.into(),
    }
}
