# SPDX-License-Identifier: Apache-2.0
"""Operations: explanations and batch jobs that outlive the call that started them, and the server that runs them."""
