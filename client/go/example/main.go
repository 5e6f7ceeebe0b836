// SPDX-License-Identifier: Apache-2.0

// Explains a sentence with the model sentiment: go run ./example [ADDRESS] [SENTENCE]
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	lstmexplain "github.com/lstm-explain/lstm-explain/client/go"
)

func main() {
	address, sentence := "127.0.0.1:50051", "neither funny nor suspenseful nor particularly well-drawn"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	if len(os.Args) > 2 {
		sentence = os.Args[2]
	}
	client, err := lstmexplain.Connect(address)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	result, err := client.Explain(ctx, lstmexplain.Request{
		Model:  "sentiment",
		Inputs: lstmexplain.Inputs{"tokens": lstmexplain.Text(sentence)},
	})
	if err != nil {
		log.Fatal(err)
	}
	words, relevance := lstmexplain.Of[string](result.Tokens["tokens"]), result.Relevance["tokens"].Floats()
	for i, word := range words {
		fmt.Printf("%+8.3f  %s\n", relevance[i], word)
	}
	ledger := result.Ledger
	fmt.Printf("class %d: %.3f explained = %.3f words %+.3f absorbed %+.1e rounding\n", result.Target.Indices[0],
		result.Explained[0], ledger.Inputs[0], ledger.Absorbed[0], ledger.Residual[0])
}
