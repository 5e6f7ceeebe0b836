/**
 * Asks an explanation server for predictions with their reasons.
 *
 * <pre>{@code
 * try (Client client = Client.connect("127.0.0.1:50051")) {
 *   Result result = client.explain(Request.of("sentiment").input("tokens", "not a bad film"));
 * }
 * }</pre>
 */
package lstmexplain;
