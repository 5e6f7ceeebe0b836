# SPDX-License-Identifier: Apache-2.0
"""The web page of `lstm-explain serve --web`, and a gateway from its HTTP calls to the gRPC services."""
