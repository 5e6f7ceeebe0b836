// Generated from proto/ by `make proto`; do not edit.
export default {
  "methodConfig": [
    {
      "name": [
        {"service": "lstm_explain.v1.ExplanationService", "method": "Explain"},
        {"service": "lstm_explain.v1.ModelService", "method": "ListModels"},
        {"service": "lstm_explain.v1.ModelService", "method": "GetModel"},
        {"service": "lstm_explain.v1.OperationService", "method": "GetOperation"},
        {"service": "lstm_explain.v1.OperationService", "method": "ListOperations"},
        {"service": "lstm_explain.v1.OperationService", "method": "WaitOperation"},
        {"service": "lstm_explain.v1.OperationService", "method": "CancelOperation"},
        {"service": "inference.GRPCInferenceService", "method": "ServerLive"},
        {"service": "inference.GRPCInferenceService", "method": "ServerReady"},
        {"service": "inference.GRPCInferenceService", "method": "ServerMetadata"},
        {"service": "inference.GRPCInferenceService", "method": "ModelReady"},
        {"service": "inference.GRPCInferenceService", "method": "ModelMetadata"},
        {"service": "inference.GRPCInferenceService", "method": "ModelInfer"},
        {"service": "inference.GRPCInferenceService", "method": "RepositoryIndex"}
      ],
      "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"]
      }
    }
  ],
  "retryThrottling": {"maxTokens": 200, "tokenRatio": 1.0}
};
