// SPDX-License-Identifier: Apache-2.0

/** Explains a sentence with the model sentiment: npm run example -- [ADDRESS] [SENTENCE] */

import { Client, numbers } from "../src/index.js";

const [address = "127.0.0.1:50051", sentence = "neither funny nor suspenseful nor particularly well-drawn"] = process.argv.slice(2);

const client = new Client(address);
try {
  const result = await client.explain({
    model: "sentiment",
    inputs: { tokens: sentence },
  });
  const { tokens, relevance } = { tokens: result.tokens["tokens"]!, relevance: numbers(result.relevance["tokens"]!) };
  const signed = (value: number, digits = 3) => `${value < 0 ? "" : "+"}${value.toFixed(digits)}`;
  relevance.forEach((value, i) => console.log(`${signed(value).padStart(8)}  ${tokens.data[i]}`));
  const { inputs, absorbed, residual } = result.ledger;
  console.log(
    `class ${result.target?.indices}: ${result.explained[0]!.toFixed(3)} explained = ${inputs[0]!.toFixed(3)} words ` +
      `${signed(absorbed[0]!)} absorbed ${signed(residual[0]!, 6)} rounding`,
  );
} finally {
  client.close();
}
