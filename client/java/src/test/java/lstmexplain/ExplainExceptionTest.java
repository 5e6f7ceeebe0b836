// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;

import com.google.protobuf.Any;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class ExplainExceptionTest {
  @ParameterizedTest
  @EnumSource(value = Code.class, mode = EnumSource.Mode.EXCLUDE, names = "OK")
  void everyStatusHasItsClass(Code code) {
    ExplainException error = ExplainException.of(code, "so", "inputs[0]");
    assertNotEquals(ExplainException.class, error.getClass());
    assertEquals(code, error.code());
    assertEquals("inputs[0]", error.field());
  }

  @Test
  void detailsAreRead() {
    var wrong = BadRequest.FieldViolation.newBuilder().setField("inputs[0].shape");
    var delay = com.google.protobuf.Duration.newBuilder().setSeconds(1).setNanos(500_000_000);
    Status status =
        Status.newBuilder()
            .setCode(Code.INVALID_ARGUMENT.value())
            .setMessage("no")
            .addDetails(Any.pack(BadRequest.newBuilder().addFieldViolations(wrong).build()))
            .addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()))
            .addDetails(
                Any.pack(
                    ErrorInfo.newBuilder()
                        .putMetadata("node", "n")
                        .putMetadata("op", "Det")
                        .build()))
            .addDetails(Any.newBuilder().setTypeUrl("t/google.rpc.BadRequest").setValue(BROKEN))
            .addDetails(Any.newBuilder().setTypeUrl("t/of.another.kind"))
            .build();
    StatusRuntimeException reported = StatusProto.toStatusRuntimeException(status);
    ExplainException error = ExplainException.of(reported);
    assertEquals(ExplainException.InvalidRequest.class, error.getClass());
    assertEquals("no", error.getMessage());
    assertEquals("inputs[0].shape", error.field());
    assertEquals("n", error.node());
    assertEquals("Det", error.op());
    assertEquals(Optional.of(Duration.ofMillis(1500)), error.retryAfter());
    assertSame(reported, error.getCause());
  }

  private static final com.google.protobuf.ByteString BROKEN =
      com.google.protobuf.ByteString.copyFrom(new byte[] {10, 99});

  /** As the server and this gRPC word it. */
  @ParameterizedTest
  @ValueSource(
      strings = {
        "SERVER: Received message larger than max (5 vs. 4)",
        "gRPC message exceeds maximum size 4: 5",
        "message too large 5 > 4"
      })
  void aLargeMessageIsNoOverload(String message) {
    assertEquals(
        ExplainException.TooLarge.class,
        ExplainException.of(Code.RESOURCE_EXHAUSTED, message, "").getClass());
  }
}
