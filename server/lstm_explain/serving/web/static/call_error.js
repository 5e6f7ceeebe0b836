// SPDX-License-Identifier: Apache-2.0

/** The error of a failed call. code: the gRPC code in lower case. field: the invalid field of the request, if any. */
export class CallError extends Error {
  constructor(code, message, field = "", requestId = "") {
    super(message);
    this.code = code;
    this.field = field;
    this.requestId = requestId;
  }
}
