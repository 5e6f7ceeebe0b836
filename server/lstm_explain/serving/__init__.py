# SPDX-License-Identifier: Apache-2.0
"""The gRPC service: several protocols over one engine."""
