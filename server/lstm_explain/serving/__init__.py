"""The gRPC service: several protocols over one engine."""
