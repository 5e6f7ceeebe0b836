# SPDX-License-Identifier: Apache-2.0
"""The gRPC services, which convert messages and call the engine."""
