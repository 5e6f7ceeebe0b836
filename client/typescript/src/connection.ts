// SPDX-License-Identifier: Apache-2.0

/** How a connection is opened: security, limits, retries. */

import { readFileSync } from "node:fs";

import { type ChannelCredentials, type ClientOptions, credentials } from "@grpc/grpc-js";

import serviceConfig from "./generated/lstm_explain/v1/service_config.js";

/** Settings of an encrypted connection. Each part is PEM, as bytes or as the path of a file. */
export interface Tls {
  /** The authorities that may sign the server's certificate. Default: those that Node trusts. */
  rootCertificates?: Uint8Array | string;
  /** The certificate and key of the client, for mutual TLS. */
  certificate?: Uint8Array | string;
  key?: Uint8Array | string;
  /** The name expected in the server's certificate, if it is not the host of the address. */
  serverName?: string;
}

/** A bearer token, or a function that returns one before every call. */
export type Token = string | (() => string | Promise<string>);

/** How a client connects. */
export interface ConnectOptions {
  /** False (the default) for plain text, true for TLS with the authorities that Node trusts. */
  tls?: Tls | boolean;
  token?: Token;
  /** Allow a token over an unencrypted connection that leaves this machine. */
  plaintextToken?: boolean;
  /** Whether to retry read-only calls as the published service config specifies. Default: true. */
  retry?: boolean;
  /** Size limit for one message in either direction; default 64 MiB. */
  maxMessageBytes?: number;
  /**
   * Time limit in milliseconds of calls without a limit of their own. Default: 60,000. Streams and imports have no
   * default limit.
   */
  timeoutMs?: number;
  /** Additional channel options of grpc-js, which take precedence. */
  channelOptions?: ClientOptions;
}

const LOOPBACK = /^(127(\.\d{1,3}){3}:\d+$|localhost:\d+$|\[::1\]:\d+$|unix:)/;

/** Throws if a token would be sent unencrypted over the network. */
export function channelCredentials(address: string, options: ConnectOptions): ChannelCredentials {
  const { tls = false, token, plaintextToken } = options;
  if (token !== undefined && !tls && !plaintextToken && !LOOPBACK.test(address)) {
    throw new TypeError("a token over an unencrypted connection can be read by others: set tls, or plaintextToken");
  }
  if (!tls) {
    return credentials.createInsecure();
  }
  const { rootCertificates, certificate, key }: Tls = tls === true ? {} : tls;
  return credentials.createSsl(pem(rootCertificates), pem(key), pem(certificate));
}

export function clientOptions(options: ConnectOptions): ClientOptions {
  const { tls, retry = true, maxMessageBytes = 64 << 20 } = options;
  const name = typeof tls === "object" ? tls.serverName : undefined;
  return {
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": maxMessageBytes,
    "grpc.enable_retries": retry ? 1 : 0,
    // gRPC keeps no copy of a larger request to retry.
    ...(retry ? { "grpc.service_config": JSON.stringify(serviceConfig), "grpc.per_rpc_retry_buffer_size": maxMessageBytes } : {}),
    ...(name ? { "grpc.ssl_target_name_override": name } : {}),
    ...options.channelOptions,
  };
}

function pem(value: Uint8Array | string | undefined): Buffer | null {
  return value === undefined ? null : typeof value === "string" ? readFileSync(value) : Buffer.from(value);
}
