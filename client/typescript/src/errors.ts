// SPDX-License-Identifier: Apache-2.0

/**
 * The errors that the client throws: ExplainError, and subclasses for errors that callers may want to handle
 * separately.
 */

import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { type ServiceError, status as Status } from "@grpc/grpc-js";

/** The details of an error besides its message. */
export interface Facts {
  code?: Status;
  /** Path of the invalid field of the request, for example `inputs[0].shape`, or empty. */
  field?: string;
  /** Name and operator of the unsupported node, if that is the reason for the failure. */
  node?: string;
  op?: string;
  /** Milliseconds after which an overloaded server asks for a retry. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** Base class. `code` is the gRPC status, `field` is the path of the invalid field of the request, or empty. */
export class ExplainError extends Error {
  readonly code: Status;
  readonly field: string;
  readonly node: string;
  readonly op: string;
  readonly retryAfterMs: number | undefined;

  constructor(message: string, facts: Facts = {}) {
    super(message, { cause: facts.cause });
    this.name = new.target.name;
    this.code = facts.code ?? Status.UNKNOWN;
    this.field = facts.field ?? "";
    this.node = facts.node ?? "";
    this.op = facts.op ?? "";
    this.retryAfterMs = facts.retryAfterMs;
  }
}

/** The request is invalid; `field` names the field. */
export class InvalidRequest extends ExplainError {
  constructor(message: string, facts: Facts = {}) {
    super(message, { code: Status.INVALID_ARGUMENT, ...facts });
  }
}
/** A message is larger than the client or the server allows. */
export class TooLarge extends InvalidRequest {}
/** The model or the version does not exist. */
export class ModelNotFound extends ExplainError {}
/** The imported version already exists. */
export class AlreadyExists extends ExplainError {}
/** The method does not support the model (see `node` and `op`), or the model failed to load. */
export class NotExplainable extends ExplainError {}
/** The server is overloaded; see `retryAfterMs`. */
export class Overloaded extends ExplainError {}
/** The caller is not authenticated. */
export class Unauthenticated extends ExplainError {}
/** The caller lacks the permission for this call. */
export class PermissionDenied extends ExplainError {}
/** The answer did not arrive in time. */
export class DeadlineExceeded extends ExplainError {}
/** The call was cancelled. */
export class Cancelled extends ExplainError {}
/** The server could not be reached, even with retries. */
export class Unavailable extends ExplainError {}
/** The server does not know the call, or the call is turned off. */
export class Unimplemented extends ExplainError {}
/** An internal error of the server. */
export class ServerFault extends ExplainError {}
/** The answer cannot be read. */
export class MalformedResponse extends ExplainError {
  constructor(message: string) {
    super(message, { code: Status.DATA_LOSS });
  }
}

const CLASSES: Partial<Record<Status, typeof ExplainError>> = {
  [Status.INVALID_ARGUMENT]: InvalidRequest,
  [Status.OUT_OF_RANGE]: InvalidRequest,
  [Status.NOT_FOUND]: ModelNotFound,
  [Status.ALREADY_EXISTS]: AlreadyExists,
  [Status.FAILED_PRECONDITION]: NotExplainable,
  [Status.RESOURCE_EXHAUSTED]: Overloaded,
  [Status.UNAUTHENTICATED]: Unauthenticated,
  [Status.PERMISSION_DENIED]: PermissionDenied,
  [Status.DEADLINE_EXCEEDED]: DeadlineExceeded,
  [Status.CANCELLED]: Cancelled,
  [Status.UNAVAILABLE]: Unavailable,
  [Status.UNIMPLEMENTED]: Unimplemented,
  [Status.INTERNAL]: ServerFault,
  [Status.UNKNOWN]: ServerFault,
  [Status.ABORTED]: ServerFault,
  [Status.DATA_LOSS]: ServerFault,
};

/** Converts a status to a typed error. */
export function typed(code: Status, message: string, facts: Facts = {}): ExplainError {
  // gRPC uses the same code for an overload and for a message above the limit; only the message text differs.
  const size = code === Status.RESOURCE_EXHAUSTED && /larger than max/i.test(message);
  const kind = size ? TooLarge : (CLASSES[code] ?? ExplainError);
  return new kind(message || Status[code] || "unknown", { ...facts, code });
}

/** Converts an error of gRPC to a typed error; returns any other error unchanged. */
export function fromCall(error: unknown): unknown {
  if (!(error instanceof Error) || !("code" in error) || !("details" in error)) {
    return error;
  }
  const failed = error as ServiceError;
  const [encoded] = failed.metadata?.get("grpc-status-details-bin") ?? [];
  const facts = Buffer.isBuffer(encoded) ? read(encoded) : {};
  return typed(failed.code, failed.details, { ...facts, cause: error });
}

/** A google.rpc.Status: field 3 holds details, each a google.protobuf.Any. */
function read(encoded: Uint8Array): Facts {
  const facts: Facts = {};
  for (const any of fields(encoded).get(3) ?? []) {
    const packed = fields(any as Uint8Array);
    const body = fields((packed.get(2)?.[0] as Uint8Array) ?? new Uint8Array());
    switch (string(packed.get(1)?.[0]).split("/").pop()) {
      case "google.rpc.BadRequest":
        facts.field = string(fields(bytes(body.get(1)?.[0])).get(1)?.[0]);
        break;
      case "google.rpc.RetryInfo": {
        const delay = fields(bytes(body.get(1)?.[0]));
        facts.retryAfterMs = Number(delay.get(1)?.[0] ?? 0) * 1000 + Number(delay.get(2)?.[0] ?? 0) / 1e6;
        break;
      }
      case "google.rpc.ErrorInfo":
        for (const entry of body.get(3) ?? []) {
          const pair = fields(entry as Uint8Array);
          const key = string(pair.get(1)?.[0]);
          if (key === "node" || key === "op") {
            facts[key] = string(pair.get(2)?.[0]);
          }
        }
    }
  }
  return facts;
}

type Value = Uint8Array | bigint;

/** The fields of an encoded message, by number. */
function fields(encoded: Uint8Array): Map<number, Value[]> {
  const reader = new BinaryReader(encoded);
  const found = new Map<number, Value[]>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (type === WireType.LengthDelimited || type === WireType.Varint) {
      const value = type === WireType.Varint ? BigInt(reader.int64()) : reader.bytes();
      found.set(number, [...(found.get(number) ?? []), value]);
    } else {
      reader.skip(type, number);
    }
  }
  return found;
}

function bytes(value: Value | undefined): Uint8Array {
  return value instanceof Uint8Array ? value : new Uint8Array();
}

function string(value: Value | undefined): string {
  return new TextDecoder().decode(bytes(value));
}
