//! grpc-web: lets browsers call gRPC services over the gRPC-Web protocol.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Protocols, Result, Scopes};

use config::Config;
use portcullis_schema::build::HTTP_PROTOCOLS;

/// See the module's description.
pub struct GrpcWeb;

impl Plugin for GrpcWeb {
    const NAME: &'static str = "grpc-web";
    const PRIORITY: i32 = 3;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER);
    const SCOPES: Scopes = Scopes { protocols: Protocols::AnyDefault(&HTTP_PROTOCOLS), ..Scopes::ANY };
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for GrpcWeb {}
