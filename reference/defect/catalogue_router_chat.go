package defect

// The planted defects of the router's chat face, of its large tables and of its second engine.
const (
	RouterSentTwice       Name = "router.sent-twice"
	RouterCompletionBare  Name = "router.completion-bare"
	RouterModelsBare      Name = "router.models-bare"
	RouterAutoUnlisted    Name = "router.auto-unlisted"
	RouterChoiceWanders   Name = "router.choice-wanders"
	RouterCutAsDone       Name = "router.cut-as-done"
	RouterAnswersCrossed  Name = "router.answers-crossed"
	RouterDecidesFirst    Name = "router.decides-first"
	RouterCosinesInverted Name = "router.cosines-inverted"
	RouterFeedbackUnbound Name = "router.feedback-unbounded"
	RouterONNXAbsent      Name = "router.onnx-absent"
	RouterEngineReversed  Name = "router.engine-reversed"
)

var catalogueRouterChat = []Entry{
	{RouterSentTwice, "a chat completion is sent to its backend twice, and the second answer is passed on"},
	{RouterCompletionBare, "a chat completion's object is called completion"},
	{RouterModelsBare, "the models of the list have no owned_by"},
	{RouterAutoUnlisted, "the list of models leaves out auto"},
	{RouterChoiceWanders, "requests for auto go round the backends"},
	{RouterCutAsDone, "a stream that broke off is ended with [DONE]"},
	{RouterAnswersCrossed, "of chat completions at once some get the answer of another one"},
	{RouterDecidesFirst, "in a table of more than ten policies the first one always wins"},
	{RouterCosinesInverted, "a decision reports one minus its greatest cosine"},
	{RouterFeedbackUnbound, "feedback is neither clipped nor capped"},
	{RouterONNXAbsent, "the engine onnxruntime is refused where it is claimed"},
	{RouterEngineReversed, "onnxruntime's vectors have their values in reverse order"},
}
