//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Milliseconds the function may take.
    #[field(number().required().default(60000))]
    pub timeout: f64,
    /// Milliseconds an idle connection is kept.
    #[field(number().required().default(60000))]
    pub keepalive: f64,
    /// The access key; without it the environment is asked.
    #[field(string().encrypted().referenceable())]
    pub aws_key: Option<String>,
    /// The secret that belongs to that key.
    #[field(string().encrypted().referenceable())]
    pub aws_secret: Option<String>,
    /// The role to take on for the invocation.
    #[field(string().encrypted().referenceable())]
    pub aws_assume_role_arn: Option<String>,
    /// The name of the session in that role.
    #[field(string().default("kong"))]
    pub aws_role_session_name: Option<String>,
    /// The address of the service that gives out roles.
    #[field(url())]
    pub aws_sts_endpoint_url: Option<String>,
    /// The region; without it the environment's.
    #[field(host())]
    pub aws_region: Option<String>,
    /// The function: its name or its ARN.
    #[field(string().shown("required", false))]
    pub function_name: Option<String>,
    /// The version or alias of the function.
    #[field(string())]
    pub qualifier: Option<String>,
    /// Whether the function's answer is waited for.
    #[field(string().required().default("RequestResponse").one_of(["RequestResponse", "Event", "DryRun"]))]
    pub invocation_type: String,
    /// Whether AWS sends the end of the function's log along.
    #[field(string().required().default("Tail").one_of(["Tail", "None"]))]
    pub log_type: String,
    /// The host of the interface, in place of the region's.
    #[field(host())]
    pub host: Option<String>,
    /// The port at the host.
    #[field(port().default(443))]
    pub port: Option<u16>,
    /// Whether the connection is plain.
    #[field(boolean().default(false))]
    pub disable_https: Option<bool>,
    /// The status that clients get when the function fails; without it AWS's.
    #[field(integer().between(100, 999))]
    pub unhandled_status: Option<u16>,
    /// Whether the function is told the method.
    #[field(boolean().default(false))]
    pub forward_request_method: Option<bool>,
    /// Whether the function is told path and query.
    #[field(boolean().default(false))]
    pub forward_request_uri: Option<bool>,
    /// Whether the function is told the headers.
    #[field(boolean().default(false))]
    pub forward_request_headers: Option<bool>,
    /// Whether the function is told the body.
    #[field(boolean().default(false))]
    pub forward_request_body: Option<bool>,
    /// Whether the function's answer tells status, headers and body.
    #[field(boolean().default(false))]
    pub is_proxy_integration: Option<bool>,
    /// Whether the function is told the request as Amazon's API Gateway tells it.
    #[field(boolean().default(false))]
    pub awsgateway_compatible: Option<bool>,
    /// An HTTP proxy on the way to AWS.
    #[field(url())]
    pub proxy_url: Option<String>,
    /// Whether bodies that do not fit in memory are left out.
    #[field(boolean().default(true))]
    pub skip_large_bodies: Option<bool>,
    /// Whether bodies are told in base64.
    #[field(boolean().default(true))]
    pub base64_encode_body: Option<bool>,
    /// Which version of the machine's metadata service is asked for credentials.
    #[field(string().required().default("v1").one_of(["v1", "v2"]))]
    pub aws_imds_protocol_version: String,
    /// Whether empty lists in JSON answers stay lists (`correct`) or become objects (`legacy`).
    #[field(string().required().default("legacy").one_of(["legacy", "correct"]))]
    pub empty_arrays_mode: String,
}
