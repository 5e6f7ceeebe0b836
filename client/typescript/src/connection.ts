/** How a connection is opened: security, limits, retries. */

import { readFileSync } from "node:fs";

import { type ChannelCredentials, type ClientOptions, credentials } from "@grpc/grpc-js";

import serviceConfig from "./generated/lstm_explain/v1/service_config.js";

/** An encrypted connection. Each part is PEM: bytes, or the path of a file. */
export interface Tls {
  /** Who may have signed the server's certificate; default: the authorities that Node trusts. */
  rootCertificates?: Uint8Array | string;
  /** The client's own, for mutual TLS. */
  certificate?: Uint8Array | string;
  key?: Uint8Array | string;
  /** The name expected in the server's certificate, if it is not the host of the address. */
  serverName?: string;
}

/** A bearer token, or what is asked for one before every call. */
export type Token = string | (() => string | Promise<string>);

/** How a client connects. */
export interface ConnectOptions {
  /** False (the default) for plain text, true for TLS with the authorities that Node trusts. */
  tls?: Tls | boolean;
  token?: Token;
  /** Allow a token over an unencrypted connection that leaves this machine. */
  plaintextToken?: boolean;
  /** Send calls that change nothing again, as the published service config says; default true. */
  retry?: boolean;
  /** Limit for one message, either way; default 64 MiB. */
  maxMessageBytes?: number;
  /** Milliseconds for a call that sets none of its own; default 60,000. Streams and imports have no default. */
  timeoutMs?: number;
  /** Further channel options of grpc-js; they win. */
  channelOptions?: ClientOptions;
}

const LOOPBACK = /^(127(\.\d{1,3}){3}:\d+$|localhost:\d+$|\[::1\]:\d+$|unix:)/;

/** Throws where a token would go over the net in the open. */
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
    // Of a larger request there would be no copy to send again.
    ...(retry ? { "grpc.service_config": JSON.stringify(serviceConfig), "grpc.per_rpc_retry_buffer_size": maxMessageBytes } : {}),
    ...(name ? { "grpc.ssl_target_name_override": name } : {}),
    ...options.channelOptions,
  };
}

function pem(value: Uint8Array | string | undefined): Buffer | null {
  return value === undefined ? null : typeof value === "string" ? readFileSync(value) : Buffer.from(value);
}
