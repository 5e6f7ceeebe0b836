// Generated from proto/ by `make proto`; do not edit.
use tonic::Code;

pub const METHODS: [&str; 7] = ["Explain", "ListModels", "GetModel", "GetOperation", "ListOperations", "WaitOperation", "CancelOperation"];
pub const MAX_ATTEMPTS: u32 = 5;
pub const INITIAL_BACKOFF: f64 = 0.1;
pub const MAX_BACKOFF: f64 = 2.0;
pub const BACKOFF_MULTIPLIER: f64 = 2.0;
pub const RETRYABLE: [Code; 3] = [Code::Unavailable, Code::ResourceExhausted, Code::Cancelled];
pub const MAX_TOKENS: f64 = 200.0;
pub const TOKEN_RATIO: f64 = 1.0;
