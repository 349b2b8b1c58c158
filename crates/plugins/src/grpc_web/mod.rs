//! grpc-web: lets browsers call gRPC services over the gRPC-Web protocol.
//!
//! A call's trailers, which browsers do not see, stand in a last frame of the body; in the text form all of it is base64. With a
//! `.proto` file messages may be JSON. An answer goes out once it is whole.

mod config;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_plugin::{
    Answer, Env, Handler, Head, Headers, Instance, Method, Phases, Plugin, Protocols, Request, Response, Result, Scopes, Step,
};
use portcullis_schema::build::HTTP_PROTOCOLS;
use prost_reflect::MethodDescriptor;

use crate::grpc::services::encode;
use crate::grpc::{self, Described, LARGEST_BODY, frame, http_status};
use config::Config;

/// The flag of the frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// See the module's description.
pub struct GrpcWeb {
    services: Described,
    stripped: bool,
    origin: String,
}

/// How a call's messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Frames,
    /// Frames in base64.
    Text,
    Json,
}

/// A call on its way.
struct Called {
    form: Form,
    content_type: String,
    method: Option<MethodDescriptor>,
}

impl Plugin for GrpcWeb {
    const NAME: &'static str = "grpc-web";
    const PRIORITY: i32 = 3;
    const PHASES: Phases = Phases::ACCESS.and(Phases::RESPONSE).and(Phases::HEADER_FILTER);
    const SCOPES: Scopes = Scopes { protocols: Protocols::AnyDefault(&HTTP_PROTOCOLS), ..Scopes::ANY };
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self {
            services: Described::of(config.proto.as_deref()),
            stripped: config.pass_stripped_path == Some(true),
            origin: config.allow_origin_header.unwrap_or_else(|| "*".to_owned()),
        })
    }
}

impl Handler for GrpcWeb {
    fn body_limit(&self, _: &Request) -> Option<u64> {
        Some(LARGEST_BODY)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if request.head.method == Method::Options {
            let answer = Answer::bytes(200, Some("application/grpc-web-text+proto".into()), b"OK".to_vec());
            let answer = answer.header("Access-Control-Allow-Methods", "POST");
            return Step::answer(answer.header("Access-Control-Allow-Headers", "content-type,x-grpc-web,x-user-agent"));
        }
        match self.call(request) {
            Ok(()) => Step::Next,
            Err(problem) => Step::answer(Answer::bytes(400, None, problem.into_bytes())),
        }
    }

    fn buffers(&self, request: &Request) -> bool {
        request.context.get::<Called>().is_some()
    }

    fn response(&self, request: &mut Request, response: Response<'_>) -> Result<()> {
        let Some(called) = request.context.get::<Called>() else { return Ok(()) };
        let headers = &mut response.head.headers;
        headers.set("Content-Type", called.content_type.as_bytes());
        if called.form == Form::Json {
            let status = grpc::status(headers);
            response.head.status = if response.head.status == 200 { http_status(status) } else { response.head.status };
            let Some(method) = called.method.as_ref().filter(|_| status == 0) else { return Ok(()) };
            *response.body = grpc::json(&method.output(), response.body)?.into_bytes();
            return Ok(());
        }
        response.body.extend(trailers(headers));
        headers.remove("grpc-status");
        headers.remove("grpc-message");
        if called.form == Form::Text {
            *response.body = STANDARD.encode(&*response.body).into_bytes();
        }
        Ok(())
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        head.response.headers.set("Access-Control-Allow-Origin", self.origin.as_bytes());
        Ok(())
    }
}

/// The frame that tells a call's end.
fn trailers(headers: &Headers) -> Vec<u8> {
    let text = format!("grpc-status:{}\r\ngrpc-message:{}\r\n", grpc::status(headers), grpc::message(headers));
    let mut told = frame(text.as_bytes());
    told[0] = TRAILERS;
    told
}

fn form_of(content_type: &str) -> Option<Form> {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/grpc-web" | "application/grpc-web+proto" => Some(Form::Frames),
        "application/grpc-web-text" | "application/grpc-web-text+proto" => Some(Form::Text),
        "application/grpc-web+json" | "application/json" => Some(Form::Json),
        _ => None,
    }
}

impl GrpcWeb {
    /// Makes a call of the request. Errors with what the client is told.
    fn call(&self, request: &mut Request) -> std::result::Result<(), String> {
        let content_type = request.head.headers.get("content-type").map(|text| String::from_utf8_lossy(text).into_owned());
        let content_type = content_type.unwrap_or_default();
        let form = form_of(&content_type).ok_or_else(|| format!("unknown content type \"{content_type}\""))?;
        let path = if self.stripped { request.upstream.path.clone() } else { request.head.path().to_vec() };
        let body = request.upstream.body.as_deref().or(request.body.as_deref()).unwrap_or_default();
        let (body, method) = match form {
            Form::Frames => (body.to_vec(), None),
            Form::Text => (decoded_text(body)?, None),
            Form::Json => {
                let services = self.services.services()?;
                let path = String::from_utf8_lossy(&path).into_owned();
                let method = services.method(&path).ok_or_else(|| format!("unknown method \"{path}\""))?;
                let json = serde_json::from_slice(body).map_err(|error| format!("failed to decode JSON: {error}"))?;
                (frame(&encode(method.input(), json)?), Some(method))
            }
        };
        request.upstream.path = path;
        request.upstream.body = Some(body);
        request.head.headers.set("Content-Type", b"application/grpc");
        request.head.headers.set("TE", b"trailers");
        request.context.set(Called { form, content_type, method });
        Ok(())
    }
}

/// A text body is base64, in one piece or in several that are padded each.
fn decoded_text(body: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(body.len() / 4 * 3);
    let text: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    for quartet in text.chunks(4) {
        out.extend(STANDARD.decode(quartet).map_err(|error| format!("the body is not base64: {error}"))?);
    }
    Ok(out)
}
