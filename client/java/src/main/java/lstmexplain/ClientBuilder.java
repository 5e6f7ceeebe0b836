// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.grpc.CallCredentials;
import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Executor;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.regex.Pattern;

/** How a {@link Client} connects: {@code Client.builder("host:443").tls().token("…").build()}. */
public final class ClientBuilder {
  /** The default limit for one message in either direction; {@link #maxMessageBytes} changes it. */
  public static final int DEFAULT_MAX_MESSAGE_BYTES = 64 << 20;

  /**
   * The default time limit of a call, including retries; the call or {@link #timeout} changes it.
   */
  public static final Duration DEFAULT_TIMEOUT = Duration.ofMinutes(1);

  private static final Pattern LOOPBACK =
      Pattern.compile("unix:.*|(localhost|127(\\.\\d{1,3}){3}|\\[::1]):\\d+");

  private final String address;
  private TlsChannelCredentials.Builder tls;
  private ChannelCredentials credentials;
  private Supplier<String> token;
  private boolean plaintextToken;
  private boolean retries = true;
  private int maxMessageBytes = DEFAULT_MAX_MESSAGE_BYTES;
  private Duration timeout = DEFAULT_TIMEOUT;
  private Consumer<ManagedChannelBuilder<?>> more = channel -> {};

  ClientBuilder(String address) {
    this.address = Objects.requireNonNull(address, "address");
  }

  /** Encrypts the connection and trusts the authorities that Java trusts. */
  public ClientBuilder tls() {
    tls = tls == null ? TlsChannelCredentials.newBuilder() : tls;
    return this;
  }

  /**
   * Encrypts the connection and trusts this authority.
   *
   * @param pem its certificate
   */
  public ClientBuilder authority(Path pem) throws IOException {
    tls().tls.trustManager(pem.toFile());
    return this;
  }

  /**
   * Encrypts the connection and authenticates the client by a certificate (mutual TLS).
   *
   * @param certificate the client's own chain, PEM
   * @param key its private key, PEM in the form PKCS #8
   */
  public ClientBuilder identity(Path certificate, Path key) throws IOException {
    tls().tls.keyManager(certificate.toFile(), key.toFile());
    return this;
  }

  /** Connects with these credentials, instead of those from {@code tls}, authority and identity. */
  public ClientBuilder credentials(ChannelCredentials chosen) {
    credentials = chosen;
    return this;
  }

  /** Sends a bearer token with every call. */
  public ClientBuilder token(String fixed) {
    Objects.requireNonNull(fixed, "token");
    return token(() -> fixed);
  }

  /** Calls the supplier for the bearer token of every call. The supplier may block. */
  public ClientBuilder token(Supplier<String> source) {
    token = source;
    return this;
  }

  /** Allows a token over an unencrypted connection that leaves this machine. */
  public ClientBuilder plaintextToken() {
    plaintextToken = true;
    return this;
  }

  /**
   * Whether to retry read-only calls as the published service config specifies. Default: true.
   */
  public ClientBuilder retries(boolean chosen) {
    retries = chosen;
    return this;
  }

  /** Limits the size of one message in either direction. */
  public ClientBuilder maxMessageBytes(int limit) {
    maxMessageBytes = limit;
    return this;
  }

  /**
   * The time limit of calls without a limit of their own, including retries; null means no limit.
   * It does not apply to streams and imports.
   */
  public ClientBuilder timeout(Duration limit) {
    timeout = limit;
    return this;
  }

  /** Sets gRPC options, which take precedence. */
  public ClientBuilder channel(Consumer<ManagedChannelBuilder<?>> options) {
    more = more.andThen(options);
    return this;
  }

  /**
   * Creates the client. The client sends nothing before the first call.
   *
   * @throws IllegalStateException if a token would leave this machine unencrypted
   */
  public Client build() {
    boolean open = tls == null && credentials == null;
    if (token != null && open && !plaintextToken && !LOOPBACK.matcher(address).matches()) {
      throw new IllegalStateException(
          "a token over an unencrypted connection can be read by others: use tls(), or"
              + " plaintextToken()");
    }
    ChannelCredentials chosen =
        credentials != null
            ? credentials
            : open ? InsecureChannelCredentials.create() : tls.build();
    ManagedChannelBuilder<?> channel =
        Grpc.newChannelBuilder(address, chosen)
            .maxInboundMessageSize(maxMessageBytes)
            // gRPC keeps no copy of a larger request to retry.
            .perRpcBufferLimit(maxMessageBytes)
            .retryBufferSize(4L * maxMessageBytes);
    if (retries) {
      channel.enableRetry().defaultServiceConfig(serviceConfig());
    } else {
      channel.disableRetry();
    }
    more.accept(channel);
    CallOptions options = CallOptions.DEFAULT.withMaxOutboundMessageSize(maxMessageBytes);
    if (token != null) {
      options = options.withCallCredentials(new Bearer(token));
    }
    return new Client(channel.build(), options, timeout);
  }

  /** The retry policy that is published with the protos for all clients. */
  static Map<String, ?> serviceConfig() {
    try (InputStream file = ClientBuilder.class.getResourceAsStream("service_config.json")) {
      return new Gson()
          .fromJson(
              new InputStreamReader(file, UTF_8),
              new TypeToken<Map<String, Object>>() {}.getType());
    } catch (IOException broken) {
      throw new UncheckedIOException(broken);
    }
  }

  private static final class Bearer extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private final Supplier<String> token;

    Bearer(Supplier<String> token) {
      this.token = token;
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
      executor.execute(
          () -> {
            try {
              Metadata headers = new Metadata();
              headers.put(AUTHORIZATION, "Bearer " + token.get());
              applier.apply(headers);
            } catch (RuntimeException failed) {
              applier.fail(
                  Status.UNAUTHENTICATED
                      .withDescription("there is no token: " + failed)
                      .withCause(failed));
            }
          });
    }
  }
}
