// SPDX-License-Identifier: Apache-2.0

/**
 * Requests predictions and their explanations from an explanation server.
 *
 * <pre>{@code
 * try (Client client = Client.connect("127.0.0.1:50051")) {
 *   Result result = client.explain(Request.of("sentiment").input("tokens", "not a bad film"));
 * }
 * }</pre>
 */
package lstmexplain;
