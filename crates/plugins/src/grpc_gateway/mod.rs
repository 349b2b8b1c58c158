//! grpc-gateway: lets clients that speak HTTP and JSON call gRPC services.
//!
//! A request finds its method by the bindings in a `.proto` file; path, query and body become the method's message. The answer's
//! messages become JSON, one behind the other, once all have come.

mod config;
#[cfg(test)]
mod tests;

use portcullis_plugin::{
    Answer, Env, Handler, Head, Instance, Method, Phases, Plugin, Protocols, Request, Response, Result, Scopes, Step, query_pairs,
};
use portcullis_schema::build::HTTP_PROTOCOLS;
use prost_reflect::MessageDescriptor;
use serde_json::json;

use crate::grpc::{self, Described, LARGEST_BODY, frame, http_status};
use config::Config;

/// See the module's description.
pub struct GrpcGateway {
    services: Described,
}

/// The message a call answers with.
struct Called(MessageDescriptor);

impl Plugin for GrpcGateway {
    const NAME: &'static str = "grpc-gateway";
    const PRIORITY: i32 = 998;
    const PHASES: Phases = Phases::ACCESS.and(Phases::RESPONSE).and(Phases::HEADER_FILTER);
    const SCOPES: Scopes = Scopes { protocols: Protocols::AnyDefault(&HTTP_PROTOCOLS), ..Scopes::ANY };
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self { services: Described::of(config.proto.as_deref()) })
    }
}

impl Handler for GrpcGateway {
    fn body_limit(&self, _: &Request) -> Option<u64> {
        Some(LARGEST_BODY)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if request.head.method == Method::Options {
            let answer = Answer::bytes(200, Some("application/json".into()), b"OK".to_vec());
            let answer = answer.header("Access-Control-Allow-Methods", "GET,POST,PATCH,DELETE");
            return Step::answer(answer.header("Access-Control-Allow-Headers", "content-type"));
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
        let Some(Called(of)) = request.context.get() else { return Ok(()) };
        if response.head.status != 200 {
            return Ok(());
        }
        let status = grpc::status(&response.head.headers);
        response.head.headers.set("Content-Type", b"application/json");
        response.head.status = http_status(status);
        if status != 0 {
            let told = json!({ "code": status, "message": grpc::message(&response.head.headers) });
            *response.body = told.to_string().into_bytes();
            return Ok(());
        }
        *response.body = grpc::json(of, response.body)?.into_bytes();
        Ok(())
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        head.response.headers.set("Access-Control-Allow-Origin", b"*");
        Ok(())
    }
}

impl GrpcGateway {
    /// Makes a call of the request. Errors with what the client is told.
    fn call(&self, request: &mut Request) -> std::result::Result<(), String> {
        let services = self.services.services()?;
        let method = String::from_utf8_lossy(request.head.method_text()).into_owned();
        let path = String::from_utf8_lossy(request.head.path()).into_owned();
        let (binding, texts) = services.find(&method, &path).ok_or_else(|| format!("Unknown path \"{path}\""))?;
        let query = request.upstream.query.take().unwrap_or_default();
        let body = request.upstream.body.as_deref().or(request.body.as_deref()).unwrap_or_default();
        let message = binding.message(&texts, query_pairs(&query), body)?;
        request.upstream.path = binding.grpc_path().into_bytes();
        request.upstream.method = Some("POST".into());
        request.upstream.body = Some(frame(&message));
        request.head.headers.set("Content-Type", b"application/grpc");
        request.head.headers.set("TE", b"trailers");
        let answers = binding.method.output();
        request.context.set(Called(answers));
        Ok(())
    }
}
