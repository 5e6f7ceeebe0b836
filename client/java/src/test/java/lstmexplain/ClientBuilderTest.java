// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonParser;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ClientBuilderTest {
  @ParameterizedTest
  @ValueSource(
      strings = {"explain.example:443", "localhost.example:1", "127.0.0.1.example:1", "10.0.0.1:1"})
  void aTokenIsNotSentInTheOpen(String address) {
    ClientBuilder builder = Client.builder(address).token("t");
    assertThrows(IllegalStateException.class, builder::build);
    builder.plaintextToken().build().close();
    Client.builder(address).token("t").tls().build().close();
  }

  @ParameterizedTest
  @ValueSource(strings = {"127.0.0.1:1", "[::1]:1", "localhost:1"})
  void onThisMachineATokenIsSafe(String address) {
    Client.builder(address).token("t").build().close();
  }

  @Test
  void whereNothingListensAddressAndCauseAreTold() throws Exception {
    int port;
    try (var free = new java.net.ServerSocket(0)) {
      port = free.getLocalPort();
    }
    try (Client client = Client.connect("127.0.0.1:" + port)) {
      var error = assertThrows(ExplainException.Unavailable.class, client::models);
      assertTrue(error.getMessage().contains("127.0.0.1:" + port), error.getMessage());
      assertTrue(error.getMessage().contains("Connection refused"), error.getMessage());
    }
  }

  @Test
  void retriesAreThePublishedOnes() throws Exception {
    Path published = Path.of("../../proto/lstm_explain/v1/service_config.json");
    assertEquals(
        JsonParser.parseString(Files.readString(published)),
        new com.google.gson.Gson().toJsonTree(ClientBuilder.serviceConfig()));
  }

  @Test
  void aKeyThatCannotBeReadIsTold() {
    Path none = Path.of("no/such.pem");
    assertThrows(java.io.IOException.class, () -> Client.builder("h:1").authority(none));
    assertThrows(java.io.IOException.class, () -> Client.builder("h:1").identity(none, none));
  }
}
