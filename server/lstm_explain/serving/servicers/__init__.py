"""The gRPC services: each message in, each answer out."""
