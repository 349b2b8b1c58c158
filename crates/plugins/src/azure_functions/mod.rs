//! azure-functions: answers requests with what a function on Azure answers.

use portcullis_plugin::{Env, Handler, Instance, Phases, Plugin, Result};
use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Milliseconds the function may take.
    #[field(number().default(600000))]
    pub timeout: Option<f64>,
    /// Milliseconds an idle connection is kept.
    #[field(number().default(60000))]
    pub keepalive: Option<f64>,
    /// Whether the connection is TLS.
    #[field(boolean().default(true))]
    pub https: Option<bool>,
    /// Whether Azure's certificate is checked.
    #[field(boolean().default(false))]
    pub https_verify: Option<bool>,
    /// The function's key.
    #[field(string().encrypted().referenceable())]
    pub apikey: Option<String>,
    /// The client id, where the key is used for several.
    #[field(string().encrypted().referenceable())]
    pub clientid: Option<String>,
    /// The application's name.
    #[field(string().required())]
    pub appname: String,
    /// The domain that follows the application's name.
    #[field(string().required().default("azurewebsites.net"))]
    pub hostdomain: String,
    /// What the path begins with.
    #[field(string().default("api"))]
    pub routeprefix: Option<String>,
    /// The function's name.
    #[field(string().required())]
    pub functionname: String,
}

/// See the module's description.
pub struct AzureFunctions;

impl Plugin for AzureFunctions {
    const NAME: &'static str = "azure-functions";
    const PRIORITY: i32 = 749;
    const PHASES: Phases = Phases::ACCESS;
    const READY: bool = false;
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
    }
}

impl Handler for AzureFunctions {}
