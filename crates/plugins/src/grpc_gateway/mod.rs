//! grpc-gateway: lets clients that speak HTTP and JSON call gRPC services.

mod config;

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Protocols, Result, Scopes};

use config::Config;
use portcullis_schema::build::HTTP_PROTOCOLS;

/// See the module's description.
pub struct GrpcGateway;

impl Plugin for GrpcGateway {
    const NAME: &'static str = "grpc-gateway";
    const PRIORITY: i32 = 998;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::BODY_FILTER);
    const SCOPES: Scopes = Scopes { protocols: Protocols::AnyDefault(&HTTP_PROTOCOLS), ..Scopes::ANY };
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for GrpcGateway {}
