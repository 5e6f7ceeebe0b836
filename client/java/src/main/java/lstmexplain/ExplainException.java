// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.Serializable;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;

/**
 * The error of a failed call: this class, or a subclass for errors that callers may want to handle
 * separately.
 *
 * <pre>
 * ExplainException
 *   InvalidRequest        something in the request is wrong; field() says what
 *     TooLarge            a message is larger than one side allows
 *   ModelNotFound         there is no such model or version
 *   AlreadyExists         the version that was to be imported is there
 *   NotExplainable        the method cannot pass through the model; node() and op() say where
 *   Overloaded            the server has too much to do; retryAfter() may say when to come back
 *   Unauthenticated       who is calling is not known
 *   PermissionDenied      who is calling may not do this
 *   DeadlineExceeded      the answer did not come in time
 *   Cancelled             the call was cancelled, or its thread interrupted
 *   Unavailable           the server cannot be reached, after every retry
 *   Unimplemented         the server does not know the call, or has it turned off
 *   ServerFault           something went wrong inside the server
 *   MalformedResponse     the answer came and cannot be read
 * </pre>
 */
public class ExplainException extends RuntimeException {
  private final Code code;
  private final Facts facts;

  /** The details of an error besides its message. */
  private record Facts(String field, String node, String op, Duration retryAfter)
      implements Serializable {
    static final Facts NONE = new Facts("", "", "", null);
  }

  private ExplainException(Code code, String message, Facts facts, Throwable cause) {
    super(message, cause);
    this.code = code;
    this.facts = facts;
  }

  /** The gRPC status. */
  public Code code() {
    return code;
  }

  /** The path of the invalid field of the request, such as {@code inputs[0].shape}, or empty. */
  public String field() {
    return facts.field;
  }

  /** The unsupported node, if that is the reason for the failure, or empty. */
  public String node() {
    return facts.node;
  }

  /** The operator of {@link #node()}, or empty. */
  public String op() {
    return facts.op;
  }

  /** The time after which an overloaded server asks for a retry. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(facts.retryAfter);
  }

  /** The request is invalid; {@code field()} names the field. */
  public static class InvalidRequest extends ExplainException {
    InvalidRequest(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** A message is larger than the client or the server allows. */
  public static final class TooLarge extends InvalidRequest {
    TooLarge(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The model or the version does not exist. */
  public static final class ModelNotFound extends ExplainException {
    ModelNotFound(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The imported version already exists. */
  public static final class AlreadyExists extends ExplainException {
    AlreadyExists(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The method does not support the model, or the model failed to load. */
  public static final class NotExplainable extends ExplainException {
    NotExplainable(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The server is overloaded. */
  public static final class Overloaded extends ExplainException {
    Overloaded(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The caller is not authenticated. */
  public static final class Unauthenticated extends ExplainException {
    Unauthenticated(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The caller lacks the permission for this call. */
  public static final class PermissionDenied extends ExplainException {
    PermissionDenied(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The answer did not arrive in time. */
  public static final class DeadlineExceeded extends ExplainException {
    DeadlineExceeded(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The call was cancelled, or its thread interrupted. */
  public static final class Cancelled extends ExplainException {
    Cancelled(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The server could not be reached, even with retries. */
  public static final class Unavailable extends ExplainException {
    Unavailable(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The server does not know the call, or the call is turned off. */
  public static final class Unimplemented extends ExplainException {
    Unimplemented(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** An internal error of the server. */
  public static final class ServerFault extends ExplainException {
    ServerFault(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  /** The answer cannot be read. */
  public static final class MalformedResponse extends ExplainException {
    MalformedResponse(Code code, String message, Facts facts, Throwable cause) {
      super(code, message, facts, cause);
    }
  }

  @FunctionalInterface
  private interface Maker {
    ExplainException make(Code code, String message, Facts facts, Throwable cause);
  }

  private static final Map<Code, Maker> KINDS =
      Map.ofEntries(
          Map.entry(Code.INVALID_ARGUMENT, InvalidRequest::new),
          Map.entry(Code.OUT_OF_RANGE, InvalidRequest::new),
          Map.entry(Code.NOT_FOUND, ModelNotFound::new),
          Map.entry(Code.ALREADY_EXISTS, AlreadyExists::new),
          Map.entry(Code.FAILED_PRECONDITION, NotExplainable::new),
          Map.entry(Code.RESOURCE_EXHAUSTED, Overloaded::new),
          Map.entry(Code.UNAUTHENTICATED, Unauthenticated::new),
          Map.entry(Code.PERMISSION_DENIED, PermissionDenied::new),
          Map.entry(Code.DEADLINE_EXCEEDED, DeadlineExceeded::new),
          Map.entry(Code.CANCELLED, Cancelled::new),
          Map.entry(Code.UNAVAILABLE, Unavailable::new),
          Map.entry(Code.UNIMPLEMENTED, Unimplemented::new),
          Map.entry(Code.INTERNAL, ServerFault::new),
          Map.entry(Code.UNKNOWN, ServerFault::new),
          Map.entry(Code.ABORTED, ServerFault::new),
          Map.entry(Code.DATA_LOSS, MalformedResponse::new));

  /** Makes the exception for an item of a stream. */
  static ExplainException of(Code code, String message, String field) {
    return of(code, message, new Facts(field, "", "", null), null);
  }

  /** Makes the exception for a call that ended with this status. */
  static ExplainException of(StatusRuntimeException failed) {
    Status status = failed.getStatus();
    return of(status.getCode(), said(status), facts(status, failed.getTrailers()), failed);
  }

  /**
   * The description of the status. Of a connection that failed, gRPC says "io exception"; the cause
   * names the address.
   */
  private static String said(Status status) {
    String said =
        status.getDescription() == null ? status.getCode().name() : status.getDescription();
    Throwable cause = status.getCause();
    boolean silent = cause == null || cause.getMessage() == null || said.contains(cause.getMessage());
    return silent || status.getCode() != Code.UNAVAILABLE ? said : said + ": " + cause.getMessage();
  }

  /** Makes the exception for an interrupted wait; the thread stays interrupted. */
  static ExplainException of(InterruptedException interrupted) {
    Thread.currentThread().interrupt();
    return of(Code.CANCELLED, "the thread was interrupted", Facts.NONE, interrupted);
  }

  static ExplainException malformed(String message, Throwable cause) {
    return new MalformedResponse(Code.DATA_LOSS, message, Facts.NONE, cause);
  }

  private static ExplainException of(Code code, String message, Facts facts, Throwable cause) {
    // gRPC uses the same code for an overload and for a message above a limit; only the message
    // text differs.
    if (code == Code.RESOURCE_EXHAUSTED
        && message.matches("(?is).*(larger than max|exceeds maximum size|message too large).*")) {
      return new TooLarge(code, message, facts, cause);
    }
    return KINDS.getOrDefault(code, ExplainException::new).make(code, message, facts, cause);
  }

  private static Facts facts(Status status, Metadata trailers) {
    Facts out = Facts.NONE;
    if (trailers == null) {
      return out;
    }
    for (Any detail : StatusProto.fromStatusAndTrailers(status, trailers).getDetailsList()) {
      try {
        if (detail.is(BadRequest.class)) {
          BadRequest wrong = detail.unpack(BadRequest.class);
          String field =
              wrong.getFieldViolationsCount() > 0 ? wrong.getFieldViolations(0).getField() : "";
          out = new Facts(field, out.node, out.op, out.retryAfter);
        } else if (detail.is(ErrorInfo.class)) {
          Map<String, String> about = detail.unpack(ErrorInfo.class).getMetadataMap();
          String node = about.getOrDefault("node", "");
          out = new Facts(out.field, node, about.getOrDefault("op", ""), out.retryAfter);
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          Duration after = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
          out = new Facts(out.field, out.node, out.op, after);
        }
      } catch (InvalidProtocolBufferException unreadable) {
        continue; // the status says enough
      }
    }
    return out;
  }
}
