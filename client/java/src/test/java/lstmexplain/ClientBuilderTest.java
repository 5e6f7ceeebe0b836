package lstmexplain;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

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
