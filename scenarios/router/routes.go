package router

import (
	"fmt"
	"strconv"

	"github.com/assay-bench/assay/scenarios/backends"
)

// Intent is a kind of request that belongs to one upstream.
type Intent struct {
	Name     string
	Examples []string // that a router is told
	Unseen   []string // that it is not told, of the same kind
}

// Intents are far enough from each other that a router which learns from examples can tell them apart. The
// order is that of the upstreams openai-1, openai-2 and so on.
func Intents() []Intent {
	return []Intent{
		{
			Name: "invoices",
			Examples: []string{
				"send me a copy of my invoice", "why was I charged twice this month", "I need a refund for my last payment",
				"change the credit card on my account", "when is my next bill due", "the amount on this invoice is wrong",
				"download all receipts of last year", "update my billing address", "cancel my subscription and refund me",
				"my payment was declined by the bank",
			},
			Unseen: []string{
				"please refund the charge on my credit card", "where can I download the invoice of this month",
				"my bill shows a payment that I did not make", "update the billing address on my invoices",
			},
		},
		{
			Name: "weather",
			Examples: []string{
				"will it rain tomorrow", "what is the weather like in Lisbon", "how cold will it be tonight",
				"is there a storm warning for the coast", "give me the forecast for the weekend", "how strong is the wind today",
				"will there be snow in the mountains", "what is the humidity right now", "do I need an umbrella this afternoon",
				"what temperature is it outside",
			},
			Unseen: []string{
				"is it going to rain this weekend", "weather forecast for tomorrow afternoon",
				"how cold is it outside tonight", "will there be a storm with strong wind",
			},
		},
		{
			Name: "programming",
			Examples: []string{
				"write a function that reverses a string", "why does this code throw a null pointer exception",
				"explain what this regular expression matches", "refactor this class into smaller functions",
				"how do I sort a slice of structs in Go", "fix the syntax error in my Python script",
				"write a unit test for this method", "what does a compiler do with an inline function",
				"convert this loop to a recursive function", "how do I read a file line by line in C",
			},
			Unseen: []string{
				"write a Python function that sorts a list", "fix the null pointer exception in this code",
				"write a unit test for this Go function", "explain this recursive function in C",
			},
		},
	}
}

// Upstream is what a router is told of an upstream of the harness.
type Upstream struct {
	Name     string   `json:"name"`
	URL      string   `json:"url"`   // the base of the OpenAI API, such as http://127.0.0.1:9001/v1
	Model    string   `json:"model"` // that it serves
	Examples []string `json:"examples"`
}

// Routing is what a router is told to do: the file {upstreams} of the hook configure.
type Routing struct {
	Model     string     `json:"model"`    // that stands for the router's choice
	Fallback  string     `json:"fallback"` // the upstream for what belongs nowhere
	Upstreams []Upstream `json:"upstreams"`
}

// NewRouting tells of the upstreams at addresses, in their order, each with the examples of one intent.
// There may be as many as there are intents.
func NewRouting(model string, addrs []string) (Routing, error) {
	intents := Intents()
	if len(addrs) == 0 || len(addrs) > len(intents) {
		return Routing{}, fmt.Errorf("%d upstreams: there are intents for 1 to %d", len(addrs), len(intents))
	}
	r := Routing{Model: model}
	for i, addr := range addrs {
		name := backends.OpenAIPrefix + strconv.Itoa(i+1)
		r.Upstreams = append(r.Upstreams, Upstream{
			Name: name, URL: "http://" + addr + "/v1", Model: backends.OpenAIModel(name), Examples: intents[i].Examples,
		})
	}
	r.Fallback = r.Upstreams[0].Name
	return r, nil
}
